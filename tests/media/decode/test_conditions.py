"""Conditions of real streams, each beside its sound twin: the same packets without the oddity, the same pictures."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest

from tests.media.clips import clip, ffmpeg, x264
from tests.media.decode.rig import decode_in_process
from vqmon.core.types import View
from vqmon.errors import DecodeError

FIT = View(kind="fit", width=96, height=96)
AV1 = ("-c:v", "libsvtav1", "-preset", "12", "-g", "25")
X265 = ("-c:v", "libx265", "-preset", "ultrafast", "-tag:v", "hvc1")


@cache
def sound(seconds: float = 2, *, size: str = "176x144") -> bytes:
    """A small H.264 stream with one second between key pictures."""
    return clip(*x264(), seconds=seconds, size=size)


@cache
def deep(*parameters: str) -> bytes:
    """A HEVC stream of ten bits with these x265 parameters."""
    joined = ":".join(("log-level=0", "keyint=25", *parameters))
    return clip(*X265, "-pix_fmt", "yuv420p10le", "-x265-params", joined, seconds=1, size="176x144")


def remux(media: bytes, container: str = "mpegts", *options: str) -> bytes:
    """The same packets in another container; "fmp4" for fragments."""
    if container == "mp4":
        # needs a file that can be sought
        with TemporaryDirectory() as folder:
            ffmpeg("-i", "-", "-c", "copy", *options, "-f", "mp4", f"{folder}/media.mp4", source=media)
            return (Path(folder) / "media.mp4").read_bytes()
    if container == "fmp4":
        container, options = "mp4", (*options, "-movflags", "frag_keyframe+empty_moov+default_base_moof")
    return ffmpeg("-i", "-", "-c", "copy", *options, "-f", container, "-", source=media)


def tagged(media: bytes, fields: str, *, codec: str = "h264", container: str = "mpegts") -> bytes:
    """The stream with other fields in its parameter sets."""
    return remux(media, container, "-bsf:v", f"{codec}_metadata={fields}")


def joined(*streams: bytes) -> bytes:
    """Transport streams one after the other on one clock."""
    whole, seconds = streams[0], 0.0
    for stream in streams[1:]:
        seconds += 1
        whole = then(whole, stream, offset_seconds=seconds)
    return whole


def then(first: bytes, second: bytes, *, offset_seconds: float) -> bytes:
    """Two transport streams in one file, the second so much later than the first."""
    return first + ffmpeg(
        "-copyts", "-i", "-", "-c", "copy", "-output_ts_offset", str(offset_seconds), "-muxdelay", "0",
        "-f", "mpegts", "-",
        source=second,
    )  # fmt: skip


def _fragments() -> bytes:
    """Fragmented MP4 whose fragments may be moved."""
    return remux(sound(), "fmp4")


def _live_matroska() -> bytes:
    """Matroska without an index, whose clusters may be moved."""
    return remux(sound(), "matroska", "-live", "1")


@dataclass(frozen=True)
class Condition:
    """A stream, its sound twin (None: the stream without the condition), and what is said of it."""

    media: Callable[[], bytes]
    twin: Callable[[], bytes] = sound
    size: tuple[int, int] = (176, 144)
    colour: str = "bt601/limited (guessed)"
    note: str = ""


def _tags(fields: str, colour: str = "bt601/limited (guessed)", *, twin: Callable[[], bytes] = sound) -> Condition:
    return Condition(lambda: tagged(sound(), fields), twin, colour=colour)


SHOWN = {
    # code points that mean nothing for 4:2:0 pictures, or nothing at all
    "matrix-gbr": _tags("matrix_coefficients=0"),
    "matrix-reserved": _tags("matrix_coefficients=3"),
    "matrix-unknown": _tags("matrix_coefficients=200"),
    "matrix-gbr-full": _tags(
        "matrix_coefficients=0:video_full_range_flag=1",
        "bt601/full (guessed)",
        twin=lambda: tagged(sound(), "video_full_range_flag=1"),
    ),
    "transfer-reserved": _tags("transfer_characteristics=3"),
    "transfer-unknown": _tags("transfer_characteristics=77"),
    "primaries-unknown": _tags("colour_primaries=99"),
    # code points that libav's filters refuse
    "transfer-log": _tags("transfer_characteristics=9"),
    "transfer-log316": _tags("transfer_characteristics=10"),
    "matrix-bt2020-constant": _tags(
        "matrix_coefficients=10",
        "bt2020/limited (guessed)",
        twin=lambda: tagged(sound(), "matrix_coefficients=9"),
    ),
    "matrix-derived": _tags("matrix_coefficients=12"),
    "matrix-derived-constant": _tags("matrix_coefficients=13"),
    "matrix-derived-bt709": _tags(
        "matrix_coefficients=12:colour_primaries=1",
        "bt709/limited",
        twin=lambda: tagged(sound(), "matrix_coefficients=1"),
    ),
    "matrix-derived-p3": _tags(
        "matrix_coefficients=12:colour_primaries=12",
        "bt709/limited",
        twin=lambda: tagged(sound(), "matrix_coefficients=1"),
    ),
    # the pixel aspect of the bitstream
    "aspect": Condition(
        lambda: tagged(sound(), "sample_aspect_ratio=16/11"),
        lambda: remux(tagged(sound(), "sample_aspect_ratio=16/11"), "mp4"),
        size=(256, 144),
    ),
    "aspect-hevc": Condition(
        lambda: tagged(deep(), "sample_aspect_ratio=16/11", codec="hevc"),
        lambda: remux(tagged(deep(), "sample_aspect_ratio=16/11", codec="hevc"), "mp4"),
        size=(256, 144),
    ),
    # of the container alone
    "aspect-of-the-container": Condition(
        lambda: clip(*AV1, "-vf", "setsar=16/11", container="matroska", seconds=2, size="176x144"),
        lambda: remux(clip(*AV1, "-vf", "setsar=16/11", container="matroska", seconds=2, size="176x144"), "mp4"),
        size=(256, 144),
    ),
    # time
    "time-goes-back": Condition(
        lambda: then(sound(), sound(), offset_seconds=-1),
        lambda: then(sound(), sound(), offset_seconds=2),
        note="the timestamps jump back at 2.0 s",
    ),
    "time-repeats": Condition(
        lambda: then(sound(), sound(), offset_seconds=0),
        lambda: then(sound(), sound(), offset_seconds=2),
        note="the timestamps jump back at 2.0 s",
    ),
    "time-overlaps": Condition(
        lambda: then(sound(), sound(), offset_seconds=1.92),
        lambda: then(sound(), sound(), offset_seconds=2),
        note="the timestamps jump back at 2.0 s",
    ),
    "time-repeats-in-fragments": Condition(
        lambda: _fragments() + _fragments()[_fragments().index(b"moof") - 4 :],
        lambda: then(sound(), sound(), offset_seconds=2),
        note="the timestamps jump back at 2.0 s",
    ),
    "time-repeats-in-clusters": Condition(
        lambda: _live_matroska() + _live_matroska()[_live_matroska().index(b"\x1f\x43\xb6\x75") :],
        lambda: then(sound(), sound(), offset_seconds=2),
        note="the timestamps jump back at 2.0 s",
    ),
    "time-jumps-ahead": Condition(
        lambda: then(sound(), sound(), offset_seconds=3600),
        lambda: then(sound(), sound(), offset_seconds=2),
        note="the timestamps jump ahead at 2.0 s",
    ),
}


@pytest.mark.parametrize("name", SHOWN)
def test_a_condition_gives_the_verdict_of_its_sound_twin(name: str) -> None:
    """The same times and, to the bit, the same view; size and colour are stated."""
    condition = SHOWN[name]
    decoded, twin = (decode_in_process(media, FIT) for media in (condition.media(), condition.twin()))
    assert not twin.media.notes
    assert decoded.times_seconds == pytest.approx(twin.times_seconds, abs=1e-4)
    assert np.array_equal(decoded.views[FIT], twin.views[FIT])
    assert (decoded.media.width, decoded.media.height) == condition.size
    assert decoded.media.duration_seconds == pytest.approx(twin.media.duration_seconds, abs=1e-3)
    assert decoded.media.colour == condition.colour
    assert [note for note in decoded.media.notes if condition.note and condition.note in note] or not condition.note
    assert condition.note or not decoded.media.notes


REFUSED = {
    "matrix-ycgco": (lambda: tagged(sound(), "matrix_coefficients=8"), "colour", "YCgCo"),
    "matrix-ipt-c2": (lambda: tagged(sound(), "matrix_coefficients=15"), "colour", "IPT-C2"),
    "matrix-ictcp": (lambda: tagged(deep(), "matrix_coefficients=14", codec="hevc"), "colour", "ICtCp"),
    "av1-in-ts": (
        lambda: clip("-c:v", "libsvtav1", "-preset", "12", seconds=0.2, size="176x144"),
        "unsupported_codec",
        "AV1 in MPEG-TS",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_shown_has_a_reason_that_says_why(name: str) -> None:
    """Never `corrupt`: the pictures decode."""
    build, reason, word = REFUSED[name]
    with pytest.raises(DecodeError, match=word) as caught:
        decode_in_process(build(), FIT)
    assert caught.value.reason == reason


def test_the_limit_on_pixels_counts_no_padding() -> None:
    """libav's buffers are wider and higher than this picture, which has almost as many pixels as are allowed."""
    media = clip("-c:v", "libx264", "-preset", "ultrafast", "-frames:v", "1", size="4064x2176", rate="1", seconds=1)
    decoded = decode_in_process(media, FIT)
    assert (decoded.media.width, decoded.media.height) == (4064, 2176)


