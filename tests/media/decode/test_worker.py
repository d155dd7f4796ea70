"""What the worker shows is what ffmpeg shows: the same times, the same pixels, whatever was left out on the way."""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av.filter
import numpy as np
import pytest

from tests.media.clips import clip, ffmpeg, pictures_by_ffmpeg, times_by_ffmpeg, x264
from tests.media.decode.bitstream.rig import first_parameter_set, raw_h264, without_usability_information
from tests.media.decode.rig import SMALL, decode_in_process
from vqmon.core.frames import additional_indices, sample_indices
from vqmon.core.types import DecodedSegment, View
from vqmon.media.decode.bitstream.containers.demuxing import open_container
from vqmon.media.decode.bitstream.containers.detection import detect_demuxer
from vqmon.media.decode.protocol import DecodeLimits, DecodeRequest
from vqmon.media.decode.worker import decode_segment
from vqmon.media.images.resampling import FrameResampler

X265 = ("-c:v", "libx265", "-preset", "veryfast", "-tag:v", "hvc1", "-x265-params")
VPX = ("-g", "25", "-b:v", "300k", "-auto-alt-ref", "1", "-lag-in-frames", "16", "-cpu-used", "5")
INTERLACED = ("-vf", "interlace")
DEINTERLACE = "bwdif=mode=send_frame:deint=interlaced"


@dataclass(frozen=True)
class Case:
    options: tuple[str, ...]
    container: str = "mpegts"
    rate: str = "25"


CASES = {
    "h264": Case(x264()),
    "h264-one-reference": Case(x264(bframes=0), "mp4"),
    "h264-pyramid": Case(x264("-x264-params", "b-pyramid=normal:b-adapt=0", bframes=7, gop=50), "mp4"),
    "h264-open-gop": Case(x264("-x264-params", "open-gop=1:b-adapt=0", bframes=3, gop=20)),
    "h264-open-gop-mp4": Case(x264("-x264-params", "open-gop=1:b-adapt=0", bframes=3, gop=20), "mp4"),
    "h264-intra-refresh": Case(x264("-x264-params", "intra-refresh=1", gop=20, bframes=0)),
    "h264-flagged-interlaced": Case(x264("-x264-params", "tff=1:b-adapt=0", bframes=3)),
    "h264-10-bit": Case(("-c:v", "libx264", "-preset", "veryfast", "-g", "25", "-pix_fmt", "yuv420p10le"), "mp4"),
    "h264-444": Case(("-c:v", "libx264", "-preset", "veryfast", "-g", "25", "-pix_fmt", "yuv444p"), "mp4"),
    "h264-422": Case(("-c:v", "libx264", "-preset", "veryfast", "-g", "25", "-pix_fmt", "yuv422p"), "matroska"),
    "h264-rgb": Case(("-c:v", "libx264rgb", "-preset", "veryfast", "-g", "25"), "mp4"),
    "hevc": Case((*X265, "keyint=25:min-keyint=25:log-level=0"), "mp4"),
    "hevc-open-gop": Case((*X265, "keyint=20:min-keyint=20:open-gop=1:bframes=4:log-level=0")),
    "hevc-layers": Case((*X265, "keyint=20:min-keyint=20:temporal-layers=3:bframes=3:log-level=0")),
    "av1": Case(("-c:v", "libsvtav1", "-g", "25", "-preset", "10", "-svtav1-params", "fast-decode=0"), "mp4"),
    "vp9": Case(("-c:v", "libvpx-vp9", *VPX), "webm"),
    "vp8": Case(("-c:v", "libvpx", *VPX), "webm"),
    "mpeg2": Case(("-c:v", "mpeg2video", "-g", "12", "-bf", "2", "-b:v", "2M")),
    "mpeg4": Case(("-c:v", "mpeg4", "-g", "12", "-bf", "2"), "mp4"),
    "odd-size": Case((*x264(), "-vf", "scale=321:181,format=yuv444p", "-pix_fmt", "yuv444p"), "mp4"),
    "variable-rate": Case(x264("-vf", "select='not(mod(n\\,7))+lt(n\\,20)'", "-fps_mode", "vfr"), "mp4"),
}


