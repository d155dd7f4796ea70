"""A limit on a measurement of the sound: direction, time, and segments without sound."""

from dataclasses import replace

import pytest

from tests import factories
from tests.core.alerts.one_rule import alerts_of, turns
from tests.media.sound.test_answer import FACTS
from vqmon.core.alerts.conditions.audio import Audio
from vqmon.core.types import QualityEvent

SILENCE = Audio(measurement="silent_share", above=0.95, for_seconds=8, recover_seconds=8)
OFFSET = Audio(measurement="offset_seconds", above=0.5, below=-0.5, for_seconds=8, recover_seconds=8)


def event(sequence: int, **facts: float | None) -> QualityEvent:
    """A segment with these facts of its sound; without any it has no sound."""
    audio = replace(FACTS, **facts) if facts else None
    return replace(factories.event(sequence=sequence), audio=audio)


@pytest.mark.parametrize(
    ("rule", "name", "values", "expected"),
    [
        (SILENCE, "silent_share", [0, 1, 0, 1], []),
        (SILENCE, "silent_share", [0, 1, 1, 0, 0], [("open", 4, 12), ("resolved", 4, 20)]),
        # neither a fault nor a recovery
        (SILENCE, "silent_share", [1, 1, None, None, None], [("open", 0, 8)]),
        (OFFSET, "offset_seconds", [0.1, 0.6, 0.6], [("open", 4, 12)]),
        (OFFSET, "offset_seconds", [0.1, -0.6, -0.6], [("open", 4, 12)]),
    ],
)
def test_a_measurement_beyond_its_limit(
    rule: Audio, name: str, values: list[float | None], expected: list[tuple[str, float, float]]
) -> None:
    """For its time, on either side; segments without sound say nothing."""
    events = [event(k, **({} if value is None else {name: value})) for k, value in enumerate(values)]
    assert turns(alerts_of(rule, events)) == expected


def test_drift_is_the_difference_of_the_offsets() -> None:
    """None where one of them is missing."""
    assert replace(FACTS, end_offset_seconds=0.27).measurement("drift_seconds") == pytest.approx(0.25)
    assert FACTS.measurement("drift_seconds") is None
    assert FACTS.measurement("is_mono") == 0.0


@pytest.mark.parametrize("wrong", [{"measurement": "bass", "above": 1}, {"measurement": "silent_share"}])
def test_a_rule_needs_a_measurement_and_a_limit(wrong: dict[str, object]) -> None:
    """Anything else is refused."""
    with pytest.raises(ValueError, match=r"measurement|above"):
        Audio(**wrong)  # type: ignore[arg-type]
