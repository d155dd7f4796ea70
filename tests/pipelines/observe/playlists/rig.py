"""Playlists with a clock, from which what belongs to a segment is found."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

from pipelines.observe.playlists.positions import StreamPlaylist
from vqmon.errors import FetchError

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
OWN, OTHER = "https://cdn.example/own.m3u8?token=1", "https://cdn.example/ref/other.m3u8"


def playlist(
    name: str,
    numbers: Sequence[int],
    *,
    seconds: float = 2.0,
    dated: datetime | None = None,
    ended: bool = False,
    gaps: Sequence[int] = (),
) -> str:
    """`dated` is the date of segment 0."""
    lines = ["#EXTM3U", f"#EXT-X-TARGETDURATION:{seconds:.0f}", f"#EXT-X-MEDIA-SEQUENCE:{numbers[0]}"]
    for number in numbers:
        if dated:
            lines.append(f"#EXT-X-PROGRAM-DATE-TIME:{(dated + timedelta(seconds=number * seconds)).isoformat()}")
        lines += ["#EXT-X-GAP"] * (number in gaps) + [f"#EXTINF:{seconds},", f"{name}{number}.ts"]
    return "\n".join(lines + ["#EXT-X-ENDLIST"] * ended)


class Origin:
    """Answers with the current text of each address, and counts; its clock goes on by sleeping."""

    def __init__(self, texts: dict[str, str]) -> None:
        self.texts = texts
        self.requests: list[str] = []
        self.slept: list[float] = []
        # what an address has after so many seconds
        self.later: dict[float, str] = {}
        self.clock = NOON

    def stream(self, url: str) -> StreamPlaylist:
        """The playlist of a stream at this address."""
        return StreamPlaylist(url, fetcher=self, now=lambda: self.clock)  # type: ignore[arg-type]

    async def get(self, url: str, **options: Any) -> SimpleNamespace:
        self.requests.append(url)
        if not (text := self.texts.get(url, "")):
            raise FetchError("not_found", "404")
        return SimpleNamespace(body=text.encode(), url=url)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.clock += timedelta(seconds=seconds)
        if self.later and sum(self.slept) >= min(self.later):
            self.texts[OTHER] = self.later.pop(min(self.later))
