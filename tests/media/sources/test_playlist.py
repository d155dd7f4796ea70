"""Playlists become lanes of segments: nothing twice, nothing silently lost, whatever the server does."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.media.loopback import Answer, Request, Server, serving
from vqmon.core.types import LaneCursor, Rendition, Segment, SegmentFailure
from vqmon.errors import FetchError, SegmentError
from vqmon.flow import wait_or_stop
from vqmon.media.fetch import fetcher as fetch
from vqmon.media.fetch.fetcher import FetchPolicy
from vqmon.media.sources.follower import MAX_SKIPPED, PlaylistFollower, SegmentOrFailure
from vqmon.media.sources.media_playlist import MediaPlaylist, PlaylistEntry
from vqmon.media.sources.playlist import PlaylistSource, discover_segments, list_segments
from vqmon.media.sources.staleness import StalenessMonitor

# Loading the certificates of the world takes longer than most of these tests.
Fetcher = partial(fetch.Fetcher, tls=ssl.create_default_context())

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
TARGET = 4.0
MAIN = Rendition(stream_id="news", name="main")


class World:
    """A clock that only waiting moves, and a stop that comes at a given time."""

    def __init__(self, *, ends: float = 60.0) -> None:
        self.seconds = 0.0
        self.ends = ends
        self.pauses: list[float] = []
        self.stop = asyncio.Event()

    def now(self) -> datetime:
        return NOON + timedelta(seconds=self.seconds)

    async def wait(self, stop: asyncio.Event, seconds: float) -> None:
        self.pauses.append(seconds)
        self.seconds += max(seconds, 0.01)
        if self.seconds >= self.ends:
            stop.set()


class Packager:
    """Makes a segment every four seconds and lists the newest ones, dated or not."""

    def __init__(self, world: World, *, window: int = 5, first: int = 100, dated: bool = False) -> None:
        self.world = world
        self.window = window
        self.first = first
        self.dated = dated
        self.began = -window * TARGET
        self.name = "s"
        self.frozen_at: float | None = None
        self.is_ended = False

    def text(self) -> str:
        seconds = min(self.world.seconds, self.frozen_at if self.frozen_at is not None else self.world.seconds)
        made = int((seconds - self.began) // TARGET)
        numbers = range(max(0, made - self.window), made)
        lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:4", f"#EXT-X-MEDIA-SEQUENCE:{self.first + numbers.start}"]
        for number in numbers:
            if self.dated:
                moment = NOON + timedelta(seconds=self.began + number * TARGET)
                lines.append(f"#EXT-X-PROGRAM-DATE-TIME:{moment.isoformat()}")
            lines += ["#EXTINF:4.0,", f"{self.name}{self.first + number}.ts?t={seconds}"]
        return "\n".join(lines + ["#EXT-X-ENDLIST"] * self.is_ended)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with serving() as server:
        yield server


def policy(server: Server, *roots: Path) -> FetchPolicy:
    return FetchPolicy(
        allowed_hosts=("127.0.0.1",),
        allowed_networks=("127.0.0.0/8",),
        allow_http=True,
        allowed_ports=(server.port,),
        retries=0,
        file_roots=roots,
    )


def scripted(make: Callable[[], Answer | str]) -> Callable[[Request, asyncio.StreamWriter], Any]:
    """An answer that is made anew for each request."""

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        made = make()
        writer.write((made if isinstance(made, Answer) else Answer(made.encode())).on_the_wire())
        await writer.drain()

    return answer


async def watch(
    server: Server, world: World, path: str = "/live.m3u8", **arguments: Any
) -> dict[str, list[SegmentOrFailure]]:
    """All that the lanes give until the world ends, by lane."""
    async with Fetcher(policy(server)) as fetcher:
        source = PlaylistSource(
            server.url(path),
            stream_id="news",
            fetcher=fetcher,
            now=world.now,
            stop=world.stop,
            wait=world.wait,
            **arguments,
        )
        return {lane.name: [item async for item in lane] for lane in await source.lanes()}


async def watch_one(server: Server, world: World, path: str = "/live.m3u8", **arguments: Any) -> list[SegmentOrFailure]:
    (items,) = (await watch(server, world, path, **arguments)).values()
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


# --- live HLS -------------------------------------------------------------------------------------------------------


async def test_a_sliding_window_gives_each_segment_once(server: Server) -> None:
    """Five at the start, then one every four seconds; tokens in the addresses change and do not matter."""
    world = World(ends=60)
    packager = Packager(world)
    server.answers["/live.m3u8"] = scripted(packager.text)
    items = await watch_one(server, world)

    assert sequences(items) == list(range(100, 119))
    assert reasons(items) == []


async def test_the_timeline_of_an_undated_stream_begins_so_that_the_newest_segment_ends_now(server: Server) -> None:
    """From there it goes on without a seam."""
    world = World(ends=40)
    server.answers["/live.m3u8"] = scripted(Packager(world).text)
    items = [segment_of(item) for item in await watch_one(server, world)]

    assert items[4].ends_at == NOON
    assert all(after.starts_at == before.ends_at for before, after in pairwise(items))


async def test_the_timeline_of_a_dated_stream_is_its_own(server: Server) -> None:
    """PROGRAM-DATE-TIME counts, whenever we look."""
    world = World(ends=40)
    server.answers["/live.m3u8"] = scripted(Packager(world, dated=True).text)
    items = await watch_one(server, world)

    assert [segment_of(item).starts_at for item in items] == [
        NOON + timedelta(seconds=-20 + TARGET * number) for number in range(len(items))
    ]


async def test_after_news_we_wait_a_target_duration_and_half_of_it_without(server: Server) -> None:
    """RFC 8216 6.3.4; after failures the pauses grow."""
    world = World(ends=70)
    packager = Packager(world)
    packager.frozen_at = 4.0
    server.answers["/live.m3u8"] = scripted(lambda: packager.text() if world.seconds < 16 else Answer(status=403))
    await watch_one(server, world)

    assert world.pauses[:9] == [4, 4, 2, 2, 2, 2, 2, 4, 8]
    assert max(world.pauses) <= 15


async def test_only_the_newest_segment_is_taken_when_asked(server: Server) -> None:
    """The window's older segments are not skipped segments: nobody asked for them."""
    world = World(ends=9)
    server.answers["/live.m3u8"] = scripted(Packager(world).text)
    items = await watch_one(server, world, start="newest")

    assert sequences(items) == [104, 105, 106]
    assert segment_of(items[0]).ends_at == NOON


