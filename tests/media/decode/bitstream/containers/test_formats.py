"""Every container and codec that can be decoded, in the jail: a small fixture of each, and the setting of the list."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
import pytest_asyncio

from tests.media.clips import clip, ffmpeg, x264
from vqmon.core.types import DecodedSegment, View
from vqmon.errors import DecodeError
from vqmon.media.decode.pool import DecoderPool
from vqmon.media.decode.protocol import CODECS, CONTAINERS, DecodeLimits

VIEW = View(kind="stretch", width=88, height=72)
RATE = 30
SECONDS = 2.2
X265 = (
    "-c:v",
    "libx265",
    "-preset",
    "ultrafast",
    "-x265-params",
    "log-level=0:keyint=30:pools=none:frame-threads=1",
    "-pix_fmt",
    "yuv420p",
)
MPEG2 = ("-c:v", "mpeg2video", "-q:v", "3", "-pix_fmt", "yuv420p")
DNXHR = (
    "-c:v",
    "dnxhd",
    "-profile:v",
    "dnxhr_sq",
    "-vf",
    "scale=352:288:out_color_matrix=bt709",
    "-pix_fmt",
    "yuv422p",
)
VPX = ("-b:v", "1M", "-g", "30", "-pix_fmt", "yuv420p")


@dataclass(frozen=True)
class Format:
    """How ffmpeg makes a fixture, and what the event calls it."""

    options: tuple[str, ...]
    # ffmpeg's name of the container, and ours
    muxer: str
    container: str
    codec: str
    # largest mean difference of a picture from the source, in levels
    levels: float = 6.0
    # pictures per second; 25 where the container states none
    rate: int = RATE


FORMATS = {
    "avi-h264": Format(x264(gop=30), "avi", "avi", "h264"),
    "avi-mpeg4": Format(("-c:v", "mpeg4", "-bf", "2", "-q:v", "3"), "avi", "avi", "mpeg4"),
    "avi-mjpeg": Format(("-c:v", "mjpeg", "-q:v", "2", "-pix_fmt", "yuvj420p"), "avi", "avi", "mjpeg"),
    "avi-raw-packed": Format(("-c:v", "rawvideo", "-pix_fmt", "yuyv422"), "avi", "avi", "rawvideo"),
    "avi-raw-rgb": Format(("-c:v", "rawvideo", "-pix_fmt", "bgr24"), "avi", "avi", "rawvideo"),
    "flv-h264": Format(x264(gop=30), "flv", "flv", "h264"),
    "mxf-mpeg2": Format((*MPEG2, "-bf", "2"), "mxf", "mxf", "mpeg2video"),
    "mxf-prores": Format(("-c:v", "prores_ks", "-profile:v", "2"), "mxf", "mxf", "prores"),
    "mov-prores": Format(("-c:v", "prores_ks", "-profile:v", "4", "-pix_fmt", "yuva444p10le"), "mov", "mp4", "prores"),
    "mov-dnxhr": Format(DNXHR, "mov", "mp4", "dnxhd"),
    "mkv-mpeg1": Format(("-c:v", "mpeg1video", "-q:v", "3"), "matroska", "matroska", "mpeg1video"),
    "y4m": Format(("-pix_fmt", "yuv420p"), "yuv4mpegpipe", "y4m", "rawvideo"),
    "y4m-10-bit": Format(("-pix_fmt", "yuv422p10le", "-strict", "-1"), "yuv4mpegpipe", "y4m", "rawvideo"),
    "ivf-vp8": Format(("-c:v", "libvpx", *VPX), "ivf", "ivf", "vp8"),
    "ivf-vp9": Format(("-c:v", "libvpx-vp9", "-cpu-used", "8", "-auto-alt-ref", "1", *VPX), "ivf", "ivf", "vp9"),
    "ivf-av1": Format(("-c:v", "libsvtav1", "-preset", "12", "-g", "30"), "ivf", "ivf", "av1"),
    "raw-h264": Format(x264(gop=30), "h264", "h264", "h264"),
    "raw-hevc": Format(X265, "hevc", "hevc", "hevc"),
    "mpegps-mpeg2": Format((*MPEG2, "-bf", "2"), "vob", "mpegps", "mpeg2video"),
    "mpegps-h264": Format(x264(gop=30), "vob", "mpegps", "h264"),
    "raw-mpeg2": Format((*MPEG2, "-bf", "2"), "mpeg2video", "mpegvideo", "mpeg2video"),
    "raw-mpeg1": Format(("-c:v", "mpeg1video", "-q:v", "3"), "mpeg1video", "mpegvideo", "mpeg1video"),
    "raw-mjpeg": Format(("-c:v", "mjpeg", "-q:v", "2", "-pix_fmt", "yuvj420p"), "mjpeg", "mjpeg", "mjpeg", rate=25),
    "raw-av1": Format(("-c:v", "libsvtav1", "-preset", "12", "-g", "30"), "obu", "obu", "av1", rate=25),
    "raw-vvc": Format(("-c:v", "libvvenc", "-preset", "faster", "-qp", "24"), "vvc", "vvc", "vvc"),
}  # fmt: skip


@cache
def fixture(name: str) -> bytes:
    form = FORMATS[name]
    options = (*form.options, "-movflags", "frag_keyframe+empty_moov") if form.muxer == "mov" else form.options
    return clip(*options, container=form.muxer, size="176x144", rate=str(form.rate), seconds=SECONDS)


@cache
def source(rate: int) -> np.ndarray:
    """The pictures of the source at 0, 1 and 2 s, averaged over blocks of 2 x 2 as the view shows them."""
    raw = clip(
        "-pix_fmt", "rgb24", "-c:v", "rawvideo", container="rawvideo", size="176x144", rate=str(rate), seconds=SECONDS
    )
    pictures = np.frombuffer(raw, np.uint8).reshape(-1, 144, 176, 3)[::rate].astype(float)
    return pictures.reshape(-1, 72, 2, 88, 2, 3).mean(axis=(2, 4))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool() -> AsyncIterator[DecoderPool]:
    async with DecoderPool(1, limits=DecodeLimits(deadline_seconds=60)) as opened:
        yield opened


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", FORMATS)
async def test_every_format_is_decoded_in_the_jail(name: str, pool: DecoderPool) -> None:
    """One picture a second at its time, the one of the source; rate, duration and names are stated."""
    form = FORMATS[name]
    decoded: DecodedSegment = await pool.decode(fixture(name), views=[VIEW])
    assert (decoded.media.container, decoded.media.codec) == (form.container, form.codec)
    assert decoded.media.fps == pytest.approx(form.rate, rel=0.01)
    assert decoded.media.duration_seconds == pytest.approx(SECONDS, abs=0.07)
    assert decoded.media.frame_count == round(SECONDS * form.rate)
    assert decoded.times_seconds == pytest.approx((0, 1, 2), abs=0.002)
    differences = np.abs(decoded.views[VIEW].astype(float) - source(form.rate)).mean(axis=(1, 2, 3))
    assert differences.max() < form.levels
    # a picture away from its time differs more
    assert np.abs(np.roll(source(form.rate), 1, axis=0) - source(form.rate)).mean() > 3 * form.levels


@pytest.mark.asyncio(loop_scope="module")
async def test_an_avi_with_empty_pictures_has_the_rate_of_its_decoding_times(pool: DecoderPool) -> None:
    """Where ffmpeg copies packets without a known rate into AVI, the rate in the header is far too high."""
    copied = ffmpeg("-f", "mpegts", "-i", "-", "-c", "copy", "-f", "avi", "-", source=clip(*x264(), seconds=2.2))
    decoded = await pool.decode(copied, views=[VIEW])
    assert decoded.times_seconds == pytest.approx((0, 1, 2), abs=0.002)
    assert decoded.media.fps == pytest.approx(25, rel=0.01)


@pytest.mark.asyncio(loop_scope="module")
async def test_pictures_without_a_time_of_their_own_are_not_lost_ones(pool: DecoderPool) -> None:
    """A packet of a program stream that holds several pictures tells the time of the first."""
    decoded = await pool.decode(clip(*x264(gop=12), container="vob", seconds=4), views=[VIEW])
    assert set(decoded.signals["dropped_frames"]) == {0.0}


def test_every_container_and_codec_has_a_fixture() -> None:
    """Those of MPEG-TS and the browsers' codecs are in the tests of the worker."""
    assert set(CONTAINERS) - {form.container for form in FORMATS.values()} == {"mpegts"}
    assert set(CODECS) == {form.codec for form in FORMATS.values()}


@pytest.mark.parametrize(
    ("limits", "reason", "setting"),
    [
        (DecodeLimits(containers=("mp4", "h264")), "not_media", "decode.containers"),
        (DecodeLimits(codecs=("hevc", "mjpeg")), "unsupported_codec", "decode.codecs"),
    ],
)
async def test_what_is_not_on_the_list_is_not_opened(limits: DecodeLimits, reason: str, setting: str) -> None:
    """The reason names the setting."""
    async with DecoderPool(1, limits=replace(limits, deadline_seconds=60)) as narrow:
        with pytest.raises(DecodeError, match=setting) as caught:
            await narrow.decode(fixture("flv-h264"), views=[VIEW])
        assert caught.value.reason == reason
