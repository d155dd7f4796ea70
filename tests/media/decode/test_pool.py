"""The pool: what comes back, what is refused, and that nothing foreign brings it down."""

import asyncio
import os
import random
import signal
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.media.clips import clip, ffmpeg, x264
from tests.media.faults import damaged
from vqmon.core.types import SIGNALS, View
from vqmon.errors import DecodeError
from vqmon.media.decode.pool import DecodeLimits, DecoderPool

SMALL = View(kind="stretch", width=64, height=36)
FIT = View(kind="fit", width=64, height=64, pad_rgb=(1, 2, 3))
TILES = View(kind="tiles", width=128, height=96, short_side=128, columns=4, rows=3)


def moving(seconds: float = 3) -> bytes:
    return clip(*x264(), seconds=seconds)


async def refused(media: bytes, *, limits: DecodeLimits | None = None, **options: object) -> str:
    """The reason for which a pool refuses some bytes."""
    async with DecoderPool(1, limits=limits) as pool:
        with pytest.raises(DecodeError) as caught:
            await pool.decode(media, views=[SMALL], **options)  # type: ignore[arg-type]
        assert caught.value.detail
        return caught.value.reason


async def test_a_segment_comes_back_whole() -> None:
    """Times, views, signals, thumbnails, facts and fingerprints of one segment."""
    async with DecoderPool(1) as pool:
        decoded = await pool.decode(moving(), views=[SMALL, FIT, TILES], thumbnail_width=160)
    assert decoded.times_seconds == pytest.approx((0, 1, 2))
    assert set(decoded.views) == {SMALL, FIT, TILES}
    assert set(decoded.signals) == set(SIGNALS)
    assert decoded.signals["decode_errors"] == (0.0, 0.0, 0.0)
    assert all(picture.startswith(b"\xff\xd8") for picture in decoded.thumbnails)
    assert len(decoded.thumbnails) == 3
    media = decoded.media
    assert (media.container, media.codec, media.width, media.height) == ("mpegts", "h264", 320, 180)
    assert media.fps == pytest.approx(25)
    assert media.duration_seconds == pytest.approx(3, abs=0.01)
    assert (media.frame_count, media.colour) == (75, "bt601/limited (guessed)")
    assert decoded.edges[0] != decoded.edges[1]


async def test_the_versions_are_known() -> None:
    """The worker says which libraries it decodes with."""
    async with DecoderPool(1) as pool:
        assert {"av", "libavcodec", "libavformat", "libswscale"} <= set(pool.versions)


async def test_signals_and_thumbnails_are_made_only_when_asked_for() -> None:
    """Nothing asked for, nothing given."""
    async with DecoderPool(1) as pool:
        decoded = await pool.decode(moving(), views=[], signals=("blur",))
    assert (set(decoded.signals), decoded.thumbnails, decoded.views) == ({"blur"}, (), {})


async def test_fit_pads_and_tiles_are_cut_as_documented() -> None:
    """`fit` pads above and below a wide picture; `tiles` shows parts of the picture at its own scale."""
    whole = View(kind="stretch", width=228, height=128)
    async with DecoderPool(1) as pool:
        decoded = await pool.decode(moving(), views=[FIT, TILES, whole], signals=())
    fit, tiles, picture = (decoded.views[view][0] for view in (FIT, TILES, whole))
    assert (fit[0] == (1, 2, 3)).all()
    assert (fit[-1] == (1, 2, 3)).all()
    assert not (fit[32] == (1, 2, 3)).all()
    # column 1 of 4, row 2 of 3: 32 x 32 pixels centred in a cell of 57 x 42.7
    left, top = int(1.5 * 57 - 16 + 0.5), int(2.5 * 128 / 3 - 16 + 0.5)
    assert np.array_equal(tiles[64:96, 32:64], picture[top : top + 32, left : left + 32])


