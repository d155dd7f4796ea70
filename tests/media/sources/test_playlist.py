"""Playlist sources: lanes, cursors, reload intervals, failures and discovery."""

import asyncio
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from tests.media.loopback import Answer, Server
from tests.media.sources.rig import (
    MAIN,
    MASTER,
    NOON,
    TARGET,
    Fetcher,
    ManualClock,
    Packager,
    collect_lanes,
    collect_single_lane,
    cursor_after,
    live_mpd,
    playlist_source,
    policy,
    reasons,
    scripted_answer,
    segment_of,
    sequences,
)
from vqmon.core.types import Segment, SegmentFailure
from vqmon.errors import FetchError
from vqmon.flow import wait_or_stop
from vqmon.media.fetch.fetcher import FetchPolicy
from vqmon.media.sources.follower import SegmentOrFailure
from vqmon.media.sources.playlist import discover_segments, list_segments


async def test_a_sliding_window_gives_each_segment_once(server: Server) -> None:
    """Five at the start, then one every four seconds; tokens in the addresses change and do not matter."""
    clock = ManualClock(ends=60)
    packager = Packager(clock)
    server.answers["/live.m3u8"] = scripted_answer(packager.text)
    items = await collect_single_lane(server, clock)

    assert sequences(items) == list(range(100, 119))
    assert reasons(items) == []


@pytest.mark.parametrize("dated", [False, True])
@pytest.mark.parametrize("hours", [-1, 1])
async def test_a_wall_clock_that_is_set_loses_and_doubles_nothing(server: Server, hours: int, dated: bool) -> None:
    """No segment is taken twice, no stream is said to be stale, and the playlist is reloaded as often as before."""
    clock = ManualClock(ends=60)
    packager = Packager(clock, dated=dated)

    def text() -> str:
        clock.step = timedelta(hours=hours) if clock.seconds > 20 else timedelta(0)
        return packager.text()

    server.answers["/live.m3u8"] = scripted_answer(text)
    items = await collect_single_lane(server, clock)
    assert sequences(items) == list(range(100, 119))
    assert reasons(items) == []
    assert max(clock.pauses) <= 4


async def test_the_timeline_of_an_undated_stream_begins_so_that_the_newest_segment_ends_now(server: Server) -> None:
    """From there it goes on without a seam."""
    clock = ManualClock(ends=40)
    server.answers["/live.m3u8"] = scripted_answer(Packager(clock).text)
    items = [segment_of(item) for item in await collect_single_lane(server, clock)]

    assert items[4].ends_at == NOON
    assert all(after.starts_at == before.ends_at for before, after in pairwise(items))


async def test_the_timeline_of_a_dated_stream_is_its_own(server: Server) -> None:
    """PROGRAM-DATE-TIME counts, whenever we look."""
    clock = ManualClock(ends=40)
    server.answers["/live.m3u8"] = scripted_answer(Packager(clock, dated=True).text)
    items = await collect_single_lane(server, clock)

    assert [segment_of(item).starts_at for item in items] == [
        NOON + timedelta(seconds=-20 + TARGET * number) for number in range(len(items))
    ]


async def test_reloads_follow_after_a_target_duration_or_half_of_it(server: Server) -> None:
    """RFC 8216 6.3.4; after failures the pauses grow."""
    clock = ManualClock(ends=70)
    packager = Packager(clock)
    packager.frozen_at = 4.0
    server.answers["/live.m3u8"] = scripted_answer(
        lambda: packager.text() if clock.seconds < 16 else Answer(status=403)
    )
    await collect_single_lane(server, clock)

    assert clock.pauses[:9] == [4, 4, 2, 2, 2, 2, 2, 4, 8]
    assert max(clock.pauses) <= 15


async def test_a_lane_can_start_with_the_newest_segment(server: Server) -> None:
    """The window's older segments are not skipped segments: nobody asked for them."""
    clock = ManualClock(ends=9)
    server.answers["/live.m3u8"] = scripted_answer(Packager(clock).text)
    items = await collect_single_lane(server, clock, start="newest")

    assert sequences(items) == [104, 105, 106]
    assert segment_of(items[0]).ends_at == NOON


async def test_a_restart_continues_after_the_cursor(server: Server) -> None:
    """What was published is not taken again, what came in between is; the timeline goes on."""
    clock = ManualClock(ends=9)
    server.answers["/live.m3u8"] = scripted_answer(Packager(clock).text)
    first = await collect_single_lane(server, clock)
    cursor = cursor_after(first[-2])
    clock.stop.clear()
    clock.ends = 20
    second = await collect_single_lane(server, clock, resume={"news/main": cursor})

    assert sequences(second)[0] == cursor.sequence + 1
    assert segment_of(second[0]).starts_at == cursor.ends_at
    assert segment_of(second[0]).key == segment_of(first[-1]).key
    assert reasons(second) == []


