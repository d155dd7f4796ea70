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

from tests.file_handles import no_free_handles
from tests.media.clips import clip, ffmpeg, x264
from tests.media.decode.rig import FIT, SMALL, TILES, moving_clip, read_proc_file, refusal_reason
from tests.media.faults import damage
from vqmon.core.types import SIGNALS, View
from vqmon.errors import DecodeError
from vqmon.media.decode.pool import DecodeLimits, DecoderPool


async def test_a_segment_is_decoded_completely() -> None:
    """Times, views, signals, thumbnails, facts and fingerprints of one segment."""
    async with DecoderPool(1) as pool:
        decoded = await pool.decode(moving_clip(), views=[SMALL, FIT, TILES], thumbnail_width=160)
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


async def test_the_pool_knows_the_versions_of_its_libraries() -> None:
    """The worker says which libraries it decodes with."""
    async with DecoderPool(1) as pool:
        assert {"av", "libavcodec", "libavformat", "libswscale"} <= set(pool.versions)


async def test_signals_and_thumbnails_are_made_only_when_asked_for() -> None:
    """Nothing asked for, nothing given."""
    async with DecoderPool(1) as pool:
        decoded = await pool.decode(moving_clip(), views=[], signals=("blur",))
    assert (set(decoded.signals), decoded.thumbnails, decoded.views) == ({"blur"}, (), {})


async def test_concurrent_decodes_share_the_workers() -> None:
    """More decodes than workers wait for their turn and give what one alone gives."""
    async with DecoderPool(2) as pool:
        alone = await pool.decode(moving_clip(), views=[SMALL])
        many = await asyncio.gather(*(pool.decode(moving_clip(), views=[SMALL]) for _ in range(8)))
    for decoded in many:
        assert np.array_equal(decoded.views[SMALL], alone.views[SMALL])
        assert decoded.signals == alone.signals


