"""Metrics of single streams, for a bounded list of them: the newest score, the share unscored, the newest segment."""

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from vqmon.core.alerts.media_timeline import DUPLICATE, NOT_SEGMENTS
from vqmon.core.types import Outcome, QualityEvent
from vqmon.telemetry.metrics import Meters, MetricName

_SILENT_SECONDS = 300.0
"""The series of a rendition without a segment for so long end, and another one may take their place."""

_SHARE_SEGMENTS = 30
_MAX_LEFT_OUT = 20_000
"""So many renditions that are left out are counted once each."""

_Series = Iterator[tuple[float, Mapping[str, str]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSelection:
    """Which renditions have series of their own, by globs; no stream by default."""

    streams: tuple[str, ...] = ()
    renditions: tuple[str, ...] = ("*",)
    max_renditions: int = 100

    def matches(self, stream_id: str, rendition: str) -> bool:
        """Whether this rendition is meant."""
        return any(fnmatchcase(stream_id, glob) for glob in self.streams) and any(
            fnmatchcase(rendition, glob) for glob in self.renditions
        )


@dataclass(slots=True)
class _RenditionFigures:
    """What is said of one rendition."""

    # scorer -> score 0..100; empty when the newest segment is unscored
    scores: Mapping[str, float] = field(default_factory=dict)
    # end of its newest segment, Unix time; None before the first one
    ends_at: float | None = None
    were_unscored: "deque[bool]" = field(default_factory=lambda: deque(maxlen=_SHARE_SEGMENTS))
    seen_at_seconds: float = 0.0


class StreamMetrics:
    """Gauges by stream and rendition. Written by one thread, and read by another that collects."""

    def __init__(self, meters: Meters, selection: StreamSelection, *, monotonic: Callable[[], float]) -> None:
        self._selection = selection
        self._monotonic = monotonic
        self._lock = threading.Lock()
        # (stream, rendition) -> figures
        self._figures: dict[tuple[str, str], _RenditionFigures] = {}
        # the renditions that match and have no series -> when one of their segments came last, oldest first
        self._left_out: OrderedDict[tuple[str, str], float] = OrderedDict()
        readers: dict[MetricName, Callable[[], _Series]] = {
            "vqmon.stream.score": self._scores,
            "vqmon.stream.unscored": self._unscored,
            "vqmon.stream.ends_at": self._ends_at,
            "vqmon.stream.left_out": self._count_left_out,
        }
        for name, read in readers.items():
            # in place of those of earlier settings
            meters.supply(name, read)

    def record(self, outcomes: Sequence[Outcome]) -> None:
        """Take what was just published."""
        if not self._selection.streams:
            return
        now = self._monotonic()
        with self._lock:
            self._drop_silent(now)
            for outcome in outcomes:
                rendition = outcome.segment.rendition
                is_new = getattr(outcome, "reason", "") != DUPLICATE
                if is_new and self._selection.matches(rendition.stream_id, rendition.name):
                    self._record_one((rendition.stream_id, rendition.name), outcome, now)

    def _record_one(self, key: tuple[str, str], outcome: Outcome, now: float) -> None:
        figures = self._figures.get(key)
        if figures is None:
            if len(self._figures) >= self._selection.max_renditions:
                self._left_out[key] = now
                self._left_out.move_to_end(key)
                if len(self._left_out) > _MAX_LEFT_OUT:
                    self._left_out.popitem(last=False)
                return
            figures = self._figures[key] = _RenditionFigures()
            self._left_out.pop(key, None)
        scores = outcome.scores if isinstance(outcome, QualityEvent) else ()
        figures.scores = {score.scorer: score.value for score in scores}
        figures.were_unscored.append(not isinstance(outcome, QualityEvent))
        if isinstance(outcome, QualityEvent) or outcome.reason not in NOT_SEGMENTS:
            # a playlist that stands still is behind the live edge
            figures.ends_at = outcome.segment.ends_at.timestamp()
        figures.seen_at_seconds = now

    def _drop_silent(self, now: float) -> None:
        silent = [key for key, figures in self._figures.items() if now - figures.seen_at_seconds > _SILENT_SECONDS]
        for key in silent:
            del self._figures[key]
        while self._left_out and now - next(iter(self._left_out.values())) > _SILENT_SECONDS:
            self._left_out.popitem(last=False)

    def _current(self) -> list[tuple[dict[str, str], _RenditionFigures]]:
        with self._lock:
            self._drop_silent(self._monotonic())
            items = list(self._figures.items())
        return [({"stream": stream, "rendition": rendition}, figures) for (stream, rendition), figures in items]

    def _scores(self) -> _Series:
        for labels, figures in self._current():
            for scorer, value in figures.scores.items():
                yield value, {**labels, "scorer": scorer}

    def _unscored(self) -> _Series:
        for labels, figures in self._current():
            flags = list(figures.were_unscored)
            yield sum(flags) / len(flags), labels

    def _ends_at(self) -> _Series:
        for labels, figures in self._current():
            if figures.ends_at is not None:
                yield figures.ends_at, labels

    def _count_left_out(self) -> _Series:
        if not self._selection.streams:
            return
        with self._lock:
            self._drop_silent(self._monotonic())
            count = len(self._left_out)
        yield count, {}
