"""Signals: durations at any frame rate, freezes across segments, excused frames."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import factories
from tests.core.alerts.one_rule import alerts_of, turns
from tests.factories import FINGERPRINTS, START
from vqmon.core.alerts.conditions.signal import Signal
from vqmon.core.frames import sample_indices
from vqmon.core.types import QualityEvent

BLACK = Signal(signal="black", above=0.95)


FREEZE = Signal(signal="freeze", above=0.5, unless={"black": 0.95, "solid": 0.95})


def pictured(start: float, seconds: float, *, fps: float, lengths: Sequence[int], signal: str) -> list[QualityEvent]:
    """Segments of so many frames; every picture shown within `seconds` from `start` on is impaired."""
    events, frame = [], 0
    for number, length in enumerate(lengths):
        times = [(frame + k) / fps for k in range(length)]
        seen = sample_indices(times)
        values = [1.0 if start - 1e-9 <= times[k] < start + seconds - 1e-9 else 0.0 for k in seen]
        event = factories.event(
            sequence=number,
            duration_seconds=length / fps,
            at_seconds=round(times[0], 6),
            signals={signal: values},
            times_seconds=[times[k] - times[0] for k in seen],
        )
        events.append(event)
        frame += length
    return events


lengths_at_25 = st.lists(st.integers(26, 200), min_size=6, max_size=12)


@given(lengths_at_25, st.integers(26, 100), st.integers(50, 60))
def test_two_seconds_of_black_are_found_wherever_they_lie(lengths: list[int], first: int, frames: int) -> None:
    """An impairment of exactly 2 s or more, at any frame and across any segment borders, opens one alert."""
    events = pictured(first / 25, frames / 25, fps=25, lengths=lengths, signal="black")
    if sum(lengths) < first + frames + 100:
        return
    alerts = alerts_of(BLACK, events)
    assert [alert.state for alert in alerts] == ["open", "resolved"]
    began, opened = (alerts[0].began_at - START).total_seconds(), (alerts[0].opened_at - START).total_seconds()
    assert first / 25 <= began <= opened <= first / 25 + frames / 25 + 1.0


@given(lengths_at_25, st.integers(26, 100), st.integers(1, 25))
def test_a_second_of_black_is_never_two(lengths: list[int], first: int, frames: int) -> None:
    """What is seen in one picture only is no alert of two seconds, if segments are not odd bits of a second."""
    lengths = [length // 25 * 25 + 25 for length in lengths]
    assert not alerts_of(BLACK, pictured(first / 25, frames / 25, fps=25, lengths=lengths, signal="black"))


@pytest.mark.parametrize("first", range(45, 75))
def test_two_seconds_at_ntsc_rates_are_sixty_frames(first: int) -> None:
    """At 30000/1001 fps one picture never looks like two seconds, sixty frames always do."""
    fps = 30000 / 1001
    for frames, expected in ((60, 2), (30, 0)):
        events = pictured(first / fps, frames / fps, fps=fps, lengths=[120] * 4, signal="black")
        assert len(alerts_of(BLACK, events)) == expected


def test_key_frames_far_apart_count_for_a_second_to_each_side() -> None:
    """One black key frame in six seconds is not two seconds of black; two in a row are."""
    frames = [
        factories.event(
            sequence=n, duration_seconds=6, times_seconds=(0.0,), signals={"black": [1.0 if n == 1 else 0.0]}
        )
        for n in range(4)
    ]
    two = [
        factories.event(
            sequence=n, duration_seconds=6, times_seconds=(0.0,), signals={"black": [1.0 if n in (1, 2) else 0.0]}
        )
        for n in range(4)
    ]
    assert not alerts_of(BLACK, frames)
    assert [alert.state for alert in alerts_of(BLACK, two)] == ["open", "resolved"]


def frozen(number: int, picture: str, flags: Sequence[float], **more: object) -> QualityEvent:
    return factories.event(sequence=number, edges=(picture, picture), signals={"freeze": flags}, **more)


def test_a_freeze_is_followed_across_segments() -> None:
    """The first picture of a segment is the last one of the segment before: one alert over the border."""
    moving = factories.event(sequence=0, edges=(FINGERPRINTS[0], FINGERPRINTS[1]))
    tail = factories.event(sequence=1, edges=(FINGERPRINTS[2], FINGERPRINTS[3]), signals={"freeze": [0, 0, 0, 0]})
    head = factories.event(sequence=2, edges=(FINGERPRINTS[3], FINGERPRINTS[4]), signals={"freeze": [0, 0, 0, 0]})
    alerts = alerts_of(FREEZE, [moving, tail, head, factories.event(sequence=3)])
    assert turns(alerts) == [("open", 7, 9), ("resolved", 7, 11)]
    assert not alerts_of(
        FREEZE, [moving, tail, replace(head, edges=(FINGERPRINTS[5], FINGERPRINTS[4])), factories.event(sequence=3)]
    )


def test_a_freeze_goes_on_over_a_lost_segment() -> None:
    """The same picture before and after a segment that could not be observed is one freeze."""
    long = replace(FREEZE, for_seconds=6)
    still = [
        frozen(1, FINGERPRINTS[0], (0, 1, 1, 1)),
        factories.failure(sequence=2),
        frozen(3, FINGERPRINTS[0], (0, 1, 1, 1)),
    ]
    (alert,) = alerts_of(long, [factories.event(sequence=0), *still])
    assert alert.began_at == START + timedelta(seconds=4)


@pytest.mark.parametrize("excuse", ["black", "solid"])
def test_black_or_one_colour_is_not_also_a_freeze(excuse: str) -> None:
    """A black picture does not move, but that is one fault and not two."""
    events = [
        factories.event(sequence=n, edges=(FINGERPRINTS[0],) * 2, signals={"freeze": (1,) * 4, excuse: (1,) * 4})
        for n in range(5)
    ]
    assert not alerts_of(FREEZE, events)
    assert alerts_of(replace(FREEZE, unless={}), events)


def test_a_signal_that_was_not_measured_says_nothing() -> None:
    """An event without the signal is no evidence for or against."""
    events = [replace(factories.event(sequence=n), signals={}) for n in range(5)]
    assert not alerts_of(BLACK, events)