@pytest.mark.parametrize(
    "media", [b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isomiso2", b"\x1a\x45\xdf\xa3" + bytes(50)]
)
async def test_a_container_without_content_is_corrupt(media: bytes) -> None:
    """The beginning of an MP4 or Matroska file alone cannot be opened."""
    assert await refusal_reason(media) == "corrupt"


async def test_playlists_make_the_worker_open_no_connection() -> None:
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
    async with server, DecoderPool(1, isolation="off") as pool:
        for text in texts:
            with pytest.raises(DecodeError):
                await pool.decode(text.encode(), views=[SMALL])
    assert hits == 0


async def test_signals_that_end_or_reload_the_daemon_end_no_decoder() -> None:
    """Ctrl-C and timeout(1) signal a process group, others every process of a container: work in flight goes on."""
    async with DecoderPool(1) as pool:
        (pid,) = pool.idle_pids
        assert os.getpgid(pid) == pid != os.getpgid(0)
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
            os.kill(pid, number)
        await pool.decode(moving_clip(), views=[SMALL])
        assert pool.idle_pids == (pid,)


async def test_audio_alone_has_no_video() -> None:
    """A segment of sound is refused as such."""
    sound = ffmpeg("-f", "lavfi", "-i", "sine=duration=1", "-c:a", "aac", "-f", "mpegts", "-")
    assert await refusal_reason(sound) == "no_video"


async def test_an_unlisted_codec_is_refused() -> None:
    """Codecs that nobody streams are not given to libav."""
    media = clip("-c:v", "ffv1", container="matroska", seconds=0.4)
    assert await refusal_reason(media) in ("unsupported_codec", "corrupt")


async def test_pictures_that_are_too_large_are_refused() -> None:
    """A few kilobytes that unfold to 8K pictures are refused before they are decoded."""
    source = "color=red:size=7680x4320:rate=25:duration=0.2"
    assert await refusal_reason(clip(*x264("-preset", "ultrafast"), source=source)) == "too_many_pixels"


async def test_segments_beyond_the_limits_are_refused() -> None:
    """Frames, samples and duration are bounded."""
    assert await refusal_reason(moving_clip(), limits=DecodeLimits(max_frames=50)) == "too_long"
    assert await refusal_reason(moving_clip(), limits=DecodeLimits(max_samples=2)) == "too_long"
    assert await refusal_reason(moving_clip(), limits=DecodeLimits(max_duration_seconds=2)) == "too_long"
    assert await refusal_reason(moving_clip(), limits=DecodeLimits(max_media_bytes=100)) == "too_long"


@pytest.mark.fixtures
@pytest.mark.parametrize("name", ["hdr10-video-with-sdr-container.mp4", "sample_with_color_info.mp4"])
async def test_hdr_can_be_refused(name: str, shared: Path) -> None:
    """PQ and HLG are refused by name when the settings say so."""
    assert await refusal_reason((shared / "clips" / name).read_bytes(), hdr="refuse") == "hdr"


async def test_a_deadline_kills_the_worker_and_the_pool_lives() -> None:
    """What takes too long is a timeout; the next segment gets a fresh worker."""
    reasons: list[str] = []
    async with DecoderPool(1, limits=DecodeLimits(deadline_seconds=2), on_replace=reasons.append) as pool:
        os.kill(pool.idle_pids[0], signal.SIGSTOP)
        with pytest.raises(DecodeError) as caught:
            await pool.decode(moving_clip(), views=[SMALL])
        assert caught.value.reason == "timeout"
        assert len((await pool.decode(moving_clip(), views=[SMALL])).times_seconds) == 3
    assert reasons == ["timeout"]


async def test_a_dead_worker_is_replaced() -> None:
    """A worker that dies in the middle of a segment is a crash of that segment only."""
    async with DecoderPool(1) as pool:
        pid = pool.idle_pids[0]
        os.kill(pid, signal.SIGSTOP)
        decoding = asyncio.ensure_future(pool.decode(moving_clip(), views=[SMALL]))
        await asyncio.sleep(0.05)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(DecodeError) as caught:
            await decoding
        assert caught.value.reason == "crashed"
        assert len((await pool.decode(moving_clip(), views=[SMALL])).times_seconds) == 3
        assert pool.replacements == {"crashed": 1}


async def test_a_cancelled_decode_leaves_no_stale_answer() -> None:
    """The worker of a cancelled decode is killed, so that its answer is not taken for the next segment's."""
    async with DecoderPool(1) as pool:
        decoding = asyncio.ensure_future(pool.decode(moving_clip(9), views=[SMALL]))
        await asyncio.sleep(0.01)
        decoding.cancel()
        with pytest.raises(asyncio.CancelledError):
            await decoding
        assert len((await pool.decode(moving_clip(), views=[SMALL])).times_seconds) == 3
        assert pool.replacements == {"cancelled": 1}


async def test_returned_views_do_not_change_later() -> None:
    """The views of a segment do not change when a later one is written to the shared memory, however large."""
    large = View(kind="stretch", width=3840, height=2160)
    async with DecoderPool(1) as pool:
        first = await pool.decode(moving_clip(), views=[SMALL, large], signals=())
        copies = {view: pixels.copy() for view, pixels in first.views.items()}
        await pool.decode(clip(*x264(), source="color=red:size={size}:rate={rate}:duration={seconds}"), views=[large])
        second = await pool.decode(moving_clip(), views=[SMALL, large], signals=())
    for view, pixels in copies.items():
        assert np.array_equal(first.views[view], pixels)
        assert np.array_equal(second.views[view], pixels)


async def test_views_beyond_the_memory_limit_are_refused() -> None:
    """There is room for so many bytes of views and no more."""
    assert await refusal_reason(moving_clip(), limits=DecodeLimits(max_view_bytes=2 * 64 * 36 * 3)) == "too_long"


async def test_a_worker_that_refused_a_segment_is_replaced() -> None:
    """What is wrong with the segment may have harmed it."""
    async with DecoderPool(1) as pool:
        pid = pool.idle_pids[0]
        with pytest.raises(DecodeError) as caught:
            await pool.decode(b"G" + bytes(1000), views=[SMALL])
        assert caught.value.reason == "not_media"
        assert pool.replacements == {"refused": 1}
        assert len((await pool.decode(moving_clip(), views=[SMALL])).times_seconds) == 3
        assert pool.idle_pids != (pid,)


async def test_without_a_free_file_handle_a_segment_is_unscored_and_the_next_one_is_decoded() -> None:
    """The limit of the process, as `LimitNOFILE` sets it."""
    async with DecoderPool(1, recycle_after=1) as pool:
        await pool.decode(moving_clip(1), views=[SMALL], signals=())
        with no_free_handles(), pytest.raises(DecodeError, match="could be started: Too many open files") as caught:
            await pool.decode(moving_clip(1), views=[SMALL], signals=())
        assert caught.value.reason == "worker"
        assert len((await pool.decode(moving_clip(1), views=[SMALL], signals=())).times_seconds) == 1


async def test_a_worker_that_cannot_be_started_is_an_error_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the outcome of a segment, also when none starts at the opening; the next decode tries again."""
    async with DecoderPool(1, recycle_after=1) as pool:
        await pool.decode(moving_clip(1), views=[SMALL], signals=())
        monkeypatch.setattr("vqmon.media.decode.process._WORKER_MODULE", "vqmon.no_such_module")
        with pytest.raises(DecodeError) as caught:
            await pool.decode(moving_clip(1), views=[SMALL], signals=())
        assert caught.value.reason == "worker"
    with pytest.raises(DecodeError, match="worker: a decoder process ended before it was ready"):
        async with DecoderPool(1, isolation="full"):
            pass
    async with DecoderPool(1) as pool:
        assert (pool.idle_pids, pool.versions) == ((), {})
        with pytest.raises(DecodeError, match="worker: a decoder process ended before it was ready"):
            await pool.decode(moving_clip(1), views=[SMALL], signals=())
        monkeypatch.undo()
        assert len((await pool.decode(moving_clip(1), views=[SMALL], signals=())).times_seconds) == 1


async def test_workers_are_recycled() -> None:
    """After so many segments a worker makes room for a fresh one."""
    async with DecoderPool(1, recycle_after=2) as pool:
        pids = []
        for _ in range(4):
            pids.append(pool.idle_pids)
            await pool.decode(moving_clip(1), views=[SMALL], signals=())
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
    return int(read_proc_file(pid, "statm").split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def test_workers_end_with_the_pool() -> None:
    """No process is left behind."""
    async with DecoderPool(2) as pool:
        pids = pool.idle_pids
        assert len(pids) == 2
    assert not [pid for pid in pids if is_running(pid)]


def is_running(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


@pytest.mark.slow
@pytest.mark.fixtures
async def test_every_fault_and_its_mutations_get_a_reason(shared: Path) -> None:
    """Hundreds of damaged files: each is decoded or refused by name, and the pool lives on."""
    chance = random.Random(20260821)
    faults = sorted((shared / "faults").iterdir())
    clips = [path for path in sorted((shared / "clips").iterdir()) if path.stat().st_size < 150_000]
    streams = [path for path in sorted((shared / "streams").rglob("*.ts")) if path.stat().st_size < 300_000]
    reasons: Counter[str] = Counter()
    async with DecoderPool(2) as pool:

        async def decode_fault(media: bytes) -> None:
            try:
                await pool.decode(media, views=[SMALL], thumbnail_width=64)
                reasons["decoded"] += 1
            except DecodeError as error:
                reasons[error.reason] += 1

        for path in faults:
            await decode_fault(path.read_bytes())
        pictures = [path.read_bytes() for path in (*faults, *clips, *streams[:12]) if path.stat().st_size]
        for _ in range(60):
            await asyncio.gather(*(decode_fault(damage(chance.choice(pictures), chance)) for _ in range(2)))
        await decode_fault(moving_clip())
    assert reasons.total() == len(faults) + 121
    assert reasons["crashed"] == reasons["timeout"] == 0
    assert reasons["decoded"] > 40
