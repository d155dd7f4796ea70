"""The stored form of states: documents that earlier versions wrote are read, and written again byte for byte."""

import json
from pathlib import Path

import pytest

from tests import factories
from tests.core.alerts.regression.noise import ar1, run
from vqmon.core.alerts.annotations import DeployMarker
from vqmon.core.alerts.conditions.floor import FloorBaseline, FloorState
from vqmon.core.alerts.conditions.group import GroupState
from vqmon.core.alerts.conditions.missing import MissingState
from vqmon.core.alerts.conditions.regression import ChartState, RegressionState
from vqmon.core.alerts.regression.chart_status import chart_status
from vqmon.core.alerts.regression.control_chart import EMPTY_CHART
from vqmon.core.alerts.state import (
    AlertKey,
    AlertProgress,
    GroupMembers,
    GroupSeries,
    GroupValues,
    LadderRendition,
    MutedAlert,
    PairSeries,
    RenditionSeries,
    RenditionTimeline,
    RepeatBlock,
    State,
)
from vqmon.errors import WireError
from vqmon.transport.wire.alert_states.states import StoredAlertState, pack_state, state_key, unpack_state
from vqmon.transport.wire.cloudevents import encode_state, parse_state

RECORDED = [
    tuple(line.split("\t", 1))
    for line in (Path(__file__).parent / "alert_states.jsonl").read_text().splitlines()
]  # fmt: skip
"""Key as JSON, and document, of states of every kind, as version 0.1 stored them."""

LITE = RenditionSeries(rendition_key="news-1/1080p", subject="lite")
PAIR = PairSeries(rendition_key="news-1/1080p", scorer="lite", against="ladder")
REPEATS = PairSeries(rendition_key="a/b/c", scorer="lite", against="repeats")
GROUP = GroupSeries(group="encoder=a", scorer="lite")


@pytest.mark.parametrize(("key", "document"), RECORDED, ids=[key for key, _ in RECORDED])
def test_recorded_documents_are_read_and_written_again_byte_for_byte(key: str, document: str) -> None:
    """Except the numbers of control charts, which are others now, see below; groups keep theirs elsewhere."""
    state = parse_state(document)
    written = encode_state(state).decode()
    if isinstance(state, ChartState) and state.chart is not None:
        changed = {key: json.loads(document)[key] for key in ("memory", "recent")}
        written = json.dumps(json.loads(written) | changed, separators=(",", ":"))
        document = json.dumps(json.loads(document), separators=(",", ":"))
    # segments that wait have hashes of their pictures now, and timelines the ad breaks that were announced
    written = written.replace(',"passage":[]', "").replace(',"breaks":[]', "")
    assert written == document
    assert state_key(state.key) == json.loads(key)


def test_a_chart_without_changes_from_block_to_block_goes_on() -> None:
    """They are taken for those of independent blocks, so that the limits stay until the next block ends."""
    chart = run(EMPTY_CHART, ar1(3, 900, 0.5))[-1]
    state = RegressionState(rule="dip", series=LITE, basis="lite@1", chart=chart)
    document = json.loads(encode_state(state))
    row = len(chart.averages[0]) - 1 + len(chart.averages[0].lows)
    numbers, rows = document["memory"][: -4 * row], document["memory"][-4 * row :]
    for start in range(0, 4 * row, row):
        average = rows[start : start + row]
        numbers += average[:5] + average[7:]
    restored = parse_state(json.dumps(document | {"memory": [-2.0, *numbers[1:]]}))
    assert isinstance(restored, RegressionState)
    assert restored.chart is not None
    for average, stored in zip(restored.chart.averages, chart.averages, strict=True):
        assert average.lows[:4] == stored.lows[:4]
        assert average.lows[4:] == (stored.lows.mean, 2.0 * stored.lows.variance)
        assert average[2:] == stored[2:]


def test_recorded_charts_go_on_at_their_level_and_learn_their_limits_anew() -> None:
    """Charts of version 0.1 were CUSUMs; an open alert is still open, and resolves at the level it came from."""
    states = [parse_state(document) for _, document in RECORDED]
    charts = [(state, state.chart) for state in states if isinstance(state, ChartState) and state.chart is not None]
    learned = [(state, chart) for state, chart in charts if chart.baseline is not None]
    assert len(learned) >= 3
    assert any(state.alert for state, _ in learned)
    for state, chart in learned:
        assert chart.baseline is not None
        if state.alert and state.alert.change:
            assert chart.recovery.level == pytest.approx(state.alert.change.before, abs=0.5)
        status = chart_status(state)
        assert status is not None
        assert (status.is_trusted, status.visible_drops) == (False, ())
        assert parse_state(encode_state(state)) == state


