"""The renditions of one stream side by side on the media timeline, whatever the order in which they were observed.

Entries come out by the time of their segments: an entry is released when every rendition that takes part has come as
far, or when the farthest is more than `wait_seconds` ahead of it. A rendition takes part from `wait_seconds` after its
first segment until `GONE_SECONDS` after its last one: both are media times. One that has ended is not waited for. So as
long as no rendition runs more than `wait_seconds` ahead of another, what comes out does not depend on the interleaving.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from vqmon.core.alerts.annotations import End
from vqmon.core.types import QualityEvent, Segment

ALIGN_SECONDS = 0.5
"""Segments of two renditions that begin no further apart than this show the same."""

GONE_SECONDS = 600.0
"""A rendition without segments for so long is no part of the ladder any more."""

MAX_WAITING = 400
"""Entries of one rendition; more than any wait can gather of segments that last a second."""

WORST_FRAMES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What regression rules need of a scored segment; times in seconds since the epoch."""

    event_id: str
    stream_id: str
    rendition: str
    starts: float
    ends: float
    # name@version -> 0..100
    scores: Mapping[str, float]
    # name@version -> presentation times of its worst frames, worst first
    worst: Mapping[str, tuple[float, ...]]
    # signal -> mean
    signals: Mapping[str, float]
    labels: Mapping[str, str]
    # where on the ladder: kbit/s, or rows of the picture when unknown
    rung: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """What is kept of an entry that came out, for partners that begin a little later."""

    starts: float
    scores: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """One rendition of a stream that has pairs: how far it has come, and what waits."""

    stream_id: str
    rendition: str
    # first segment since it takes part
    since: float
    until: float
    rung: float
    waiting: tuple[Entry, ...] = ()
    passed: tuple[Passed, ...] = ()
    # nothing has come since its end
    has_ended: bool = False

    @property
    def key(self) -> str:
        return f"<{self.stream_id}/{self.rendition}"


def entry_of(event: QualityEvent, labels: Mapping[str, str]) -> Entry:
    """What is needed of an event."""
    segment = event.segment
    starts = segment.starts_at.timestamp()
    return Entry(
        event_id=event.id,
        stream_id=segment.rendition.stream_id,
        rendition=segment.rendition.name,
        starts=starts,
        ends=starts + (segment.duration_seconds or event.media.duration_seconds),
        scores={score.scorer: score.value for score in event.scores},
        worst={score.scorer: worst_times(event, [-value for value in score.frame_values]) for score in event.scores},
        signals={name: signal.mean for name, signal in event.signals.items()},
        labels=labels,
        rung=rung_of(segment),
    )


def rung_of(segment: Segment) -> float:
    """Where a rendition stands on the ladder."""
    rendition = segment.rendition
    return float(rendition.bitrate_kbps or rendition.height or 0.0)


def worst_times(event: QualityEvent, badness: Sequence[float]) -> tuple[float, ...]:
    """Times of the worst frames, worst first; the middle one when the values do not belong to single frames."""
    times = event.times_seconds
    if len(badness) != len(times):
        return (times[len(times) // 2],)
    ranked = sorted(range(len(times)), key=lambda index: (-badness[index], index))
    return tuple(times[index] for index in ranked[:WORST_FRAMES])


class Ladder:
    """The renditions of one stream; `rungs` by name is all that it remembers."""

    def __init__(self, wait_seconds: float, rungs: Mapping[str, Rung]) -> None:
        self._wait_seconds = wait_seconds
        self.rungs = dict(rungs)

    def arrived(self, segment: Segment, entry: Entry | None) -> None:
        """A segment came, scored or not."""
        name = segment.rendition.name
        starts = segment.starts_at.timestamp()
        ends = entry.ends if entry else starts + segment.duration_seconds
        known = self.rungs.get(name)
        if known is None or not -GONE_SECONDS <= starts - known.until <= GONE_SECONDS:
            passed = known.waiting if known else ()
            known = Rung(stream_id=segment.rendition.stream_id, rendition=name, since=starts, until=ends, rung=0.0)
            known = replace(known, waiting=passed)
        waiting = known.waiting if entry is None else (*known.waiting, entry)[-MAX_WAITING:]
        self.rungs[name] = replace(known, until=ends, rung=rung_of(segment), waiting=waiting, has_ended=False)

    def ended(self, end: End) -> None:
        """Nothing more is expected of these renditions; what waits for them alone may be released."""
        for name, rung in self.rungs.items():
            if end.fits(rung.stream_id, f"{rung.stream_id}/{name}"):
                self.rungs[name] = replace(rung, has_ended=True)

    def released(self) -> Iterator[Entry]:
        """The entries that wait for nothing any more, by time, of the same time from the top of the ladder down."""
        while heads := [it for it in self.rungs.values() if it.waiting]:
            rung = min(heads, key=lambda it: (it.waiting[0].starts, -it.rung, it.rendition))
            entry = rung.waiting[0]
            if not self._is_due(entry):
                return
            yield entry
            passed = (*rung.passed, Passed(starts=entry.starts, scores=entry.scores))[-2:]
            self.rungs[rung.rendition] = replace(rung, waiting=rung.waiting[1:], passed=passed)

    def partner(self, entry: Entry, name: str, scorer: str) -> float | None:
        """The score of a rendition at the same moment; None when it has none there."""
        rung = self.rungs[name]
        held = [(it.starts, it.scores) for it in rung.waiting] + [(it.starts, it.scores) for it in rung.passed]
        near = [
            (abs(starts - entry.starts), scores[scorer])
            for starts, scores in held
            if scorer in scores and abs(starts - entry.starts) <= ALIGN_SECONDS
        ]
        return min(near)[1] if near else None

    def takes_part(self, name: str, at: float) -> bool:
        """Whether a rendition is waited for at a moment, and may be compared with."""
        rung = self.rungs.get(name)
        if rung is None:
            return False
        return rung.since + self._wait_seconds <= at <= rung.until + (0.0 if rung.has_ended else GONE_SECONDS)

    def neighbour(self, entry: Entry, among: Iterable[str]) -> str:
        """The rendition with the next higher rung, of the top the next lower one; empty when it is alone."""
        own = (entry.rung, entry.rendition)
        others = [(self.rungs[name].rung, name) for name in among if self.takes_part(name, entry.starts)]
        higher = [other for other in others if other > own]
        nearest = min(higher) if higher else max(others, default=(0.0, ""))
        return nearest[1]

    def _is_due(self, entry: Entry) -> bool:
        farthest = max(it.until for it in self.rungs.values())
        if farthest - entry.starts >= self._wait_seconds + ALIGN_SECONDS:
            return True
        return all(
            it.until >= entry.starts + ALIGN_SECONDS
            for name, it in self.rungs.items()
            if name != entry.rendition and not it.has_ended and self.takes_part(name, entry.starts)
        )