async def test_square_pixels_and_rotation_are_applied(tmp_path: Path) -> None:
    """A 2:1 pixel doubles the width, a quarter turn swaps the sides, and the picture is turned clockwise."""
    red_left = "color=red:size=64x32:rate=25:duration=1,drawbox=x=32:w=32:h=32:color=blue:t=fill,setsar=2"
    (tmp_path / "plain.mp4").write_bytes(clip(*x264(), source=red_left, container="mp4"))
    turned = tmp_path / "turned.mp4"
    ffmpeg("-display_rotation", "-90", "-i", str(tmp_path / "plain.mp4"), "-c", "copy", "-y", str(turned))
    async with DecoderPool(1) as pool:
        plain = await pool.decode((tmp_path / "plain.mp4").read_bytes(), views=[])
        decoded = await pool.decode(turned.read_bytes(), views=[SMALL])
    assert (plain.media.width, plain.media.height, plain.media.rotation_degrees) == (128, 32, 0)
    assert (decoded.media.width, decoded.media.height, decoded.media.rotation_degrees) == (32, 128, 90)
    top, bottom = decoded.views[SMALL][0][4].mean(axis=0), decoded.views[SMALL][0][-4].mean(axis=0)
    assert top[0] > 200 > 60 > top[2]
    assert bottom[2] > 200 > 60 > bottom[0]


async def test_many_at_once_share_the_workers() -> None:
    """More decodes than workers wait for their turn and give what one alone gives."""
    async with DecoderPool(2) as pool:
        alone = await pool.decode(moving(), views=[SMALL])
        many = await asyncio.gather(*(pool.decode(moving(), views=[SMALL]) for _ in range(8)))
    for decoded in many:
        assert np.array_equal(decoded.views[SMALL], alone.views[SMALL])
        assert decoded.signals == alone.signals