async def test_segments_lost_from_the_window_are_reported_one_by_one(server: Server) -> None:
    """After a minute away: ten segments lost, each with its number and its time."""
    clock = ManualClock(ends=61)
    clock.seconds = 60.0
    server.answers["/live.m3u8"] = scripted_answer(Packager(clock, dated=True).text)
    before = Segment(
        rendition=MAIN,
        sequence=104,
        url="http://h/s104.ts",
        starts_at=NOON - timedelta(seconds=4),
        duration_seconds=4,
    )
    items = await collect_single_lane(server, clock, resume={"news/main": cursor_after(before)})

    assert reasons(items) == ["skipped"] * 10
    assert [segment_of(item).sequence for item in items] == list(range(105, 120))
    assert [segment_of(item).starts_at for item in items] == [
        NOON + timedelta(seconds=TARGET * number) for number in range(15)
    ]
    assert len({item.id for item in items if isinstance(item, SegmentFailure)}) == 10


async def test_a_slow_consumer_loses_segments_but_not_their_count(server: Server) -> None:
    """While the consumer is busy the window moves on; what is lost is said, and nobody calls the stream stale."""
    clock = ManualClock(ends=200)
    server.answers["/live.m3u8"] = scripted_answer(Packager(clock).text)
    items: list[SegmentOrFailure] = []
    async with Fetcher(policy(server)) as fetcher:
        source = playlist_source(server, clock, "/live.m3u8", fetcher=fetcher)
        (lane,) = await source.lanes()
        async for item in lane:
            items.append(item)
            clock.seconds += 0 if isinstance(item, SegmentFailure) else 10

    assert set(reasons(items)) == {"skipped"}
    assert [segment_of(item).sequence for item in items] == list(range(100, 100 + len(items)))


async def test_gaps_are_failures_in_their_place_in_the_order(server: Server) -> None:
    """EXT-X-GAP."""
    text = "#EXTM3U\n#EXTINF:4,\na.ts\n#EXT-X-GAP\n#EXTINF:4,\nb.ts\n#EXTINF:4,\nc.ts\n#EXT-X-ENDLIST"
    server.answers["/vod.m3u8"] = text.encode()
    items = await collect_single_lane(server, ManualClock(), "/vod.m3u8")

    assert [type(item) for item in items] == [Segment, SegmentFailure, Segment]
    assert reasons(items) == ["gap"]
    assert isinstance(items[1], SegmentFailure)
    assert items[1].stage == "source"


async def test_a_stale_playlist_reports_failures_until_it_recovers(server: Server) -> None:
    """Every twelve seconds, each with an id of its own; then the stream goes on."""
    clock = ManualClock(ends=100)
    packager = Packager(clock)
    packager.frozen_at = 8.0

    def text() -> str:
        if clock.seconds > 60:
            packager.frozen_at = None
        return packager.text()

    server.answers["/live.m3u8"] = scripted_answer(text)
    items = await collect_single_lane(server, clock)
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
    clock = ManualClock(ends=60)
    packager = Packager(clock)
    packager.frozen_at = 8.0

    def text() -> str:
        packager.frozen_at = 8.0 if clock.seconds < 17 else None
        return packager.text()

    server.answers["/live.m3u8"] = scripted_answer(text)
    assert reasons(await collect_single_lane(server, clock)) == []


@pytest.mark.parametrize(
    "trouble",
    [
        Answer(status=404),
        Answer(status=503),
        Answer(b"<html>Sorry</html>"),
        Answer(b"#EXTM3U\n#EXT-X-I-FRAMES-ONLY"),
        Answer(),
    ],
)
async def test_a_broken_playlist_is_a_failure_and_the_lane_recovers(server: Server, trouble: Answer) -> None:
    """Said no more often than a stale one, and what left the window meanwhile is accounted for."""
    clock = ManualClock(ends=120)
    packager = Packager(clock)
    server.answers["/live.m3u8"] = scripted_answer(lambda: trouble if 10 < clock.seconds < 70 else packager.text())
    items = await collect_single_lane(server, clock)

    broken = [item for item in items if isinstance(item, SegmentFailure) and item.reason == "playlist"]
    assert 2 <= len(broken) <= 5
    assert len({item.id for item in broken}) == len(broken)
    others = [segment_of(item).sequence for item in items if item not in broken]
    assert others == list(range(100, 100 + len(others)))
    assert "skipped" in reasons(items)