def _interlaced() -> bytes:
    return clip(*x264("-x264-params", "tff=1", "-aspect", "16:9"), "-vf", "interlace", seconds=1, size="176x144")


TRACKS: dict[str, Callable[[], bytes]] = {
    "plain": sound,
    "aspect": lambda: tagged(sound(), "sample_aspect_ratio=16/11"),
    "interlaced-with-aspect": _interlaced,
    "full-range-bt709": lambda: tagged(
        sound(), "video_full_range_flag=1:colour_primaries=1:transfer_characteristics=1:matrix_coefficients=1"
    ),
    "hevc-pq": lambda: deep("colorprim=bt2020", "transfer=smpte2084", "colormatrix=bt2020nc", "sar=14"),
    "hevc-hlg": lambda: deep("colorprim=bt2020", "transfer=arib-std-b67", "colormatrix=bt2020nc"),
    "illegal-colour": lambda: tagged(sound(), "matrix_coefficients=0:transfer_characteristics=10"),
    "mpeg2-aspect": lambda: clip("-c:v", "mpeg2video", "-bf", "2", "-aspect", "16:9", seconds=1, size="176x144"),
    "aspect-changes": lambda: joined(sound(1), tagged(sound(1), "sample_aspect_ratio=16/11")),
    "size-changes": lambda: joined(sound(1), sound(1, size="128x96")),
    "colour-changes": lambda: joined(sound(1), tagged(sound(1), "matrix_coefficients=9:video_full_range_flag=1")),
}