async def test_a_restart_goes_on_after_the_cursor(server: Server) -> None:
    """What was published is not taken again, what came in between is; the timeline goes on."""
    world = World(ends=9)
    server.answers["/live.m3u8"] = scripted(Packager(world).text)
    first = await watch_one(server, world)
    cursor = cursor_after(first[-2])
    world.stop.clear()
    world.ends = 20
    second = await watch_one(server, world, resume={"news/main": cursor})

    assert sequences(second)[0] == cursor.sequence + 1
    assert segment_of(second[0]).starts_at == cursor.ends_at
    assert segment_of(second[0]).key == segment_of(first[-1]).key
    assert reasons(second) == []


async def test_what_left_the_window_unseen_is_reported_one_by_one(server: Server) -> None:
    """After a minute away: ten segments lost, each with its number and its time."""
    world = World(ends=61)
    world.seconds = 60.0
    server.answers["/live.m3u8"] = scripted(Packager(world, dated=True).text)
    before = Segment(
        rendition=MAIN,
        sequence=104,
        url="http://h/s104.ts",
        starts_at=NOON - timedelta(seconds=4),
        duration_seconds=4,
    )
    items = await watch_one(server, world, resume={"news/main": cursor_after(before)})

    assert reasons(items) == ["skipped"] * 10
    assert [segment_of(item).sequence for item in items] == list(range(105, 120))
    assert [segment_of(item).starts_at for item in items] == [
        NOON + timedelta(seconds=TARGET * number) for number in range(15)
    ]
    assert len({item.id for item in items if isinstance(item, SegmentFailure)}) == 10


