"""The tries to decode one segment: with all that is asked for, then with less, and how long they may take together."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Literal

from vqmon.core.scores import ReferenceComparison
from vqmon.core.types import DecodedSegment
from vqmon.errors import DecodeError
from vqmon.media.decode.protocol import DecodeRequest
from vqmon.media.reference.comparison import ReferenceRequest

_COSTLY_REASONS = ("timeout", "crashed", "too_many_pixels", "too_long")
"""Reasons for which decoding may fail with other media or measures, and succeed without them."""

_DEADLINES_OF_FURTHER_TRIES = 3

Part = Literal["reference", "sound", "measures"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceMedia:
    """The reference of a segment, its initialization section and media joined, and how to compare with it."""

    media: bytes
    request: ReferenceRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a worker is asked to do: the media of a segment, and what belongs to it but is not needed for its score."""

    media: bytes
    request: DecodeRequest
    reference_media: bytes = b""
    sound_media: bytes = b""

    @property
    def parts(self) -> tuple[Part, ...]:
        """What can be left out without losing the score."""
        present: dict[Part, bool] = {
            "reference": bool(self.reference_media),
            "sound": bool(self.sound_media),
            "measures": bool(self.request.measures),
        }
        return tuple(part for part, is_present in present.items() if is_present)

    def deadline_seconds(self) -> float:
        """Each side of a comparison has the whole deadline, and so have the measures of the segment alone."""
        sides = 1 + bool(self.reference_media) + bool(self.request.measures)
        return self.request.limits.deadline_seconds * sides

    def with_reference(self, reference: ReferenceMedia) -> "Work":
        """The same with a comparison with a reference."""
        comparison = replace(reference.request, with_heat_map=self.request.with_heat_maps)
        request = replace(self.request, reference=comparison, reference_bytes=len(reference.media))
        return replace(self, request=request, reference_media=reference.media)

    def without(self, parts: tuple[Part, ...]) -> "Work":
        """The same with some parts left out."""
        work = self
        if "reference" in parts:
            request = replace(work.request, reference=None, reference_bytes=0)
            work = replace(work, request=request, reference_media=b"")
        if "sound" in parts:
            work = replace(work, request=replace(work.request, with_audio=False, sound_bytes=0), sound_media=b"")
        if "measures" in parts:
            work = replace(work, request=replace(work.request, measures=()))
        return work

    def describe_left_out(
        self, parts: tuple[Part, ...], error: DecodeError | None, decoded: DecodedSegment
    ) -> DecodedSegment:
        """What was decoded, with why parts of this work were left out: the error of a try with them."""
        if error is None:
            return decoded
        if "reference" in parts:
            reason = "timeout" if error.reason == "timeout" else "decode"
            decoded = replace(decoded, reference=ReferenceComparison(unscored=reason, detail=error.detail))
        if "sound" in parts:
            decoded = replace(decoded, unmeasured_audio="unavailable")
        if "measures" in parts:
            note = f"no {', '.join(self.request.measures)}: {error}"
            decoded = replace(decoded, media=replace(decoded.media, notes=(*decoded.media.notes, note)))
        return decoded


class SegmentTries:
    """The tries to decode one segment, whichever views are asked for: they share one limit of time.

    It is the deadline of the first try and three times that of pictures alone; waiting for a worker does not count.
    After a timeout, and when no single part is at fault, the pictures alone are decoded from then on.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # of the first try that failed
        self.error: DecodeError | None = None
        self._without_parts = False
        self._limit_seconds = 0.0
        self._spent_seconds = 0.0

    def choices(self, work: Work) -> Iterator[tuple[Part, ...]]:
        """What to leave out, try by try, until one succeeds; tell `fail` of each that does not."""
        parts = work.parts
        single_parts = [(part,) for part in parts] if len(parts) > 1 else []
        for left_out in ((), *single_parts) if parts else ():
            if not self._without_parts:
                yield left_out
        yield parts

    def fail(self, error: DecodeError, *, is_last: bool) -> None:
        """Note that a try failed; raises its error when it was the last one or decoding less would not help."""
        if is_last or error.reason not in _COSTLY_REASONS:
            # fewer views may be decoded within the limits together with these parts
            self._without_parts = self._without_parts or (is_last and error.reason in ("timeout", "crashed"))
            raise error
        self.error = self.error or error
        self._without_parts = error.reason == "timeout"

    def limit_seconds(self, work: Work) -> float:
        """How long the next try may take; raises DecodeError when all tries have taken as long as they may."""
        deadline_seconds = work.deadline_seconds()
        if not self._limit_seconds:
            more_seconds = _DEADLINES_OF_FURTHER_TRIES * work.request.limits.deadline_seconds
            self._limit_seconds = deadline_seconds + more_seconds
        if self._spent_seconds >= self._limit_seconds:
            raise DecodeError("timeout", f"all tries together took {self._limit_seconds:g} s")
        return min(deadline_seconds, self._limit_seconds - self._spent_seconds)

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Count the time that this context takes."""
        started_at = self._clock()
        try:
            yield
        finally:
            self._spent_seconds += self._clock() - started_at


_of_segment: ContextVar[SegmentTries | None] = ContextVar("tries", default=None)


@contextmanager
def tries_of_one_segment(clock: Callable[[], float] = time.monotonic) -> Iterator[None]:
    """All decodes in this context are of one segment and share its limit of time; otherwise each has its own."""
    token = _of_segment.set(SegmentTries(clock))
    try:
        yield
    finally:
        _of_segment.reset(token)


def current_tries() -> SegmentTries:
    """Those of the segment of the context, or new ones."""
    return _of_segment.get() or SegmentTries()