async def test_a_rendition_that_cannot_be_loaded_at_first_is_reported_at_once(server: Server) -> None:
    """The other renditions go on."""
    clock = ManualClock(ends=21)
    server.answers["/m.m3u8"] = MASTER.encode()
    server.answers["/hd.m3u8"] = scripted_answer(Packager(clock).text)
    async with Fetcher(policy(server)) as fetcher:
        source = playlist_source(server, clock, "/m.m3u8", fetcher=fetcher)
        high, low = await source.lanes()
        low_items = [item async for item in low]
        clock.stop.clear()
        clock.seconds = 0
        high_items = [item async for item in high]

    assert reasons(low_items) == ["playlist", "playlist"]
    assert len(sequences(high_items)) > 5


async def test_a_restarted_packager_is_followed(server: Server) -> None:
    """Numbers fall back to zero under the same names: all of it is new, ours keep rising, and no id comes twice."""
    clock = ManualClock(ends=100)
    packager = Packager(clock)

    def text() -> str:
        if clock.seconds >= 50 and packager.first:
            packager.first, packager.began = 0, 46.0
        return packager.text()

    server.answers["/live.m3u8"] = scripted_answer(text)
    items = await collect_single_lane(server, clock)
    keys = [segment_of(item).key for item in items]

    assert reasons(items) == []
    assert sequences(items) == list(range(100, 100 + len(items)))
    restarted = next(item for item in items if isinstance(item, Segment) and item.url.split("?")[0].endswith("/s0.ts"))
    assert restarted.is_discontinuity
    assert len(set(keys)) == len(keys)
    assert len(items) > 25


async def test_a_lagging_cache_is_not_taken_for_a_restart(server: Server) -> None:
    """An old copy now and then brings nothing, and nothing twice."""
    clock = ManualClock(ends=100)
    packager, polls = Packager(clock), 0

    def text() -> str:
        nonlocal polls
        polls += 1
        packager.frozen_at = clock.seconds - 12 if polls % 3 == 0 else None
        return packager.text()

    server.answers["/live.m3u8"] = scripted_answer(text)
    items = await collect_single_lane(server, clock)

    assert reasons(items) == []
    assert sequences(items) == list(range(100, 100 + len(items)))


async def test_a_live_playlist_that_ends_ends_the_lane(server: Server) -> None:
    """ENDLIST."""
    clock = ManualClock(ends=1000)
    packager = Packager(clock)

    def text() -> str:
        packager.is_ended = clock.seconds > 30
        packager.frozen_at = 30.0
        return packager.text()

    server.answers["/live.m3u8"] = scripted_answer(text)
    items = await collect_single_lane(server, clock)

    assert not clock.stop.is_set()
    assert sequences(items) == list(range(100, 112))


async def test_a_stop_ends_the_wait_at_once() -> None:
    """No one waits for a target duration at the end."""
    stop = asyncio.Event()
    asyncio.get_running_loop().call_soon(stop.set)
    async with asyncio.timeout(5):
        await wait_or_stop(stop, 1e6)


async def test_a_stop_between_two_segments_ends_the_lane(server: Server) -> None:
    """What was given out is finished, the rest is left to the next start."""
    clock = ManualClock()
    server.answers["/live.m3u8"] = scripted_answer(Packager(clock).text)
    async with Fetcher(policy(server)) as fetcher:
        source = playlist_source(server, clock, "/live.m3u8", fetcher=fetcher)
        (lane,) = await source.lanes()
        taken = []
        async for item in lane:
            taken.append(item)
            clock.stop.set()
    assert len(taken) == 1


VOD = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n{}0.ts\n#EXTINF:4,\n{}1.ts\n#EXT-X-ENDLIST"


async def test_each_rendition_is_a_lane(server: Server) -> None:
    """Named, sized and labelled."""
    server.answers = {
        "/m.m3u8": MASTER.encode(),
        "/hd.m3u8": VOD.format("h", "h").encode(),
        "/sd.m3u8": VOD.format("s", "s").encode(),
    }
    lanes = await collect_lanes(server, ManualClock(), "/m.m3u8", labels={"site": "north"})

    assert list(lanes) == ["news/720p", "news/360p"]
    rendition = segment_of(lanes["news/720p"][0]).rendition
    assert (rendition.width, rendition.height, rendition.bitrate_kbps, rendition.codecs, rendition.labels) == (
        1280, 720, 3000.0, "avc1.4d", {"site": "north"},
    )  # fmt: skip
    assert [segment_of(item).url for item in lanes["news/360p"]] == [server.url("/s0.ts"), server.url("/s1.ts")]