async def test_a_slow_consumer_loses_segments_but_not_their_count(server: Server) -> None:
    """While the consumer is busy the window moves on; what is lost is said, and nobody calls the stream stale."""
    world = World(ends=200)
    server.answers["/live.m3u8"] = scripted(Packager(world).text)
    items: list[SegmentOrFailure] = []
    async with Fetcher(policy(server)) as fetcher:
        source = PlaylistSource(
            server.url("/live.m3u8"),
            stream_id="news",
            fetcher=fetcher,
            now=world.now,
            stop=world.stop,
            wait=world.wait,
        )
        (lane,) = await source.lanes()
        async for item in lane:
            items.append(item)
            world.seconds += 0 if isinstance(item, SegmentFailure) else 10

    assert set(reasons(items)) == {"skipped"}
    assert [segment_of(item).sequence for item in items] == list(range(100, 100 + len(items)))


async def test_gaps_are_outcomes_with_their_place_in_the_order(server: Server) -> None:
    """EXT-X-GAP."""
    text = "#EXTM3U\n#EXTINF:4,\na.ts\n#EXT-X-GAP\n#EXTINF:4,\nb.ts\n#EXTINF:4,\nc.ts\n#EXT-X-ENDLIST"
    server.answers["/vod.m3u8"] = text.encode()
    items = await watch_one(server, World(), "/vod.m3u8")

    assert [type(item) for item in items] == [Segment, SegmentFailure, Segment]
    assert reasons(items) == ["gap"]
    assert isinstance(items[1], SegmentFailure)
    assert items[1].stage == "source"


async def test_a_stale_playlist_says_so_again_and_again_until_it_recovers(server: Server) -> None:
    """Every twelve seconds, each with an id of its own; then the stream goes on."""
    world = World(ends=100)
    packager = Packager(world)
    packager.frozen_at = 8.0

    def text() -> str:
        if world.seconds > 60:
            packager.frozen_at = None
        return packager.text()

    server.answers["/live.m3u8"] = scripted(text)
    items = await watch_one(server, world)
    stale = [item for item in items if isinstance(item, SegmentFailure) and item.reason == "stale"]

    assert [(item.segment.starts_at - NOON).total_seconds() for item in stale] == [20, 32, 44, 56]
    assert len({item.id for item in stale}) == 4
    assert {item.segment.sequence for item in stale} == {107}
    assert all(item.segment.url.startswith(server.url("/live.m3u8;at=2026")) for item in stale)
    others = [segment_of(item).sequence for item in items if item not in stale]
    assert others == list(range(100, 100 + len(others)))
    assert others[-1] > 120


async def test_a_playlist_that_only_pauses_is_not_stale(server: Server) -> None:
    """A segment that comes two targets late is late, not lost."""
    world = World(ends=60)
    packager = Packager(world)
    packager.frozen_at = 8.0

    def text() -> str:
        packager.frozen_at = 8.0 if world.seconds < 17 else None
        return packager.text()

    server.answers["/live.m3u8"] = scripted(text)
    assert reasons(await watch_one(server, world)) == []


@pytest.mark.parametrize(
    "trouble",
    [
        Answer(status=404),
        Answer(status=503),
        Answer(b"<html>Sorry</html>"),
        Answer(b"#EXTM3U\n#EXTINF:x,\na.ts"),
        Answer(),
    ],
)
async def test_a_broken_playlist_is_an_outcome_and_the_lane_recovers(server: Server, trouble: Answer) -> None:
    """Said no more often than a stale one, and what left the window meanwhile is accounted for."""
    world = World(ends=120)
    packager = Packager(world)
    server.answers["/live.m3u8"] = scripted(lambda: trouble if 10 < world.seconds < 70 else packager.text())
    items = await watch_one(server, world)

    broken = [item for item in items if isinstance(item, SegmentFailure) and item.reason == "playlist"]
    assert 2 <= len(broken) <= 5
    assert len({item.id for item in broken}) == len(broken)
    others = [segment_of(item).sequence for item in items if item not in broken]
    assert others == list(range(100, 100 + len(others)))
    assert "skipped" in reasons(items)


async def test_a_rendition_that_cannot_be_read_from_the_start_says_so_at_once(server: Server) -> None:
    """The other renditions go on."""
    world = World(ends=21)
    server.answers["/m.m3u8"] = MASTER.encode()
    server.answers["/hd.m3u8"] = scripted(Packager(world).text)
    async with Fetcher(policy(server)) as fetcher:
        source = PlaylistSource(
            server.url("/m.m3u8"), stream_id="news", fetcher=fetcher, now=world.now, stop=world.stop, wait=world.wait
        )
        high, low = await source.lanes()
        low_items = [item async for item in low]
        world.stop.clear()
        world.seconds = 0
        high_items = [item async for item in high]

    assert reasons(low_items) == ["playlist", "playlist"]
    assert len(sequences(high_items)) > 5


