"""A scripted packager, a manual clock and playlists for the tests of sources."""

import asyncio
import ssl
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from tests.media.loopback import Answer, Request, Server
from vqmon.core.types import LaneCursor, Rendition, Segment, SegmentFailure
from vqmon.media.fetch import fetcher as fetch
from vqmon.media.fetch.fetcher import FetchPolicy
from vqmon.media.sources.follower import SegmentOrFailure
from vqmon.media.sources.media_playlist import MediaPlaylist, PlaylistEntry
from vqmon.media.sources.playlist import PlaylistSource

# Loading all root certificates takes longer than most of these tests.
Fetcher = partial(fetch.Fetcher, tls=ssl.create_default_context())


NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


TARGET = 4.0


MAIN = Rendition(stream_id="news", name="main")


class ManualClock:
    """A clock that advances only by waiting, and sets `stop` at a given time."""

    def __init__(self, *, ends: float = 60.0) -> None:
        self.seconds = 0.0
        # how far the wall clock was set
        self.step = timedelta(0)
        self.ends = ends
        self.pauses: list[float] = []
        self.stop = asyncio.Event()

    def now(self) -> datetime:
        return NOON + self.step + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds

    async def wait(self, stop: asyncio.Event, seconds: float) -> None:
        self.pauses.append(seconds)
        self.seconds += max(seconds, 0.01)
        if self.seconds >= self.ends:
            stop.set()


class Packager:
    """Makes a segment every four seconds and lists the newest ones, dated or not."""

    def __init__(self, clock: ManualClock, *, window: int = 5, first: int = 100, dated: bool = False) -> None:
        self.clock = clock
        self.window = window
        self.first = first
        self.dated = dated
        self.began = -window * TARGET
        self.name = "s"
        self.frozen_at: float | None = None
        self.is_ended = False

    def text(self) -> str:
        seconds = min(self.clock.seconds, self.frozen_at if self.frozen_at is not None else self.clock.seconds)
        made = int((seconds - self.began) // TARGET)
        numbers = range(max(0, made - self.window), made)
        lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:4", f"#EXT-X-MEDIA-SEQUENCE:{self.first + numbers.start}"]
        for number in numbers:
            if self.dated:
                moment = NOON + timedelta(seconds=self.began + number * TARGET)
                lines.append(f"#EXT-X-PROGRAM-DATE-TIME:{moment.isoformat()}")
            lines += ["#EXTINF:4.0,", f"{self.name}{self.first + number}.ts?t={seconds}"]
        return "\n".join(lines + ["#EXT-X-ENDLIST"] * self.is_ended)


def policy(server: Server, *roots: Path) -> FetchPolicy:
    return FetchPolicy(
        allowed_hosts=("127.0.0.1",),
        allowed_networks=("127.0.0.0/8",),
        allow_http=True,
        allowed_ports=(server.port,),
        retries=0,
        file_roots=roots,
    )


def scripted_answer(make: Callable[[], Answer | str]) -> Callable[[Request, asyncio.StreamWriter], Any]:
    """An answer that is made anew for each request."""

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        made = make()
        writer.write((made if isinstance(made, Answer) else Answer(made.encode())).on_the_wire())
        await writer.drain()

    return answer


def playlist_source(
    server: Server, clock: ManualClock, path: str, *, fetcher: Fetcher, **arguments: Any
) -> PlaylistSource:
    """The source of a playlist of the server, whose times are those of the clock."""
    return PlaylistSource(
        server.url(path),
        stream_id="news",
        fetcher=fetcher,
        now=clock.now,
        stop=clock.stop,
        wait=clock.wait,
        monotonic=clock.monotonic,
        **arguments,
    )


async def collect_lanes(
    server: Server, clock: ManualClock, path: str = "/live.m3u8", **arguments: Any
) -> dict[str, list[SegmentOrFailure]]:
    """All items that the lanes give until the clock stops them, by lane."""
    async with Fetcher(policy(server)) as fetcher:
        source = playlist_source(server, clock, path, fetcher=fetcher, **arguments)
        return {lane.name: [item async for item in lane] for lane in await source.lanes()}


async def collect_single_lane(
    server: Server, clock: ManualClock, path: str = "/live.m3u8", **arguments: Any
) -> list[SegmentOrFailure]:
    (items,) = (await collect_lanes(server, clock, path, **arguments)).values()
    return items


def sequences(items: Sequence[SegmentOrFailure]) -> list[int]:
    return [item.sequence for item in items if isinstance(item, Segment)]


def reasons(items: Sequence[SegmentOrFailure]) -> list[str]:
    return [item.reason for item in items if isinstance(item, SegmentFailure)]


def segment_of(item: SegmentOrFailure) -> Segment:
    return item.segment if isinstance(item, SegmentFailure) else item


def cursor_after(item: SegmentOrFailure, lane: str = "news/main") -> LaneCursor:
    segment = segment_of(item)
    return LaneCursor(lane=lane, sequence=segment.sequence, segment_key=segment.key, ends_at=segment.ends_at)


MASTER = """#EXTM3U
#EXT-X-DEFINE:NAME="token",VALUE="abc"
#EXT-X-STREAM-INF:BANDWIDTH=3000000,RESOLUTION=1280x720,CODECS="avc1.4d"
hd.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=800000,RESOLUTION=640x360
sd.m3u8
"""


def live_mpd(clock: ManualClock, *, kind: str = "dynamic", until: float | None = None) -> str:
    ends = f'mediaPresentationDuration="PT{until}S"' if until else 'minimumUpdatePeriod="PT2S"'
    return f"""<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="{kind}" {ends} timeShiftBufferDepth="PT20S"
      availabilityStartTime="{(NOON - timedelta(hours=1)).isoformat()}"><Period id="0" start="PT0S">
      <AdaptationSet mimeType="video/mp4"><SegmentTemplate media="$RepresentationID$-$Number$.m4s"
      initialization="$RepresentationID$.mp4" duration="4" startNumber="0"/>
      <Representation id="hd" height="720" bandwidth="2000000"/><Representation id="sd" height="360" bandwidth="1"/>
      </AdaptationSet></Period></MPD>"""


def listing(
    numbers: Sequence[int], *, is_ended: bool = False, name: str = "s", seconds: float = TARGET
) -> MediaPlaylist:
    return MediaPlaylist(
        entries=[
            PlaylistEntry(
                sequence=number, next_sequence=number + 1, url=f"http://h/{name}{number}.ts", duration_seconds=seconds
            )
            for number in numbers
        ],
        target_seconds=seconds,
        is_ended=is_ended,
    )