@pytest.mark.parametrize(
    ("state", "key"),
    [
        (FloorState(rule="low", series=LITE), "low|news-1/1080p/lite"),
        (RegressionState(rule="pair", series=PAIR), "pair|news-1/1080p/lite~ladder"),
        (GroupState(rule="group", series=GROUP), "group|encoder=a/group/lite"),
        (GroupState(rule="group", series=GroupSeries(group="", scorer="lite")), "group|all/group/lite"),
        (GroupMembers(rule="group", group_series=GROUP), "&group|encoder=a/group/lite"),
        (
            RenditionTimeline(
                rendition_key="a/b/c", stream_id="a/b", ends_at=1.1, sequence=7, scored_until=1763668800.123457,
                scored_observed_at=0.1 + 0.2, fingerprint="00ff", observed_at=9.5, recent="--00",
            ),
            "|a/b/c",
        ),
        (LadderRendition(stream_id="a/b", rendition="c", first_at=1.0, ends_at=2.0, ladder_position=5000.0), "<a/b/c"),
        (
            GroupValues(rule="g", series=GROUP, starts_at=12.0, number=1, deviations=(("a/b", -0.5), ("a/c", 1.0))),
            "+g|encoder=a/group/lite|12.0|1",
        ),
        (RepeatBlock(rule="r", series=REPEATS, number=2, basis="lite@1", entries="AAEC"), "=r|a/b/c/lite~repeats|2"),
        (MutedAlert(alert=factories.alert(), since=1.5), "~low-score|news-1/1080p/lite@1"),
        (DeployMarker(id="m1", at=factories.START, name="encoder 7"), "!m1"),
        (MissingState(rule="lost", series=LITE, missing_since=(None, 1763668800.5, None)), "lost|news-1/1080p/lite"),
        (
            FloorState(
                rule="low", series=LITE, scorer="lite@1", baseline=FloorBaseline(count=1.0, mean=0.1),
                progress=AlertProgress(began_at=1.5, counted_from=0.1, bad_spans=3, seen_until=9.25),
            ),
            "low|news-1/1080p/lite",
        ),
        (
            GroupMembers(
                rule="group", group_series=GROUP,
                members=frozenset({AlertKey(rule="r", series=LITE), AlertKey(rule="r", series=PAIR)}),
            ),
            "&group|encoder=a/group/lite",
        ),
    ],
)  # fmt: skip
def test_every_state_comes_back_the_same_under_its_key(state: State, key: str) -> None:
    assert parse_state(encode_state(state)) == state
    assert state_key(state.key) == key


@pytest.mark.parametrize(
    ("series", "basis", "expected"),
    [
        ("a/b/1080p/lite", "lite@1", RenditionSeries(rendition_key="a/b/1080p", subject="lite")),
        ("a~b/c/lite", "lite@1 since e7", RenditionSeries(rendition_key="a~b/c", subject="lite")),
        ("a/x~y/lite", "lite@1", RenditionSeries(rendition_key="a/x~y", subject="lite")),
        ("a/b/lite~ladder", "lite@1 against c", PairSeries(rendition_key="a/b", scorer="lite", against="ladder")),
        ("a/b/lite~repeats", "lite@1 against repeats since e7", REPEATS._replace(rendition_key="a/b")),
        ("a/b/lite~label:x/y", "lite@1 against c", PairSeries(rendition_key="a/b", scorer="lite", against="label:x/y")),
        # no value has had a partner yet
        ("a/b/lite~ladder", "", PairSeries(rendition_key="a/b", scorer="lite", against="ladder")),
    ],
)
def test_series_of_charts_are_told_apart_by_their_basis(series: str, basis: str, expected: object) -> None:
    stored = StoredAlertState(rule="r", series=series, kind="regression", basis=basis)
    state = unpack_state(stored)
    assert isinstance(state, RegressionState)
    assert state.series == expected
    assert str(state.series) == series


def test_a_chart_without_values_is_not_a_chart_with_empty_sums() -> None:
    state = RegressionState(rule="r", series=LITE, basis="lite@1")
    assert pack_state(state).memory == ()
    packed = pack_state(RegressionState(rule="r", series=LITE, basis="lite@1", chart=EMPTY_CHART))
    assert len(packed.memory) == 18
    assert unpack_state(packed).chart == EMPTY_CHART


@pytest.mark.parametrize(
    "change",
    [{"kind": "florr"}, {"kind": "regression", "memory": [1.0, 2.0]}],
)
def test_a_document_whose_numbers_do_not_belong_to_its_kind_is_refused(change: dict[str, object]) -> None:
    document = {"rule": "r", "series": "a/b/lite", "kind": "floor", **change}
    with pytest.raises(WireError):
        parse_state(json.dumps(document))


def test_text_that_is_no_unicode_is_replaced() -> None:
    series = RenditionSeries(rendition_key="caf\udce9/1080p", subject="lite")
    state = parse_state(encode_state(FloorState(rule="r", series=series)))
    assert isinstance(state, FloorState)
    assert str(state.series) == "caf?/1080p/lite"
