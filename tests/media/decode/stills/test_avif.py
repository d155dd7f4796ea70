"""The primary picture of an AVIF file is found with its alpha channel and properties, as libavformat finds it."""

import struct

import numpy as np
import pytest

from tests.media.clips import clip, x264
from tests.media.stills import ALPHA_URN, HEIGHT, WIDTH, av1_picture, avif, box, full_box, nclx, still_by_demuxer
from vqmon.errors import DecodeError
from vqmon.media.decode.stills.avif import is_picture_file, read_avif
from vqmon.media.images.resampling import Orientation

STORED = np.arange(6).reshape(2, 3)


def refusal(media: bytes) -> tuple[str, str]:
    with pytest.raises(DecodeError) as caught:
        read_avif(media)
    return caught.value.reason, caught.value.detail


def test_size_and_payload_are_found() -> None:
    still = read_avif(avif())
    assert (still.format, still.codec, still.width, still.height) == ("avif", "libdav1d", WIDTH, HEIGHT)
    assert still.payload == av1_picture()
    assert still.alpha_payload is None
    assert still.colour is None


@pytest.mark.parametrize("version", [0, 1, 2])
def test_every_version_of_the_locations_is_read(version: int) -> None:
    assert read_avif(avif(location_version=version)).payload == av1_picture()


@pytest.mark.parametrize("version", [1, 2])
def test_a_picture_within_the_metadata_is_found(version: int) -> None:
    assert read_avif(avif(location_version=version, is_in_metadata=True)).payload == av1_picture()


def test_libavformat_reads_the_same_test_file() -> None:
    frame = still_by_demuxer(avif(alpha=av1_picture(is_alpha=True)))
    assert (frame.width, frame.height) == (WIDTH, HEIGHT)


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_rotation_and_mirror_are_applied_in_this_order(turns: int, axis: int | None) -> None:
    """HEIF 6.5.10 and 6.5.12: counter-clockwise turns; axis 0 exchanges top and bottom, 1 left and right."""
    properties = [box(b"irot", bytes([turns]))]
    expected = np.rot90(STORED, turns)
    if axis is not None:
        properties.append(box(b"imir", bytes([axis])))
        expected = np.flip(expected, axis)
    assert read_avif(avif(properties=properties)).orientation.apply(STORED).tolist() == expected.tolist()


def test_without_properties_the_picture_is_upright() -> None:
    assert read_avif(avif()).orientation == Orientation()


def test_colour_and_profile_are_found_together() -> None:
    still = read_avif(avif(properties=[nclx(matrix=1, is_full=False), box(b"colr", b"prof" + bytes(20))]))
    assert still.colour is not None
    assert (still.colour.transfer, still.colour.matrix, still.colour.is_full_range) == (13, 1, False)
    assert still.has_icc_profile


def test_the_alpha_channel_is_found() -> None:
    alpha = av1_picture(is_alpha=True)
    assert read_avif(avif(alpha=alpha)).alpha_payload == alpha
    premultiplied = avif(alpha=alpha, references=[box(b"prem", struct.pack(">HHH", 1, 1, 2))])
    assert read_avif(premultiplied).is_premultiplied
    assert not read_avif(avif(alpha=alpha)).is_premultiplied


def test_another_auxiliary_picture_is_no_alpha_channel() -> None:
    depth = ALPHA_URN.replace(b"alpha", b"depth")
    assert read_avif(avif(alpha=av1_picture()).replace(ALPHA_URN, depth)).alpha_payload is None


def test_a_clean_aperture_is_noted() -> None:
    assert read_avif(avif(properties=[box(b"clap", bytes(32))])).notes == (
        "the clean aperture of the picture is not applied",
    )


@pytest.mark.parametrize(
    ("media", "words"),
    [
        (avif(brands=b"avisavifmif1"), "animated AVIF"),
        (avif(brands=b"avifavismif1"), "animated AVIF"),
        (avif(kind=b"grid"), "tiles"),
        (avif(kind=b"hvc1", brands=b"heicmif1"), "HEIC"),
        (avif(kind=b"jxl "), "b'jxl '"),
    ],
)
def test_what_is_not_decoded_is_unsupported(media: bytes, words: str) -> None:
    reason, detail = refusal(media)
    assert reason == "unsupported_codec"
    assert words in detail


def test_every_cut_is_found() -> None:
    media = avif(alpha=av1_picture(is_alpha=True))
    start = media.index(b"meta") + 4
    assert {refusal(media[:length])[0] for length in range(start, len(media), 3)} == {"corrupt"}


def test_a_changed_byte_in_the_metadata_raises_nothing_else() -> None:
    media = avif(alpha=av1_picture(is_alpha=True), properties=[nclx()])
    reasons = set()
    for offset in range(media.index(b"meta"), media.index(b"mdat") + 4):
        for value in (0, 1, 0x7F, 0xFF):
            changed = media[:offset] + bytes([value]) + media[offset + 1 :]
            if not is_picture_file(changed):
                continue
            try:
                read_avif(changed)
            except DecodeError as error:
                reasons.add(error.reason)
    assert reasons == {"corrupt", "unsupported_codec"}


def test_a_picture_of_very_many_parts_is_corrupt() -> None:
    media = avif()
    offset = media.index(b"iloc") + 4 + 4 + 2 + 2 + 4
    assert refusal(media[:offset] + b"\xff\xff" + media[offset + 2 :])[0] == "corrupt"


def test_video_and_other_files_hold_no_pictures() -> None:
    assert is_picture_file(avif())
    assert not is_picture_file(clip(*x264(), container="mp4"))
    assert not is_picture_file(box(b"ftyp", b"isom" + bytes(4)) + box(b"moov", b"") + full_box(b"meta", b""))
    assert not is_picture_file(full_box(b"meta", b""))
    assert not is_picture_file(b"")
