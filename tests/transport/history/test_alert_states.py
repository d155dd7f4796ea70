"""What the rules remember of one stream, in both databases."""

from collections.abc import Iterator

import pytest

from vqmon.core.alerts.conditions.regression import RegressionState
from vqmon.core.alerts.state import AlertState, PairSeries, RenditionSeries, RepeatBlock
from vqmon.transport.history.backends.location import HistoryLocation
from vqmon.transport.history.history import History, open_history
from vqmon.transport.wire.alert_states.states import state_key

STREAMS = ("sports one", "sports_one", "SPORTS ONE", "sports%", "sports", "a!b", "a|sports", "sports/hd")


@pytest.fixture
def history(history_location: HistoryLocation) -> Iterator[History]:
    with open_history(history_location, "write") as history:
        yield history


def test_states_are_those_of_the_stream_alone(history: History) -> None:
    """Signs that mean something to a database, other cases and longer names find nothing that is not their own."""
    states = [
        RegressionState(
            rule=rule, series=RenditionSeries(rendition_key=f"{stream}/1080p", subject="lite"), basis="lite@1"
        )
        for stream in STREAMS
        for rule in ("regression", "a%b")
    ]
    history.publish([], states={state.key: state for state in states})
    for stream in STREAMS:
        states_by_key = history.queries.states_of_stream(stream)
        series = {str(state.series) for state in states_by_key.values() if isinstance(state, AlertState)}
        assert series >= {f"{stream}/1080p/lite"}
        assert all(f"|{stream}/" in state_key(key) for key in states_by_key), stream
    assert len(history.queries.states_of_stream("sports one")) == 2
    assert history.queries.states_of_stream("sport") == {}


def test_states_are_those_of_the_rule_alone(history: History) -> None:
    """Without the content that may return, which has a key of its own."""
    pair = PairSeries(rendition_key="a/1080p", scorer="lite", against="repeats")
    rules = ("again", "Again", "again%", "agai_", "x|again")
    states = [RegressionState(rule=rule, series=pair, basis="lite@1 against repeats") for rule in rules]
    block = RepeatBlock(rule="again", series=pair, number=0, basis="lite@1 against repeats", entries="AAEC")
    history.publish([], states={state.key: state for state in states} | {block.key: block})
    for rule in ("again", "Again", "again%", "agai_"):
        assert [state.key.rule for state in history.queries.states_of_rule(rule)] == [rule]
    assert block.key in history.queries.states()
    assert block.key not in history.queries.states_of_stream("a")
