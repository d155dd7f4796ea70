"""The clock of a live DASH presentation (UTCTiming, ISO/IEC 23009-1 5.8.4.11), which tells what is available."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from vqmon.errors import FetchError, SegmentError
from vqmon.media.fetch.fetcher import Fetcher
from vqmon.media.sources.media_playlist import parse_timestamp, resolve_url

_MAX_BYTES = 1000
_MAX_SOURCES = 3
_REUSED_FOR = timedelta(minutes=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockSource:
    """One UTCTiming element: its scheme, and a URL or a time."""

    scheme: str
    value: str
    # of the MPD
    base_url: str


class PresentationClock:
    """Corrects our clock by that of the presentation; without a usable source our own counts."""

    def __init__(self, fetcher: Fetcher) -> None:
        self._fetcher = fetcher
        self._offset = timedelta(0)
        self._asked_at: datetime | None = None
        self._sources: Sequence[ClockSource] = ()
        # why no source could be used; empty when one could
        self.warning = ""

    async def correct(self, now: datetime, sources: Sequence[ClockSource]) -> datetime:
        """`now` by the clock of the presentation; sources are asked within the fetch policy, every ten minutes."""
        is_known = self._asked_at is not None and abs(now - self._asked_at) < _REUSED_FOR and sources == self._sources
        if sources and not is_known:
            self._asked_at, self._sources = now, sources
            await self._ask(now)
        return now + self._offset if sources else now

    async def _ask(self, now: datetime) -> None:
        self.warning = ""
        for source in self._sources[:_MAX_SOURCES]:
            try:
                time = await self._read(source)
            except (FetchError, SegmentError) as error:
                self.warning = self.warning or f"UTCTiming: {error.detail}"
                continue
            if time is not None:
                self._offset, self.warning = time - now, ""
                return
            self.warning = self.warning or f"UTCTiming: {source.scheme[:60]} gives no time"

    async def _read(self, source: ClockSource) -> datetime | None:
        kind = source.scheme.removeprefix("urn:mpeg:dash:utc:").partition(":")[0]
        if kind == "direct":
            return parse_timestamp(source.value)
        if kind not in ("http-xsdate", "http-iso", "http-head"):
            return None
        document = await self._fetcher.get(resolve_url(source.base_url, source.value), max_bytes=_MAX_BYTES)
        if kind == "http-head":
            return document.served_at
        return parse_timestamp(document.body.decode("ascii", "replace"))