async def test_a_packager_that_starts_anew_is_followed(server: Server) -> None:
    """Numbers fall back to zero under the same names: all of it is new, ours keep rising, and no id comes twice."""
    world = World(ends=100)
    packager = Packager(world)

    def text() -> str:
        if world.seconds >= 50 and packager.first:
            packager.first, packager.began = 0, 46.0
        return packager.text()

    server.answers["/live.m3u8"] = scripted(text)
    items = await watch_one(server, world)
    keys = [segment_of(item).key for item in items]

    assert reasons(items) == []
    assert sequences(items) == list(range(100, 100 + len(items)))
    again = next(item for item in items if isinstance(item, Segment) and item.url.split("?")[0].endswith("/s0.ts"))
    assert again.is_discontinuity
    assert len(set(keys)) == len(keys)
    assert len(items) > 25


async def test_a_lagging_cache_is_not_a_packager_that_starts_anew(server: Server) -> None:
    """An old copy now and then brings nothing, and nothing twice."""
    world = World(ends=100)
    packager, looks = Packager(world), 0

    def text() -> str:
        nonlocal looks
        looks += 1
        packager.frozen_at = world.seconds - 12 if looks % 3 == 0 else None
        return packager.text()

    server.answers["/live.m3u8"] = scripted(text)
    items = await watch_one(server, world)

    assert reasons(items) == []
    assert sequences(items) == list(range(100, 100 + len(items)))


async def test_a_live_playlist_that_ends_ends_the_lane(server: Server) -> None:
    """ENDLIST."""
    world = World(ends=1000)
    packager = Packager(world)

    def text() -> str:
        packager.is_ended = world.seconds > 30
        packager.frozen_at = 30.0
        return packager.text()

    server.answers["/live.m3u8"] = scripted(text)
    items = await watch_one(server, world)

    assert not world.stop.is_set()
    assert sequences(items) == list(range(100, 112))


async def test_a_stop_ends_the_wait_at_once() -> None:
    """No one waits for a target duration at the end."""
    stop = asyncio.Event()
    asyncio.get_running_loop().call_soon(stop.set)
    async with asyncio.timeout(5):
        await wait_or_stop(stop, 1e6)


async def test_a_stop_between_two_segments_ends_the_lane(server: Server) -> None:
    """What was given out is finished, the rest is left to the next start."""
    world = World()
    server.answers["/live.m3u8"] = scripted(Packager(world).text)
    async with Fetcher(policy(server)) as fetcher:
        source = PlaylistSource(
            server.url("/live.m3u8"), stream_id="news", fetcher=fetcher, now=world.now, stop=world.stop, wait=world.wait
        )
        (lane,) = await source.lanes()
        taken = []
        async for item in lane:
            taken.append(item)
            world.stop.set()
    assert len(taken) == 1


# --- master playlists -----------------------------------------------------------------------------------------------

MASTER = """#EXTM3U
#EXT-X-DEFINE:NAME="token",VALUE="abc"
#EXT-X-STREAM-INF:BANDWIDTH=3000000,RESOLUTION=1280x720,CODECS="avc1.4d"
hd.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=800000,RESOLUTION=640x360
sd.m3u8
"""
VOD = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n{}0.ts\n#EXTINF:4,\n{}1.ts\n#EXT-X-ENDLIST"


async def test_each_rendition_is_a_lane(server: Server) -> None:
    """Named, sized and labelled."""
    server.answers = {
        "/m.m3u8": MASTER.encode(),
        "/hd.m3u8": VOD.format("h", "h").encode(),
        "/sd.m3u8": VOD.format("s", "s").encode(),
    }
    lanes = await watch(server, World(), "/m.m3u8", labels={"site": "north"})

    assert list(lanes) == ["news/720p", "news/360p"]
    rendition = segment_of(lanes["news/720p"][0]).rendition
    assert (rendition.width, rendition.height, rendition.bitrate_kbps, rendition.codecs, rendition.labels) == (
        1280, 720, 3000.0, "avc1.4d", {"site": "north"},
    )  # fmt: skip
    assert [segment_of(item).url for item in lanes["news/360p"]] == [server.url("/s0.ts"), server.url("/s1.ts")]