@pytest.mark.parametrize(
    ("media", "reason"),
    [
        (b"", "empty"),
        (b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/secret.ts\n", "not_media"),
        (b"v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n", "not_media"),
        (b"concat:/etc/hostname|/etc/passwd", "not_media"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", "not_media"),
        (bytes(5000), "not_media"),
        (b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isomiso2", "corrupt"),
        (b"\x1a\x45\xdf\xa3" + bytes(50), "corrupt"),
        (b"\x1f\x43\xb6\x75" + bytes(50), "missing_init"),
        (b"\x00\x00\x00\x10moof" + bytes(8) + b"\x00\x00\x00\x10mdat" + bytes(8), "missing_init"),
        (b"\x00\x00\x00\x20moov\x00\x00\x00\x18encv\x00\x00\x00\x10sinf" + bytes(8), "encrypted"),
        ((b"\x47\x01\x00\x90" + bytes(184)) * 50, "encrypted"),
    ],
)
async def test_what_is_no_media_is_refused_by_name(media: bytes, reason: str) -> None:
    """Text, playlists, session descriptions, fragments without a head and encrypted media never reach a codec."""
    assert await refused(media) == reason


async def test_a_playlist_opens_nothing() -> None:
    """Neither a playlist nor a session description makes the worker open a socket or a connection."""
    hits = 0

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal hits
        hits += 1
        writer.close()

    server = await asyncio.start_server(count, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    texts = [
        f"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:{port}/a.ts\n",
        f"v=0\nc=IN IP4 127.0.0.1\nm=video {port} RTP/AVP 96",
    ]
    async with server, DecoderPool(1) as pool:
        before = open_files(pool.idle_pids[0])
        for text in texts:
            with pytest.raises(DecodeError):
                await pool.decode(text.encode(), views=[SMALL])
        assert open_files(pool.idle_pids[0]) == before
    assert hits == 0


def open_files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


async def test_audio_alone_has_no_video() -> None:
    """A segment of sound is refused as such."""
    sound = ffmpeg("-f", "lavfi", "-i", "sine=duration=1", "-c:a", "aac", "-f", "mpegts", "-")
    assert await refused(sound) == "no_video"


async def test_an_unlisted_codec_is_refused() -> None:
    """Codecs that nobody streams are not given to libav."""
    media = clip("-c:v", "ffv1", container="matroska", seconds=0.4)
    assert await refused(media) in ("unsupported_codec", "corrupt")


async def test_pictures_that_are_too_large_are_refused() -> None:
    """A few kilobytes that unfold to 8K pictures are refused before they are decoded."""
    source = "color=red:size=7680x4320:rate=25:duration=0.2"
    assert await refused(clip(*x264("-preset", "ultrafast"), source=source)) == "too_many_pixels"


async def test_segments_that_hold_too_much_are_refused() -> None:
    """Frames, samples and duration are bounded."""
    assert await refused(moving(), limits=DecodeLimits(max_frames=50)) == "too_long"
    assert await refused(moving(), limits=DecodeLimits(max_samples=2)) == "too_long"
    assert await refused(moving(), limits=DecodeLimits(max_duration_seconds=2)) == "too_long"
    assert await refused(moving(), limits=DecodeLimits(max_media_bytes=100)) == "too_long"


@pytest.mark.fixtures
@pytest.mark.parametrize("name", ["hdr10-video-with-sdr-container.mp4", "sample_with_color_info.mp4"])
async def test_hdr_can_be_refused(name: str, shared: Path) -> None:
    """PQ and HLG are refused by name when the settings say so."""
    assert await refused((shared / "clips" / name).read_bytes(), hdr="refuse") == "hdr"


async def test_a_deadline_kills_the_worker_and_the_pool_lives() -> None:
    """What takes too long is a timeout; the next segment gets a fresh worker."""
    reasons: list[str] = []
    async with DecoderPool(1, limits=DecodeLimits(deadline_seconds=2), on_replace=reasons.append) as pool:
        os.kill(pool.idle_pids[0], signal.SIGSTOP)
        with pytest.raises(DecodeError) as caught:
            await pool.decode(moving(), views=[SMALL])
        assert caught.value.reason == "timeout"
        assert len((await pool.decode(moving(), views=[SMALL])).times_seconds) == 3
    assert reasons == ["timeout"]


async def test_a_dead_worker_is_replaced() -> None:
    """A worker that dies in the middle of a segment is a crash of that segment only."""
    async with DecoderPool(1) as pool:
        pid = pool.idle_pids[0]
        os.kill(pid, signal.SIGSTOP)
        decoding = asyncio.ensure_future(pool.decode(moving(), views=[SMALL]))
        await asyncio.sleep(0.05)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(DecodeError) as caught:
            await decoding
        assert caught.value.reason == "crashed"
        assert len((await pool.decode(moving(), views=[SMALL])).times_seconds) == 3
        assert pool.replacements == {"crashed": 1}


async def test_a_cancelled_decode_leaves_no_stale_answer() -> None:
    """The worker of a cancelled decode is killed, so that its answer is not taken for the next segment's."""
    async with DecoderPool(1) as pool:
        decoding = asyncio.ensure_future(pool.decode(moving(9), views=[SMALL]))
        await asyncio.sleep(0.01)
        decoding.cancel()
        with pytest.raises(asyncio.CancelledError):
            await decoding
        assert len((await pool.decode(moving(), views=[SMALL])).times_seconds) == 3
        assert pool.replacements == {"cancelled": 1}


async def test_views_are_ours_once_given() -> None:
    """The views of a segment do not change when a later one is written to the shared memory, however large."""
    large = View(kind="stretch", width=3840, height=2160)
    async with DecoderPool(1) as pool:
        first = await pool.decode(moving(), views=[SMALL, large], signals=())
        kept = {view: pixels.copy() for view, pixels in first.views.items()}
        await pool.decode(clip(*x264(), source="color=red:size={size}:rate={rate}:duration={seconds}"), views=[large])
        again = await pool.decode(moving(), views=[SMALL, large], signals=())
    for view, pixels in kept.items():
        assert np.array_equal(first.views[view], pixels)
        assert np.array_equal(again.views[view], pixels)


async def test_views_that_need_too_much_are_refused() -> None:
    """There is room for so many bytes of views and no more."""
    assert await refused(moving(), limits=DecodeLimits(max_view_bytes=2 * 64 * 36 * 3)) == "too_long"


async def test_workers_are_recycled() -> None:
    """After so many segments a worker makes room for a fresh one."""
    async with DecoderPool(1, recycle_after=2) as pool:
        pids = []
        for _ in range(4):
            pids.append(pool.idle_pids)
            await pool.decode(moving(1), views=[SMALL], signals=())
        assert pool.replacements == {"recycled": 2}


@pytest.mark.skipif(sys.platform != "linux", reason="the memory is read from /proc")
async def test_the_memory_of_a_worker_stays_flat() -> None:
    """Once it has seen every kind of segment, a worker needs no more for many than for one."""
    kinds = [
        clip(*x264(), size="1280x720", seconds=2),
        clip(*x264(), size="1280x720", seconds=2, container="mp4"),
        clip("-c:v", "mpeg2video", "-b:v", "4M", size="1024x576", seconds=2),
    ]
    resident: list[int] = []
    async with DecoderPool(1) as pool:
        for turn in range(12):
            for media in kinds:
                await pool.decode(media, views=[SMALL], thumbnail_width=64)
            if turn >= 3:
                resident.append(resident_bytes(pool.idle_pids[0]))
        assert pool.replacements == {}
    assert max(resident) - min(resident) < 4_000_000


def resident_bytes(pid: int) -> int:
    return int(facts_of(pid, "statm").split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def test_workers_end_with_the_pool() -> None:
    """No process is left behind."""
    async with DecoderPool(2) as pool:
        pids = pool.idle_pids
        assert len(pids) == 2
    assert not [pid for pid in pids if is_running(pid)]


def is_running(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def facts_of(pid: int, name: str) -> str:
    return Path(f"/proc/{pid}/{name}").read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="the limits are read from /proc")
async def test_workers_have_given_up_their_rights() -> None:
    """No core dumps, no written files, few open files, bounded memory, no new privileges."""
    async with DecoderPool(1) as pool:
        pid = pool.idle_pids[0]
        limits, status = facts_of(pid, "limits"), facts_of(pid, "status")
    for name, value in (("core file size", "0"), ("file size", "0"), ("open files", "32"), ("processes", "0")):
        row = next(line for line in limits.splitlines() if f"Max {name}" in line)
        assert row.removeprefix(f"Max {name}").split()[:2] == [value, value]
    address_space = next(line for line in limits.splitlines() if "Max address space" in line).split()[3]
    assert int(address_space) == DecodeLimits().memory_bytes + DecodeLimits().max_view_bytes
    assert "NoNewPrivs:\t1" in status


@pytest.mark.fixtures
async def test_every_fault_and_its_mutations_get_a_reason(shared: Path) -> None:
    """Hundreds of damaged files: each is decoded or refused by name, and the pool lives on."""
    chance = random.Random(20260821)
    faults = sorted((shared / "faults").iterdir())
    clips = [path for path in sorted((shared / "clips").iterdir()) if path.stat().st_size < 150_000]
    streams = [path for path in sorted((shared / "streams").rglob("*.ts")) if path.stat().st_size < 300_000]
    found: Counter[str] = Counter()
    async with DecoderPool(2) as pool:

        async def look(media: bytes) -> None:
            try:
                await pool.decode(media, views=[SMALL], thumbnail_width=64)
                found["decoded"] += 1
            except DecodeError as error:
                found[error.reason] += 1

        for path in faults:
            await look(path.read_bytes())
        pictures = [path.read_bytes() for path in (*faults, *clips, *streams[:12]) if path.stat().st_size]
        for _ in range(150):
            await asyncio.gather(*(look(damaged(chance.choice(pictures), chance)) for _ in range(2)))
        await look(moving())
    assert found.total() == len(faults) + 301
    assert found["crashed"] == found["timeout"] == 0
    assert found["decoded"] > 100
