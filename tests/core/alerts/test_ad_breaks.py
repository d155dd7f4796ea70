"""Segments get the label of the ad break that splice messages in earlier segments have announced."""

from collections.abc import Collection
from dataclasses import replace

import pytest

from tests import factories
from tests.core.alerts.stored_states import copied
from vqmon.core.alerts.judge import Judge
from vqmon.core.alerts.state import RenditionTimeline
from vqmon.core.frames import SpliceCue
from vqmon.core.types import AD_BREAK_LABEL, Outcome
from vqmon.errors import SegmentError


def labelled(
    cues: dict[int, list[SpliceCue]], *, count: int = 12, lost: int = -1, restarts: Collection[int] = ()
) -> list[int]:
    """The numbers of the segments of 4 s that are labelled, given the messages in each of them.

    Before the segments in `restarts` another Judge goes on from the stored states.
    """
    judge = Judge(())
    found = []
    for number in range(count):
        event = factories.event(sequence=number)
        outcome: Outcome = replace(event, media=replace(event.media, splices=tuple(cues.get(number, ()))))
        if number == lost:
            outcome = factories.failure(sequence=number)
        if number in restarts:
            judge = Judge((), copied(judge))
        outcome = judge.label(outcome)
        judge.judge(outcome)
        if outcome.segment.labels.get(AD_BREAK_LABEL) == "yes":
            found.append(number)
    return found


OUT = SpliceCue(begins=True, at_seconds=8.0, seconds=12.0)
OPEN = SpliceCue(begins=True, at_seconds=8.0)
IN = SpliceCue(begins=False, at_seconds=4.0)


@pytest.mark.parametrize(
    ("cues", "numbers"),
    [
        ({}, []),
        ({1: [OUT]}, [3, 4, 5]),
        # the same message again, four seconds later
        ({1: [OUT], 2: [replace(OUT, at_seconds=4.01)]}, [3, 4, 5]),
        # until the end is announced
        ({1: [OPEN], 5: [IN]}, [3, 4, 5]),
        ({1: [OUT], 3: [IN]}, [3]),
        ({1: [OPEN]}, [3, 4, 5, 6, 7, 8, 9, 10, 11]),
        ({1: [IN]}, []),
        # from a segment on whose first picture is the splice
        ({2: [SpliceCue(begins=True, at_seconds=0.0, seconds=4.0)]}, [2]),
        ({1: [OUT, replace(OUT, at_seconds=28.0, seconds=4.0)]}, [3, 4, 5, 8]),
        # the end of a break does not end one that was announced before it and begins then, or later
        ({1: [OUT], 3: [replace(OUT, at_seconds=12.0)], 4: [replace(IN, at_seconds=8.0)]}, [3, 4, 5, 6, 7, 8]),
        ({1: [OUT], 3: [replace(OUT, at_seconds=12.0), replace(IN, at_seconds=12.0)]}, [3, 4, 5, 6, 7, 8]),
        ({1: [OUT], 2: [replace(OUT, at_seconds=20.0)], 3: [IN]}, [3, 7, 8, 9]),
    ],
)
def test_segments_that_begin_within_a_break_are_labelled(cues: dict[int, list[SpliceCue]], numbers: list[int]) -> None:
    """Also after restarts, within a break or before it."""
    assert labelled(cues) == labelled(cues, restarts=range(12)) == numbers


def test_a_segment_that_could_not_be_observed_is_labelled_too() -> None:
    """By its time; breaks of other renditions do not count, and after an hour a break is over."""
    assert labelled({1: [OUT]}, lost=4) == [3, 4, 5]
    assert labelled({0: [OPEN]}, count=1000) == list(range(2, 902))
    judge = Judge(())
    event = factories.event(sequence=1)
    judge.judge(replace(event, media=replace(event.media, splices=(replace(OUT, at_seconds=0.0),))))
    other = replace(event.segment, rendition=replace(event.segment.rendition, name="other"))
    assert judge.label(replace(event, segment=other)).segment.labels == {}
    assert judge.label(event).segment.labels == {AD_BREAK_LABEL: "yes"}
    own = replace(event.segment, labels={AD_BREAK_LABEL: "no"})
    assert judge.label(replace(event, segment=own)).segment.labels == {AD_BREAK_LABEL: "no"}


def test_a_playlist_that_stood_still_goes_on_within_the_break() -> None:
    """Its segments begin where they stopped, before the moment at which the playlist was found stale."""
    judge = Judge(())
    event = factories.event(sequence=1)
    judge.judge(replace(event, media=replace(event.media, splices=(OUT,))))
    judge.judge(factories.failure(sequence=60, error=SegmentError("stale", "no new segment for 12 s")))
    assert judge.label(factories.event(sequence=3)).segment.labels == {AD_BREAK_LABEL: "yes"}


def test_a_break_that_is_over_is_not_stored() -> None:
    judge = Judge(())
    event = factories.event(sequence=1)
    judge.judge(replace(event, media=replace(event.media, splices=(OUT,))))
    (timeline,) = judge.states().values()
    assert isinstance(timeline, RenditionTimeline)
    assert len(timeline.ad_breaks) == 1
    judge.judge(factories.event(sequence=6))
    (timeline,) = judge.states().values()
    assert isinstance(timeline, RenditionTimeline)
    assert timeline.ad_breaks == ()