async def test_renditions_are_taken_by_name_and_a_missing_one_says_so(server: Server) -> None:
    """A lane for each name that was asked for."""
    server.answers = {"/m.m3u8": MASTER.encode(), "/sd.m3u8": VOD.format("s", "s").encode()}
    lanes = await watch(server, World(), "/m.m3u8", renditions=("360p", "2160p"))

    assert sequences(lanes["news/360p"]) == [0, 1]
    assert set(reasons(lanes["news/2160p"])) == {"playlist"}
    assert isinstance(lanes["news/2160p"][0], SegmentFailure)
    assert "720p" in lanes["news/2160p"][0].detail


async def test_an_address_that_expired_is_looked_up_anew(server: Server) -> None:
    """Signed addresses of media playlists end; the master playlist has fresh ones."""
    world = World(ends=60)
    packager = Packager(world)
    server.answers = {
        "/m.m3u8": scripted(lambda: f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n/live-{world.seconds // 20:.0f}.m3u8"),
        **{
            f"/live-{number}.m3u8": scripted(
                lambda number=number: packager.text() if world.seconds // 20 == number else Answer(status=403)
            )
            for number in range(4)
        },
    }
    items = await watch_one(server, world, "/m.m3u8")

    assert reasons(items) == []
    assert sequences(items) == list(range(100, 100 + len(items)))
    assert len(items) > 15


async def test_addresses_start_from_where_the_playlist_was_found(server: Server) -> None:
    """After redirects of the master and of the media playlist; variables of the master may be imported."""
    server.answers = {
        "/m.m3u8": Answer(status=302, headers={"Location": "/a/m.m3u8"}),
        "/a/m.m3u8": MASTER.encode(),
        "/a/hd.m3u8": Answer(status=302, headers={"Location": "/b/c/hd.m3u8?x=1"}),
        "/b/c/hd.m3u8": b'#EXTM3U\n#EXT-X-DEFINE:IMPORT="token"\n#EXTINF:4,\ns.ts?t={$token}\n#EXT-X-ENDLIST',
    }
    lanes = await watch(server, World(), "/m.m3u8", renditions=("720p",))
    assert [segment_of(item).url for item in lanes["news/720p"]] == [server.url("/b/c/s.ts?t=abc")]


@pytest.mark.parametrize(
    "answer",
    [Answer(status=404), b"", b"hello", b"<html></html>", b"<MPD", b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=x\na"],
)
async def test_what_cannot_be_listed_at_all_is_raised(server: Server, answer: Any) -> None:
    """The caller decides when to try again."""
    server.answers["/live.m3u8"] = answer
    with pytest.raises(SegmentError) as caught:
        await watch(server, World())
    assert (caught.value.reason, caught.value.stage) == ("playlist", "source")


# --- live DASH ------------------------------------------------------------------------------------------------------


def dash(world: World, *, kind: str = "dynamic", until: float | None = None) -> str:
    ends = f'mediaPresentationDuration="PT{until}S"' if until else 'minimumUpdatePeriod="PT2S"'
    return f"""<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="{kind}" {ends} timeShiftBufferDepth="PT20S"
      availabilityStartTime="{(NOON - timedelta(hours=1)).isoformat()}"><Period id="0" start="PT0S">
      <AdaptationSet mimeType="video/mp4"><SegmentTemplate media="$RepresentationID$-$Number$.m4s"
      initialization="$RepresentationID$.mp4" duration="4" startNumber="0"/>
      <Representation id="hd" height="720" bandwidth="2000000"/><Representation id="sd" height="360" bandwidth="1"/>
      </AdaptationSet></Period></MPD>"""


async def test_a_live_mpd_gives_each_segment_once(server: Server) -> None:
    """By the wall clock, with moments, numbered by them; the lane ends when the stream has become a recording."""
    world = World(ends=1000)
    server.answers["/live.mpd"] = scripted(
        lambda: dash(world) if world.seconds < 40 else dash(world, kind="static", until=3640)
    )
    items = await watch_one(server, world, "/live.mpd", renditions=("720p",))
    segments = [segment_of(item) for item in items]

    assert reasons(items) == []
    # Twenty seconds back from the start, forty on; the one that was not complete at the start came later.
    names = [segment.url.rsplit("/")[-1] for segment in segments]
    assert names == [f"hd-{number}.m4s" for number in range(895, 910)]
    assert [segment.starts_at for segment in segments[:2]] == [
        NOON - timedelta(seconds=20),
        NOON - timedelta(seconds=16),
    ]
    assert not world.stop.is_set()
    assert segments[0].init_url == server.url("/hd.mp4")


async def test_a_restart_on_a_live_mpd_goes_on_and_reports_what_is_lost(server: Server) -> None:
    """Numbers are moments, so lost segments are counted by time."""
    world = World(ends=6)
    server.answers["/live.mpd"] = scripted(lambda: dash(world))
    first = await watch_one(server, world, "/live.mpd", renditions=("360p",))
    cursor = cursor_after(first[-1], "news/360p")
    world.stop.clear()
    for away, lost in ((1.0, 0), (40.0, 8)):
        world.stop.clear()
        world.seconds += away
        world.ends = world.seconds + 1
        items = await watch_one(server, world, "/live.mpd", renditions=("360p",), resume={"news/360p": cursor})
        assert reasons(items) == ["skipped"] * lost
        numbers = [segment_of(item).sequence for item in items]
        assert numbers == [cursor.sequence + 4000 * (number + 1) for number in range(len(items))]


async def test_the_lanes_of_one_mpd_read_it_together(server: Server) -> None:
    """Two renditions at the same moment cost one request."""
    world = World()
    server.answers["/live.mpd"] = scripted(lambda: dash(world))
    async with Fetcher(policy(server)) as fetcher:
        source = PlaylistSource(
            server.url("/live.mpd"), stream_id="news", fetcher=fetcher, now=world.now, stop=world.stop, wait=world.wait
        )
        lanes = await source.lanes()
        for step in range(3):
            world.seconds = step * 10.0
            for lane in lanes:
                await anext(aiter(lane))
    assert server.count("/live.mpd") == 4


# --- what is new ----------------------------------------------------------------------------------------------------


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


def follower(cursor: LaneCursor | None = None) -> PlaylistFollower:
    return PlaylistFollower(MAIN, "http://h/live.m3u8", cursor=cursor)


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(1, 8)), min_size=1, max_size=20), st.integers(0, 10**6))
def test_every_number_comes_out_exactly_once(looks: list[tuple[int, int]], first: int) -> None:
    """Whatever the window's size and however late we look: taken or skipped, in order, without holes."""
    following, newest, items = follower(), first, []
    for advance, window in looks:
        newest += advance
        items += following.update(listing(range(max(first, newest - window), newest + 1)), NOON)
    numbers = [segment_of(item).sequence for item in items]
    assert numbers == list(range(numbers[0], newest + 1))
    keys = {segment_of(item).key for item in items}
    assert len(keys) == len(items)