async def test_a_suffix_tells_the_renditions_of_two_arms_apart(server: Server) -> None:
    """It is added to the name of the rendition, which the settings choose without it."""
    server.answers = {"/m.m3u8": MASTER.encode(), "/sd.m3u8": VOD.format("s", "s").encode()}
    lanes = await collect_lanes(server, ManualClock(), "/m.m3u8", renditions=("360p",), rendition_suffix="@v2")

    assert list(lanes) == ["news/360p@v2"]
    assert sequences(lanes["news/360p@v2"]) == [0, 1]


async def test_renditions_are_chosen_by_name_and_missing_ones_reported(server: Server) -> None:
    """A lane for each name that was asked for."""
    server.answers = {"/m.m3u8": MASTER.encode(), "/sd.m3u8": VOD.format("s", "s").encode()}
    lanes = await collect_lanes(server, ManualClock(), "/m.m3u8", renditions=("360p", "2160p"))

    assert sequences(lanes["news/360p"]) == [0, 1]
    assert set(reasons(lanes["news/2160p"])) == {"playlist"}
    assert isinstance(lanes["news/2160p"][0], SegmentFailure)
    assert "720p" in lanes["news/2160p"][0].detail


async def test_a_live_mpd_gives_each_segment_once(server: Server) -> None:
    """By the wall clock, with moments, numbered by them; the lane ends when the stream has become a recording."""
    clock = ManualClock(ends=1000)
    server.answers["/live.mpd"] = scripted_answer(
        lambda: live_mpd(clock) if clock.seconds < 40 else live_mpd(clock, kind="static", until=3640)
    )
    items = await collect_single_lane(server, clock, "/live.mpd", renditions=("720p",))
    segments = [segment_of(item) for item in items]

    assert reasons(items) == []
    # Twenty seconds back from the start, forty on; the one that was not complete at the start came later.
    names = [segment.url.rsplit("/")[-1] for segment in segments]
    assert names == [f"hd-{number}.m4s" for number in range(895, 910)]
    assert [segment.starts_at for segment in segments[:2]] == [
        NOON - timedelta(seconds=20),
        NOON - timedelta(seconds=16),
    ]
    assert not clock.stop.is_set()
    assert segments[0].init_url == server.url("/hd.mp4")


async def test_a_restart_on_a_live_mpd_continues_and_reports_lost_segments(server: Server) -> None:
    """Numbers are moments, so lost segments are counted by time."""
    clock = ManualClock(ends=6)
    server.answers["/live.mpd"] = scripted_answer(lambda: live_mpd(clock))
    first = await collect_single_lane(server, clock, "/live.mpd", renditions=("360p",))
    cursor = cursor_after(first[-1], "news/360p")
    clock.stop.clear()
    for away, lost in ((1.0, 0), (40.0, 8)):
        clock.stop.clear()
        clock.seconds += away
        clock.ends = clock.seconds + 1
        items = await collect_single_lane(
            server, clock, "/live.mpd", renditions=("360p",), resume={"news/360p": cursor}
        )
        assert reasons(items) == ["skipped"] * lost
        numbers = [segment_of(item).sequence for item in items]
        assert numbers == [cursor.sequence + 4000 * (number + 1) for number in range(len(items))]


async def test_the_kind_of_an_address_follows_from_its_content(server: Server) -> None:
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
async def test_discovery_tells_which_renditions_have_ended(server: Server, last: str, ended: set[str]) -> None:
    """A playlist to which more may be added has not, nor has one that cannot be read."""
    listing = VOD.format("s", "s").replace("#EXT-X-ENDLIST\n", "").replace("#EXT-X-ENDLIST", "")
    listing = listing.replace("#EXT-X-PLAYLIST-TYPE:VOD\n", "") + last
    server.answers = {"/m.m3u8": MASTER.encode(), "/hd.m3u8": listing.encode()}
    async with Fetcher(policy(server)) as fetcher:
        discovery = await discover_segments(server.url("/m.m3u8"), fetcher=fetcher, now=NOON)
    assert discovery.ended_renditions == ended
    assert reasons(discovery.items) == ["playlist"]


async def test_an_unreadable_address_raises_an_error(server: Server, tmp_path: Path) -> None:
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
