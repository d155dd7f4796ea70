"""Renditions that have ended or were silent for long are forgotten: alerts resolve, and nothing of them is left."""

from datetime import timedelta
from typing import Any

import pytest

from tests import factories
from tests.factories import RENDITION, START
from vqmon.core.alerts.annotations import ALL_RENDITIONS, stream_end
from vqmon.core.alerts.judge import Judge
from vqmon.core.alerts.state import StateRetention
from vqmon.core.types import Outcome, Rendition
from vqmon.settings.rules_file import parse_rules
from vqmon.transport.wire import cloudevents

RULES = parse_rules(
    """
[rules.low]
kind = "floor"
severity = "page"
scorer = "lite"
below = 40
recover_above = 45
for_seconds = 8
[rules.drop]
kind = "regression"
severity = "ticket"
scorer = "lite"
block_seconds = 60
false_alarm_days = 0.1
[rules.pair]
kind = "regression"
severity = "ticket"
scorer = "lite"
against = "ladder"
block_seconds = 60
false_alarm_days = 0.1
""",
    origin="rules",
)
RETENTION = StateRetention(ended_seconds=600.0, silent_seconds=3600.0)


def outcome(stream_id: str, sequence: int, *, score: float = 70.0, at: float | None = None) -> Outcome:
    """A segment of 4 s; `at` is when it starts, in seconds."""
    rendition = Rendition(stream_id=stream_id, name="720p", height=720, bitrate_kbps=2500.0)
    at_seconds = 4.0 * sequence if at is None else at
    return factories.event(
        sequence=sequence, score=score, rendition=rendition, at_seconds=at_seconds, observed_after_seconds=0
    )


def keys_of(judge: Judge, stream_id: str) -> list[str]:
    return [str(key) for key in judge.states() if stream_id in str(key)]


def test_a_stream_that_has_ended_is_forgotten_after_its_time() -> None:
    """By the times of other outcomes, and with a deletion for each of its stored states."""
    judge = Judge(RULES, retention=RETENTION)
    for sequence in range(3):
        judge.judge(outcome("short", sequence))
    judge.end_stream(stream_end("short", ALL_RENDITIONS, START, announced_at=START))
    stored = {key for key, state in judge.drain_changes().items() if state is not None}
    judge.judge(outcome("long", 0, at=600.0))
    assert keys_of(judge, "short")
    judge.judge(outcome("long", 1, at=620.0))
    assert not keys_of(judge, "short")
    deleted = {key for key, state in judge.drain_changes().items() if state is None}
    assert deleted == {key for key in stored if "short" in str(key)}


def test_a_silent_stream_resolves_its_alerts_and_is_forgotten() -> None:
    """Whoever waits for a resolution gets one that says why; a stream that returns starts anew."""
    judge = Judge(RULES, retention=RETENTION)
    alerts = [alert for sequence in range(4) for alert in judge.judge(outcome("gone", sequence, score=20.0))]
    assert [alert.state for alert in alerts] == ["open"]
    assert judge.judge(outcome("other", 0, at=3600.0)) == ()
    (resolved,) = judge.judge(outcome("other", 1, at=3620.0))
    assert (resolved.id, resolved.state) == (alerts[0].id, "resolved")
    assert resolved.summary.endswith("closed: nothing has come of the stream for too long")
    assert not keys_of(judge, "gone")
    assert judge.judge(outcome("gone", 9, at=3640.0)) == ()
    assert keys_of(judge, "gone")


def test_a_restarted_judge_forgets_the_same() -> None:
    """The times are in the states, so the stored form of an earlier Judge is enough."""
    for count in (2, 3):
        judge = Judge(RULES, retention=RETENTION)
        for sequence in range(count):
            judge.judge(outcome("gone", sequence, at=100.0 * sequence))
        judge.judge(factories.failure(sequence=5, reason="timeout", rendition=RENDITION, at_seconds=300.0))
        restored = [cloudevents.parse_state(cloudevents.encode_state(state)) for state in judge.states().values()]
        again = Judge(RULES, {state.key: state for state in restored}, retention=RETENTION)
        assert again.states() == judge.states()
        for each in (judge, again):
            each.judge(outcome("other", 0, at=3600.0 + 104.0))
        assert again.states() == judge.states()
        assert bool(keys_of(again, "gone")) == (count == 3)


def test_nothing_grows_with_the_streams_that_have_come_and_gone() -> None:
    """Neither the states nor any index of them; with 2,000 streams of a minute as with 200."""
    sizes = []
    judge = Judge(RULES, retention=RETENTION)
    for number in range(2000):
        for sequence in range(2):
            judge.judge(outcome(f"s{number}", sequence, at=30.0 * number + 4 * sequence))
        judge.end_stream(
            stream_end(f"s{number}", ALL_RENDITIONS, START, announced_at=START + timedelta(seconds=number))
        )
        judge.drain_changes()
        if number in (199, 1999):
            sizes.append(_sizes(judge))
    assert sizes[0] == sizes[1]
    assert max(sizes[1].values()) < 200


def _sizes(judge: Judge) -> dict[str, int]:
    """The number of entries of every container that the judge holds, by path."""
    sizes: dict[str, int] = {}

    def visit(thing: Any, path: str, depth: int) -> None:
        if isinstance(thing, dict | list | set):
            sizes[path] = len(thing)
        elif depth < 4 and type(thing).__module__.startswith("vqmon.core.alerts") and hasattr(thing, "__dict__"):
            for name, value in vars(thing).items():
                visit(value, f"{path}.{name}", depth + 1)

    visit(judge, "judge", 0)
    return sizes


@pytest.mark.parametrize(("ended", "silent"), [(0.0, 1.0), (2.0, 1.0)])
def test_an_ended_rendition_is_not_kept_longer_than_a_silent_one(ended: float, silent: float) -> None:
    """Nor for no time at all: the end itself must reach everyone."""
    with pytest.raises(ValueError, match="are kept"):
        StateRetention(ended_seconds=ended, silent_seconds=silent)