@given(st.integers(1, 30), st.data())
def test_a_vod_that_is_taken_in_pieces_is_taken_once(count: int, data: st.DataObject) -> None:
    """Killed anywhere, any number of times: every segment once, with the same keys as in one go."""
    whole = follower().update(listing(range(count), is_ended=True), NOON)
    cursor, keys = None, []
    while cursor is None or cursor.sequence < count - 1:
        rest = follower(cursor).update(listing(range(count), is_ended=True), NOON)
        taken = rest[: data.draw(st.integers(1, len(rest)))]
        keys += [segment_of(item).key for item in taken]
        cursor = cursor_after(taken[-1])
    assert keys == [segment_of(item).key for item in whole]
    assert follower(cursor).update(listing(range(count), is_ended=True), NOON) == []


@given(st.lists(st.lists(st.integers(0, 60), min_size=1, max_size=9).map(sorted), max_size=12), st.integers(0, 60))
def test_numbers_never_fall_whatever_is_listed(listed: list[list[int]], start: int) -> None:
    """A packager out of its mind does not make us give out one number twice."""
    before = Segment(rendition=MAIN, sequence=start, url="http://h/x.ts", starts_at=NOON)
    following, numbers, now = follower(cursor_after(before)), [start], NOON
    for look in listed:
        now += timedelta(seconds=5)
        numbers += [segment_of(item).sequence for item in following.update(listing(sorted(set(look))), now)]
    assert numbers == sorted(set(numbers))


