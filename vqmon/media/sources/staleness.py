"""Detection of lanes without new segments."""

from datetime import datetime
from urllib.parse import urlsplit, urlunsplit

from vqmon.core.types import Rendition, Segment, SegmentFailure, failure_from_error
from vqmon.errors import SegmentError

_STALE_MIN_SECONDS = 10.0
_STALE_TARGETS = 3


class StalenessMonitor:
    """Reports one failure for every `stale_after_seconds` in which a lane got no new segment.

    None means three target durations, at least ten seconds. A playlist that cannot be read at the first attempt is
    reported at once. `seconds` is of a clock that nobody sets, so that a step of the wall clock is no silence.
    """

    def __init__(self, rendition: Rendition, url: str, *, stale_after_seconds: float | None) -> None:
        self._rendition = rendition
        self._url = url
        self._stale_after_seconds = stale_after_seconds
        self._progress_at: float | None = None
        self._reported_at: float | None = None

    def record_progress(self, seconds: float) -> None:
        """A reload at this time brought new segments."""
        self._progress_at = seconds
        self._reported_at = None

    def check(
        self, now: datetime, *, seconds: float, target_seconds: float, error: SegmentError | None, sequence: int
    ) -> SegmentFailure | None:
        """The failure to publish after a reload without new segments; None until one is due.

        `error` is why the reload failed, if it did; `sequence` is the number that the next segment is expected to get.
        """
        is_first_reload = self._progress_at is None
        self._progress_at = seconds if self._progress_at is None else self._progress_at
        stale_after = self._stale_after_seconds or max(_STALE_TARGETS * target_seconds, _STALE_MIN_SECONDS)
        since = self._progress_at if self._reported_at is None else self._reported_at
        is_due = seconds - since >= stale_after
        if not is_due and not (is_first_reload and error):
            return None
        self._reported_at = seconds
        reported = _error_to_report(error, seconds - self._progress_at)
        return failure_from_error(self._missing_segment(now, sequence), reported, observed_at=now)

    def _missing_segment(self, now: datetime, sequence: int) -> Segment:
        """A placeholder for the missing segment; the time in its URL makes the id of each failure unique."""
        parts = urlsplit(self._url)
        path = f"{parts.path};at={now:%Y%m%dT%H%M%S.%fZ}"
        url = urlunsplit((parts.scheme, parts.netloc, path, "", ""))
        return Segment(rendition=self._rendition, sequence=sequence, url=url, starts_at=now)


def _error_to_report(error: SegmentError | None, seconds: float) -> SegmentError:
    if error is None:
        return SegmentError("stale", f"no new segment for {seconds:.0f} s")
    return error if error.reason == "playlist" else SegmentError("playlist", str(error))
