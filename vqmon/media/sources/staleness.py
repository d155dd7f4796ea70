"""When a lane without news says so, and what it says."""

from datetime import datetime, timedelta
from urllib.parse import urlsplit, urlunsplit

from vqmon.core.types import Rendition, Segment, SegmentFailure, failure_from_error
from vqmon.errors import SegmentError

STALE_MIN_SECONDS = 10.0
STALE_TARGETS = 3


class Silence:
    """Counts the time without news of one lane, and turns it into a failure every `stale_after_seconds`.

    None means three target durations, at least ten seconds. An address that cannot be read at the very first is said at
    once.
    """

    def __init__(self, rendition: Rendition, url: str, *, stale_after_seconds: float | None) -> None:
        self._rendition = rendition
        self._url = url
        self._stale_after_seconds = stale_after_seconds
        self._heard_at: datetime | None = None
        self._said_at: datetime | None = None

    def heard(self, now: datetime) -> None:
        """There was something new."""
        self._heard_at = now
        self._said_at = None

    def said(
        self, now: datetime, *, target_seconds: float, error: SegmentError | None, sequence: int
    ) -> SegmentFailure | None:
        """What there is to say of a look that brought nothing new, if it is time."""
        is_first = self._heard_at is None
        self._heard_at = self._heard_at or now
        after = self._stale_after_seconds or max(STALE_TARGETS * target_seconds, STALE_MIN_SECONDS)
        is_due = now - (self._said_at or self._heard_at) >= timedelta(seconds=after)
        if not is_due and not (is_first and error):
            return None
        self._said_at = now
        seconds = (now - self._heard_at).total_seconds()
        return failure_from_error(self._moment(now, sequence), _reason(error, seconds), observed_at=now)

    def _moment(self, now: datetime, sequence: int) -> Segment:
        """What stands for the missing segment; the moment is part of its address, which makes its id its own."""
        parts = urlsplit(self._url)
        path = f"{parts.path};at={now:%Y%m%dT%H%M%S.%fZ}"
        url = urlunsplit((parts.scheme, parts.netloc, path, "", ""))
        return Segment(rendition=self._rendition, sequence=sequence, url=url, starts_at=now)


def _reason(error: SegmentError | None, seconds: float) -> SegmentError:
    if error is None:
        return SegmentError("stale", f"no new segment for {seconds:.0f} s")
    return error if error.reason == "playlist" else SegmentError("playlist", str(error))