def test_after_a_restart_of_both_the_constant_is_found_again() -> None:
    """The packager started anew, we went on counting, and then we were restarted, too."""
    following = follower()
    following.update(listing(range(1000, 1006)), NOON)
    anew = following.update(listing(range(6), name="n"), NOON)
    assert [segment_of(item).sequence for item in anew] == list(range(1006, 1012))

    resumed = follower(cursor_after(anew[3])).update(listing(range(2, 8), name="n"), NOON)
    assert [segment_of(item).sequence for item in resumed] == [1010, 1011, 1012, 1013]


def test_a_short_stream_that_starts_anew_under_the_same_names_is_found_out_in_time() -> None:
    """It looks like an old copy at first; an old copy would have healed."""
    following = follower()
    following.update(listing(range(6)), NOON)
    looks = [following.update(listing(range(3)), NOON + timedelta(seconds=seconds)) for seconds in (4, 8, 12, 16, 20)]
    assert [len(items) for items in looks] == [0, 0, 0, 3, 0]
    assert [segment_of(item).sequence for item in looks[3]] == [6, 7, 8]


def test_numbers_that_jump_ahead_are_a_new_count_not_a_thousand_lost_segments() -> None:
    """Four seconds cannot hold a million segments."""
    following = follower()
    following.update(listing(range(6)), NOON)
    items = following.update(listing(range(1_000_000, 1_000_006)), NOON + timedelta(seconds=4))
    assert reasons(items) == []
    assert sequences(items) == list(range(6, 12))


def test_a_very_long_absence_is_reported_within_bounds() -> None:
    """The newest thousand, and how many there were."""
    before = Segment(rendition=MAIN, sequence=0, url="http://h/s0.ts", starts_at=NOON, duration_seconds=4)
    items = follower(cursor_after(before)).update(listing(range(5001, 5006)), NOON)
    lost = [item for item in items if isinstance(item, SegmentFailure)]
    assert (len(lost), lost[0].segment.sequence, lost[-1].segment.sequence) == (MAX_SKIPPED, 4001, 5000)
    assert "5000 in a row" in lost[0].detail
    assert lost[-1].segment.ends_at == segment_of(items[-5]).starts_at


def test_after_an_outage_an_undated_timeline_goes_on_at_the_present() -> None:
    """An hour without segments is an hour, also when the numbers go on."""
    following = follower()
    following.update(listing(range(6)), NOON)
    (item,) = following.update(listing(range(1, 7)), NOON + timedelta(hours=1))
    assert segment_of(item).ends_at == NOON + timedelta(hours=1)


def test_an_empty_playlist_brings_nothing() -> None:
    """A stream that has not begun yet."""
    assert follower().update(listing([]), NOON) == []


def test_silence_is_said_by_the_setting_when_there_is_one() -> None:
    """stale_after_seconds overrules three target durations."""
    silence = StalenessMonitor(MAIN, "http://h/a.m3u8?token=1", stale_after_seconds=30)
    silence.record_progress(NOON)
    moments = [NOON + timedelta(seconds=seconds) for seconds in range(0, 100, 10)]
    said = [silence.check(moment, target_seconds=4, error=None, sequence=7) for moment in moments]
    assert [moments[index] for index, failure in enumerate(said) if failure] == [
        NOON + timedelta(seconds=seconds) for seconds in (30, 60, 90)
    ]
    assert said[3] is not None
    assert said[3].segment.url == "http://h/a.m3u8;at=20260101T120030.000000Z"


# --- everything an address lists --------------------------------------------------------------------------------------


