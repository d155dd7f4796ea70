"""Aligns the renditions of one stream on the media timeline, whatever the order in which they were observed.

Segments are released in the order of their time: when every rendition that takes part has come as far, or when the
farthest is more than `wait_seconds` ahead. A rendition takes part from `wait_seconds` after its first segment until
`_GONE_SECONDS` after its last one, both in media time. No segment waits for a rendition that has ended. So as long as
no rendition is more than `wait_seconds` ahead of another, the order of release does not depend on the interleaving.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from vqmon.core.alerts.annotations import StreamEnd
from vqmon.core.alerts.media_timeline import worst_frame_times
from vqmon.core.alerts.regression.pairs.picture_hash import Passage
from vqmon.core.alerts.state import LadderRendition, ReleasedScores, ScoredSegment
from vqmon.core.scores import reference_subject
from vqmon.core.types import QualityEvent, Segment

_ALIGN_SECONDS = 0.5
"""Segments of two renditions that begin no further apart than this show the same content."""

_GONE_SECONDS = 600.0
"""A rendition without segments for so long is no part of the ladder any more."""

_MAX_WAITING = 400
"""Segments of one rendition; more than any wait can gather of segments that last a second."""


def scored_segment(event: QualityEvent, labels: Mapping[str, str], *, passage: Passage = ()) -> ScoredSegment:
    """What regression rules need of an event; `passage` are the hashes of its pictures."""
    segment = event.segment
    starts_at = segment.starts_at.timestamp()
    return ScoredSegment(
        event_id=event.id,
        stream_id=segment.rendition.stream_id,
        rendition=segment.rendition.name,
        starts_at=starts_at,
        ends_at=starts_at + (segment.duration_seconds or event.media.duration_seconds),
        scores={score.scorer: score.value for score in event.scores}
        | {reference_subject(reference.measure): reference.level for reference in event.references},
        worst_times_seconds={
            score.scorer: worst_frame_times(event, [-value for value in score.frame_values]) for score in event.scores
        }
        | {
            reference_subject(reference.measure): worst_frame_times(event, reference.damages)
            for reference in event.references
        },
        signals={name: signal.mean for name, signal in event.signals.items()},
        labels=labels,
        ladder_position=_ladder_position(segment),
        passage=passage,
    )


def _ladder_position(segment: Segment) -> float:
    """Bitrate in kbit/s, or the height in rows when that is unknown."""
    rendition = segment.rendition
    return float(rendition.bitrate_kbps or rendition.height or 0.0)


class Ladder:
    """The renditions of one stream; `renditions` by name is all that it remembers."""

    def __init__(self, wait_seconds: float, renditions: Mapping[str, LadderRendition]) -> None:
        self._wait_seconds = wait_seconds
        self.renditions = dict(renditions)

    def add_segment(self, segment: Segment, scored: ScoredSegment | None) -> None:
        """Advance the segment's rendition; `scored` waits to be released, None = the segment was not scored."""
        name = segment.rendition.name
        starts_at = segment.starts_at.timestamp()
        ends_at = scored.ends_at if scored else starts_at + segment.duration_seconds
        rendition = self.renditions.get(name)
        if rendition is None or not -_GONE_SECONDS <= starts_at - rendition.ends_at <= _GONE_SECONDS:
            rendition = LadderRendition(
                stream_id=segment.rendition.stream_id,
                rendition=name,
                first_at=starts_at,
                ends_at=ends_at,
                ladder_position=0.0,
                waiting=rendition.waiting if rendition else (),
            )
        waiting = rendition.waiting if scored is None else (*rendition.waiting, scored)[-_MAX_WAITING:]
        # Not `replace`, which takes twice as long, for every segment.
        self.renditions[name] = LadderRendition(
            stream_id=rendition.stream_id,
            rendition=name,
            first_at=rendition.first_at,
            ends_at=ends_at,
            ladder_position=_ladder_position(segment),
            waiting=waiting,
            released=rendition.released,
            has_ended=False,
        )

    def end_renditions(self, end: StreamEnd) -> None:
        """No more segments are expected of these renditions; those that wait for them alone may be released."""
        for name, rendition in self.renditions.items():
            if end.matches(rendition.stream_id, f"{rendition.stream_id}/{name}"):
                self.renditions[name] = replace(rendition, has_ended=True)

    def release(self) -> Iterator[ScoredSegment]:
        """The segments that need wait no longer, in order of time, then from the top of the ladder down."""
        while candidates := [rendition for rendition in self.renditions.values() if rendition.waiting]:
            rendition = min(candidates, key=lambda one: (one.waiting[0].starts_at, -one.ladder_position, one.rendition))
            segment = rendition.waiting[0]
            if not self._is_due(segment):
                return
            yield segment
            scores = ReleasedScores(starts_at=segment.starts_at, scores=segment.scores)
            self.renditions[rendition.rendition] = replace(
                rendition, waiting=rendition.waiting[1:], released=(*rendition.released, scores)[-2:]
            )

    def partner_score(self, segment: ScoredSegment, partner: str, scorer: str) -> float | None:
        """The score of another rendition at the same moment; None when it has none there."""
        rendition = self.renditions[partner]
        others: tuple[ScoredSegment | ReleasedScores, ...] = (*rendition.waiting, *rendition.released)
        near = [
            (abs(other.starts_at - segment.starts_at), other.scores[scorer])
            for other in others
            if scorer in other.scores and abs(other.starts_at - segment.starts_at) <= _ALIGN_SECONDS
        ]
        return min(near)[1] if near else None

    def takes_part(self, name: str, at: float) -> bool:
        """Whether segments at this moment wait for a rendition, and may be compared with it."""
        rendition = self.renditions.get(name)
        if rendition is None:
            return False
        gone_at = rendition.ends_at + (0.0 if rendition.has_ended else _GONE_SECONDS)
        return rendition.first_at + self._wait_seconds <= at <= gone_at

    def neighbours(self, segment: ScoredSegment, candidates: Iterable[str]) -> Sequence[tuple[str, float]]:
        """The renditions next above and next below on the ladder, in this order, with weights whose sum is 1.

        Their weighted mean is the score at the segment's own bitrate on a straight line over log bitrate: what content
        does to both ends of the line it does to the middle, so that it cancels better than with one neighbour.
        """
        own = (segment.ladder_position, segment.rendition)
        others = sorted(
            (self.renditions[name].ladder_position, name)
            for name in candidates
            if self.takes_part(name, segment.starts_at)
        )
        nearest = [*[other for other in others if other > own][:1], *[other for other in others if other < own][-1:]]
        if len(nearest) < 2:
            return [(name, 1.0) for _, name in nearest]
        (high, above), (low, below) = nearest
        share = math.log(own[0] / low) / math.log(high / low) if 0 < low < high else 0.5
        return [(above, share), (below, 1.0 - share)]

    def _is_due(self, segment: ScoredSegment) -> bool:
        farthest = max(rendition.ends_at for rendition in self.renditions.values())
        if farthest - segment.starts_at >= self._wait_seconds + _ALIGN_SECONDS:
            return True
        return all(
            rendition.ends_at >= segment.starts_at + _ALIGN_SECONDS
            for name, rendition in self.renditions.items()
            if name != segment.rendition and not rendition.has_ended and self.takes_part(name, segment.starts_at)
        )