def check_against_ffmpeg(
    media: bytes, folder: Path, *, fps: float, filters: str = "null", levels: float = 0.0
) -> DecodedSegment:
    """Check times and pixels against the ffmpeg command and give what was decoded."""
    path = folder / "media.bin"
    path.write_bytes(media)
    times = times_by_ffmpeg(path)
    indices = sample_indices([time - times[0] for time in times], fps=fps)
    expected = pictures_by_ffmpeg(path, indices, filters=filters)
    height, width = expected[0].shape[:2]
    view = View(kind="stretch", width=width, height=height)
    decoded = decode_in_process(media, view, fps=fps)
    # ffmpeg prints six digits
    assert decoded.times_seconds == pytest.approx([times[i] - times[0] for i in indices], abs=1e-4)
    assert mean_differences(decoded.views[view], expected) <= levels
    return decoded


def mean_differences(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> float:
    return max(float(np.abs(a.astype(int) - b).mean()) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("fps", [1.0, 3.0])
def test_frames_are_those_of_ffmpeg(name: str, fps: float, tmp_path: Path) -> None:
    """Leaving out what is not needed changes neither which frames are seen nor one bit of them."""
    case = CASES[name]
    media = clip(*case.options, container=case.container, rate=case.rate, seconds=4.2)
    check_against_ffmpeg(media, tmp_path, fps=fps)


@pytest.mark.parametrize("name", ["h264-pyramid", "hevc-open-gop", "vp9", "variable-rate", "h264-intra-refresh"])
def test_additional_frames_are_those_of_the_streams_clock(name: str, tmp_path: Path) -> None:
    """Also of a stream that is decoded in full: its times and pixels are those of ffmpeg."""
    case = CASES[name]
    path = tmp_path / "media.bin"
    path.write_bytes(clip(*case.options, container=case.container, rate=case.rate, seconds=4.2))
    times = times_by_ffmpeg(path)
    indices = additional_indices(times, density=4)
    expected = pictures_by_ffmpeg(path, indices, filters="null")
    view = View(kind="stretch", width=expected[0].shape[1], height=expected[0].shape[0])
    decoded = decode_in_process(path.read_bytes(), view, density=4)
    assert decoded.times_seconds == pytest.approx([times[i] - times[0] for i in indices], abs=1e-4)
    assert mean_differences(decoded.views[view], expected) == 0


@pytest.mark.parametrize("name", ["h264-pyramid", "hevc-open-gop", "h264-intra-refresh"])
def test_the_end_of_a_segment_alone_has_the_same_frames(name: str) -> None:
    """From a moment on, the samples of the whole segment; and one of those that follow the last moment."""
    case = CASES[name]
    media = clip(*case.options, container=case.container, rate=case.rate, seconds=4.2)
    view = View(kind="stretch", width=32, height=32)
    whole = decode_in_process(media, view, fps=2.0)
    end = decode_in_process(media, view, fps=2.0, from_seconds=2.9)
    assert end.times_seconds == whole.times_seconds[6:]
    assert (end.views[view] == whole.views[view][6:]).all()
    (last,) = decode_in_process(media, view, fps=0.5, from_seconds=4.1).times_seconds
    assert 4.1 <= last < whole.media.duration_seconds


def test_signals_of_the_end_of_a_segment_are_those_of_its_own_frames() -> None:
    """Flicker that is over a quarter of a second before the moment from which on frames are sampled is not in them."""
    source = "testsrc2=size={size}:rate={rate}:duration={seconds},eq=brightness='if(lt(t,1),mod(n,2)/4,0)':eval=frame"
    media = clip(*x264(gop=100), seconds=2, size="176x144", source=source)
    names = ("flicker", "shimmer")
    whole, end, early = (
        decode_in_process(media, SMALL, from_seconds=seconds, signals=names).signals for seconds in (0.0, 1.4, 0.6)
    )
    assert max(whole["flicker"]) > 0.5
    assert max(early["flicker"]) > 0.5
    assert max(end["flicker"]) < 0.1
    assert max(value or 0.0 for value in end["shimmer"]) < max(value or 0.0 for value in whole["shimmer"])


@pytest.mark.parametrize("name", ["h264", "hevc", "av1", "mpeg2"])
def test_fewer_than_half_of_the_pictures_are_decoded_when_few_are_wanted(name: str) -> None:
    """Less than half of the pictures are decoded when one in 25 is wanted."""
    media = clip(*CASES[name].options, container=CASES[name].container, seconds=4.2)
    request = DecodeRequest(views=(), signals=())
    collector, _ = decode_segment(media, request, np.empty(0, np.uint8), FrameResampler(av.filter.Graph))
    assert collector.stats.sent_pictures < 105 / 2


def test_intra_refresh_is_decoded_in_full() -> None:
    """A stream whose marked key pictures are none is decoded from its start, and the event says so."""
    media = clip(*CASES["h264-intra-refresh"].options, seconds=4.2)
    decoded = decode_in_process(media, View(kind="stretch", width=32, height=32))
    assert any("decoded in full" in note for note in decoded.media.notes)


@pytest.mark.parametrize("name", ["h264", "h264-open-gop", "hevc-open-gop", "mpeg2", "h264-intra-refresh"])
@pytest.mark.parametrize("share", [0.1, 0.37])
def test_a_stream_that_does_not_begin_with_a_key_picture(name: str, share: float, tmp_path: Path) -> None:
    """The first frame is the first one that ffmpeg can rebuild, and the moments count from it."""
    media = clip(*CASES[name].options, seconds=6)
    check_against_ffmpeg(media[int(len(media) * share) // 188 * 188 :], tmp_path, fps=3.0)


@pytest.mark.parametrize("offset", ["95440.5", "95442.5"])
def test_a_wrapping_transport_stream_clock_is_followed(offset: str, tmp_path: Path) -> None:
    """The 33-bit clock of MPEG-TS starts again at 0 within a segment, and nothing is seen of it."""
    media = clip(*x264(), "-output_ts_offset", offset, "-muxdelay", "0", seconds=6)
    check_against_ffmpeg(media, tmp_path, fps=3.0)


def test_a_jump_of_the_clock_is_closed() -> None:
    """Two pieces with clocks 5000 s apart are seen one after the other, as ffmpeg shows them."""
    media = clip(*x264(), seconds=3) + clip(*x264(), "-output_ts_offset", "5000", seconds=3)
    decoded = decode_in_process(media, View(kind="stretch", width=32, height=32))
    assert decoded.times_seconds == pytest.approx((0, 1, 2, 3, 4, 5))
    assert decoded.media.notes == ("the timestamps jump ahead at 3.0 s; the jump was closed",)


def test_edit_lists_are_followed(tmp_path: Path) -> None:
    """What an edit list cuts away at the start is decoded but never sampled."""
    (tmp_path / "whole.mp4").write_bytes(clip(*x264(), container="mp4", seconds=6))
    cut = tmp_path / "cut.mp4"
    ffmpeg("-ss", "1.3", "-i", str(tmp_path / "whole.mp4"), "-c", "copy", "-y", str(cut))
    decoded = check_against_ffmpeg(cut.read_bytes(), tmp_path, fps=3.0)
    assert decoded.media.frame_count < 150


@pytest.mark.parametrize(
    "options",
    [
        x264("-x264-params", "tff=1:b-adapt=0", *INTERLACED, bframes=3),
        ("-c:v", "mpeg2video", "-g", "12", "-bf", "2", "-b:v", "4M", "-flags", "+ildct+ilme", *INTERLACED),
    ],
    ids=["h264", "mpeg2"],
)
def test_interlaced_pictures_are_deinterlaced(options: tuple[str, ...], tmp_path: Path) -> None:
    """Combed frames come out as from bwdif, within one level."""
    media = clip(*options, rate="50", seconds=4.2)
    decoded = check_against_ffmpeg(media, tmp_path, fps=3.0, filters=DEINTERLACE, levels=1.0)
    assert decoded.media.is_interlaced


def test_interlacing_is_detected_from_the_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container that does not tell that its pictures are interlaced changes nothing."""
    monkeypatch.setattr("vqmon.media.decode.decoders.libav._FIELD_ORDERS", ())
    media = clip(*x264("-x264-params", "tff=1:b-adapt=0", *INTERLACED, bframes=3), rate="50", seconds=2.2)
    decoded = check_against_ffmpeg(media, tmp_path, fps=3.0, filters=DEINTERLACE, levels=1.0)
    assert decoded.media.is_interlaced


def test_keyframe_sampling_uses_key_pictures_only(tmp_path: Path) -> None:
    """At most one key picture per second, at the time where it really stands, pixel for pixel."""
    path = tmp_path / "media.ts"
    path.write_bytes(clip(*x264(gop=40), seconds=6.4))
    view = View(kind="stretch", width=320, height=180)
    decoded = decode_in_process(path.read_bytes(), view, sampling="keyframes")
    assert decoded.times_seconds == pytest.approx((0, 1.6, 3.2, 4.8))
    assert mean_differences(decoded.views[view], pictures_by_ffmpeg(path, [0, 40, 80, 120])) == 0


def test_a_segment_of_one_frame_has_one_sample() -> None:
    """The shortest segment gives one frame and no padding."""
    decoded = decode_in_process(clip(*x264(), seconds=0.04), View(kind="stretch", width=32, height=32))
    assert decoded.times_seconds == (0.0,)


def test_the_same_segment_twice_is_bit_equal() -> None:
    """Nothing of an earlier segment is left in what is seen later."""
    view = View(kind="tiles", width=128, height=96, short_side=128, columns=4, rows=3)
    media = clip(*x264(), seconds=3)
    assert np.array_equal(decode_in_process(media, view).views[view], decode_in_process(media, view).views[view])


FIXTURES = [
    "av1_video.mkv",
    "bear-vp9-odd-dimensions.webm",
    "bigbuckbunny.mp4",
    "bikes.mp4",
    "bt709_full_range.mp4",
    "carphone_distorted.mp4",
    "carphone_pristine.mp4",
    "chaplin.mp4",
    "cockatoo.mp4",
    "fire2.mp4",
    "h264_10bits.mp4",
    "h265_10bits.mp4",
    "h265_video.mp4",
    "h265_with_metadata_track.mp4",
    "nasa_13013.mp4",
    "portrait_4k60.mp4",
    "roadtrip-vp92-10bit.webm",
    "sample_h262_mpeg_audio.ts",
    "sample_h264_no_access_unit_delimiters.ts",
    "sample_h265.ts",
    "sample_sef_slow_motion.mp4",
    "sample_with_increasing_timestamps.mp4",
]


@pytest.mark.fixtures
@pytest.mark.parametrize("name", FIXTURES)
def test_real_clips_look_as_ffmpeg_shows_them(name: str, shared: Path, tmp_path: Path) -> None:
    """Times agree, pixels agree within a tenth of a level (the rule is one), turned and at the coded size."""
    check_against_ffmpeg((shared / "clips" / name).read_bytes(), tmp_path, fps=1.0, levels=0.1)


@pytest.mark.fixtures
@pytest.mark.parametrize("name", ["hdr10-video-with-sdr-container.mp4", "sample_with_color_info.mp4"])
def test_hdr_is_tone_mapped(name: str, shared: Path, tmp_path: Path) -> None:
    """PQ and HLG become pictures like those of zscale and tonemap: same colours, brightness of the same order."""
    path = shared / "clips" / name
    chain = "zscale=t=linear:npl=203,format=gbrpf32le,zscale=p=bt709,tonemap=hable:desat=0,zscale=t=bt709:m=bt709:r=tv"
    try:
        theirs = pictures_by_ffmpeg(path, [0], filters=f"{chain},format=yuv420p")[0].astype(float)
    except subprocess.CalledProcessError:
        pytest.skip("this ffmpeg has no zscale")
    height, width = theirs.shape[:2]
    view = View(kind="stretch", width=width, height=height)
    decoded = decode_in_process(path.read_bytes(), view)
    ours = decoded.views[view][0].astype(float)
    assert decoded.media.tone_mapping == "bt2390-203nit"
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.95
    assert 0.9 < ours.mean() / theirs.mean() < 1.8


@pytest.mark.parametrize(
    ("options", "container"),
    [
        (x264(bframes=3), "mpegts"),
        (x264(bframes=3), "mp4"),
        (x264(bframes=0), "mpegts"),
        ((*X265, "keyint=25:log-level=0"), "mpegts"),
    ],
    ids=["h264-ts", "h264-mp4", "h264-no-b", "hevc-ts"],
)
def test_opening_decodes_no_picture_when_headers_suffice(options: tuple[str, ...], container: str) -> None:
    """Where headers tell enough, the pixel format, which only a decoded picture tells, is not known yet."""
    media = clip(*options, container=container)
    with open_container(media, detect_demuxer(media), DecodeLimits()) as opened:
        context = opened.streams.video[0].codec_context
        assert (context.width, context.height, context.pix_fmt) == (320, 180, None)


def test_opening_decodes_pictures_when_headers_do_not_suffice(tmp_path: Path) -> None:
    """A track that does not tell the order of its pictures is opened as ffmpeg opens it, and looks the same."""
    units = raw_h264(*x264(bframes=3), seconds=2.4)
    declared, undeclared = first_parameter_set(units), first_parameter_set(without_usability_information(units))
    media = clip(*x264(bframes=3), container="mp4", seconds=2.4)
    assert media.count(declared) == 1
    media = media.replace(declared, undeclared.ljust(len(declared), b"\0"))
    with open_container(media, detect_demuxer(media), DecodeLimits()) as opened:
        assert opened.streams.video[0].codec_context.pix_fmt == "yuv420p"
    check_against_ffmpeg(media, tmp_path, fps=3.0)