@pytest.mark.parametrize("name", TRACKS)
def test_the_same_packets_give_the_same_verdict_in_every_container(name: str) -> None:
    """The same times, facts and notes and, to the bit, the same views."""
    media = TRACKS[name]()
    expected = decode_in_process(media, FIT)
    for container in ("mp4", "fmp4", "matroska", *(() if "hevc" in name or "mpeg2" in name else ("flv",))):
        decoded = decode_in_process(remux(media, container), FIT)
        for fact in ("width", "height", "colour", "transfer", "is_interlaced", "frame_count", "notes", "tone_mapping"):
            assert getattr(decoded.media, fact) == getattr(expected.media, fact), (container, fact)
        assert decoded.times_seconds == pytest.approx(expected.times_seconds, abs=0.002)
        assert np.array_equal(decoded.views[FIT], expected.views[FIT]), container


@pytest.mark.parametrize(
    ("name", "sizes", "note"),
    [
        ("aspect-changes", [(176, 144), (256, 144)], "from 176x144 to 256x144 at 1.0 s"),
        ("size-changes", [(176, 144), (128, 96)], "from 176x144 to 128x96 at 1.0 s"),
        ("colour-changes", [(176, 144), (176, 144)], "from bt601/limited (guessed) unspecified to bt2020/full"),
    ],
)
def test_a_change_holds_from_where_it_happens(name: str, sizes: list[tuple[int, int]], note: str) -> None:
    """Each picture is fitted by its own size and aspect; the rest of the view has the colour of the border."""
    border = View(kind="fit", width=96, height=96, pad_rgb=(255, 0, 255))
    decoded = decode_in_process(TRACKS[name](), border)
    assert decoded.times_seconds == pytest.approx((0, 1), abs=1e-4)
    assert (decoded.media.width, decoded.media.height) == sizes[0]
    heights = [96 - int((picture[:, 48] == (255, 0, 255)).all(axis=1).sum()) for picture in decoded.views[border]]
    assert heights == [round(96 * height / width) for width, height in sizes]
    assert note in decoded.media.notes[0]


def test_pictures_before_the_first_key_picture_are_stated() -> None:
    """A cut that begins within a group; an open group's few leading pictures belong to the segment before."""
    media = sound()
    decoded = decode_in_process(media[188 * 20 :], FIT)
    assert decoded.media.notes == ("the first 1.0 s cannot be decoded, as no key picture precedes them",)
    pictures = decode_in_process(media, FIT).views[FIT]
    assert np.array_equal(decoded.views[FIT], pictures[1:])


def test_parameter_sets_of_the_container_hold_from_where_they_change() -> None:
    """FLV files joined: the second one's parameter sets come with its first picture, which is not decoded."""
    streams = [clip(*x264(gop=5), seconds=1.4, size=size) for size in ("176x144", "128x96")]
    flv = [remux(stream, "flv", "-bsf:v", "filter_units=remove_types=7|8") for stream in streams]
    decoded = decode_in_process(flv[0] + flv[1][13:], FIT)
    assert decoded.times_seconds == pytest.approx((0, 1, 2), abs=0.002)
    everything = decode_in_process(flv[1], FIT, fps=25).views[FIT]
    assert np.array_equal(decoded.views[FIT][2], everything[15])