async def test_an_address_is_told_by_its_content_not_by_its_name(server: Server) -> None:
    """A playlist named like a film, a film named like a playlist."""
    server.answers = {"/film.mp4": VOD.format("s", "s").encode(), "/live.m3u8": b"\x00\x00\x00\x18ftypisom" * 9999}
    async with Fetcher(policy(server)) as fetcher:
        listed = await list_segments(server.url("/film.mp4?t=1"), fetcher=fetcher, now=NOON)
        (film,) = await list_segments(server.url("/live.m3u8"), fetcher=fetcher, now=NOON)

    assert [segment_of(item).url for item in listed] == [server.url("/s0.ts"), server.url("/s1.ts")]
    assert [segment_of(item).starts_at for item in listed] == [NOON, NOON + timedelta(seconds=4)]
    assert (segment_of(film).url, segment_of(film).rendition.key) == (server.url("/live.m3u8"), "live.m3u8/file")


async def test_one_broken_rendition_leaves_the_others(server: Server) -> None:
    """Its failure stands where its segments would."""
    server.answers = {"/m.m3u8": MASTER.encode(), "/sd.m3u8": VOD.format("s", "s").encode()}
    async with Fetcher(policy(server)) as fetcher:
        items = await list_segments(server.url("/m.m3u8"), fetcher=fetcher, now=NOON)
    assert [segment_of(item).rendition.key for item in items] == ["m.m3u8/720p", "m.m3u8/360p", "m.m3u8/360p"]
    assert reasons(items) == ["playlist"]


@pytest.mark.parametrize(("last", "ended"), [("#EXT-X-ENDLIST\n", {"720p"}), ("", set())])
async def test_what_is_listed_tells_what_has_ended(server: Server, last: str, ended: set[str]) -> None:
    """A playlist to which more may be added has not, nor has one that cannot be read."""
    listing = VOD.format("s", "s").replace("#EXT-X-ENDLIST\n", "").replace("#EXT-X-ENDLIST", "")
    listing = listing.replace("#EXT-X-PLAYLIST-TYPE:VOD\n", "") + last
    server.answers = {"/m.m3u8": MASTER.encode(), "/hd.m3u8": listing.encode()}
    async with Fetcher(policy(server)) as fetcher:
        found = await discover_segments(server.url("/m.m3u8"), fetcher=fetcher, now=NOON)
    assert found.ended_renditions == ended
    assert reasons(found.items) == ["playlist"]


async def test_what_cannot_be_read_at_all_is_raised(server: Server, tmp_path: Path) -> None:
    """With the reason of the fetch."""
    async with Fetcher(policy(server, tmp_path)) as fetcher:
        for address, reason in (
            (server.url("/none.ts"), "not_found"),
            (str(tmp_path / "none.ts"), "file"),
            ("https://example.com/a.ts", "refused"),
        ):
            with pytest.raises(FetchError) as caught:
                await list_segments(address, fetcher=fetcher, now=NOON)
            assert caught.value.reason == reason


EXPECTED = {
    "dash-aes-128/dash.mpd": (4, []),
    "dash-multi-codec/dash.mpd": (15, []),
    "hls-aes-256/media.m3u8": (5, []),
    "hls-gap/playlist.m3u8": (6, ["gap", "gap"]),
    "hls-mp4-muxed-aac-h264/hls.m3u8": (1, []),
    "hls-multivideo/master.m3u8": (6, []),
    "hls-muxed-mp4-ts/master.m3u8": (1, ["file"]),
    "hls-ts-b-frames/index.m3u8": (1, []),
    "hls-ts-h264/prog_index.m3u8": (6, []),
    "hls-ts-h265/hevc.m3u8": (2, []),
    "hls-ts-rollover/playlist.m3u8": (10, []),
}


@pytest.mark.fixtures
@pytest.mark.parametrize("name", EXPECTED)
async def test_every_segment_of_a_real_stream_can_be_fetched(shared: Path, name: str) -> None:
    """Joined and decrypted: each begins as MPEG-TS or with an initialization section and a fragment."""
    count, failed = 0, []
    async with Fetcher(FetchPolicy(file_roots=(shared,))) as fetcher:
        for item in await list_segments(str(shared / "streams" / name), fetcher=fetcher, now=NOON):
            if isinstance(item, SegmentFailure):
                failed.append(item.reason)
                continue
            try:
                media = await fetcher.fetch(item)
            except FetchError as error:
                failed.append(error.reason)
                continue
            count += 1
            assert media[0] == 0x47 if item.init_url is None else media[4:8] == b"ftyp" and b"moof" in media
    assert (count, failed) == EXPECTED[name]
