"""A JPEG file is described up to the end of its first picture, and refused when it ends before."""

import struct

import pytest

from tests.media.stills import HEIGHT, WIDTH, exif, jpeg, jpeg_segment, with_jpeg_exif, with_jpeg_segments
from vqmon.errors import DecodeError
from vqmon.media.decode.stills.jpeg import is_motion_jpeg, read_jpeg
from vqmon.media.images.resampling import Orientation


def refusal(media: bytes) -> tuple[str, str]:
    with pytest.raises(DecodeError) as caught:
        read_jpeg(media)
    return caught.value.reason, caught.value.detail


def with_frame_marker(media: bytes, marker: int, *, bits: int = 8) -> bytes:
    """The file with its frame header changed."""
    offset = media.index(b"\xff\xc0")
    return media[: offset + 1] + bytes([marker]) + media[offset + 2 : offset + 4] + bytes([bits]) + media[offset + 5 :]


def test_size_orientation_and_profile_are_found() -> None:
    profile = jpeg_segment(0xE2, b"ICC_PROFILE\0\1\1" + bytes(40))
    still = read_jpeg(with_jpeg_segments(with_jpeg_exif(jpeg(), exif(6)), profile))
    assert (still.format, still.codec, still.width, still.height) == ("jpeg", "mjpeg", WIDTH, HEIGHT)
    assert still.orientation == Orientation(transposes=True, flips_x=True)
    assert still.has_icc_profile
    assert not read_jpeg(jpeg()).has_icc_profile


def test_other_application_segments_are_no_metadata() -> None:
    media = with_jpeg_segments(
        jpeg(), jpeg_segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0"), jpeg_segment(0xE2, b"MPF\0")
    )
    assert read_jpeg(media).orientation == Orientation()
    assert not read_jpeg(media).has_icc_profile


def test_what_follows_the_picture_is_left_out() -> None:
    assert read_jpeg(jpeg() + jpeg("yuvj420p") + b"clip").payload == jpeg()


def test_every_cut_is_found() -> None:
    media = with_jpeg_exif(jpeg(), exif(1))
    assert {refusal(media[:length])[0] for length in range(3, len(media) - 1)} == {"corrupt"}


def test_the_end_of_a_preview_is_not_the_end_of_the_picture() -> None:
    media = with_jpeg_segments(jpeg(), jpeg_segment(0xE1, b"Exif\0\0" + jpeg("yuvj420p")[:2000] + b"\xff\xd9"))
    assert read_jpeg(media).payload == media
    assert refusal(media[:-2])[0] == "corrupt"


def test_an_end_marker_within_a_table_between_scans_does_not_end_the_picture() -> None:
    media = jpeg()
    media = media[:-2] + jpeg_segment(0xFE, b"comment \xff\xd9 comment") + media[-2:]
    assert read_jpeg(media).payload == media


@pytest.mark.parametrize(
    ("marker", "kind"),
    [(0xC3, "lossless"), (0xC5, "hierarchical"), (0xC9, "arithmetic-coded"), (0xCA, "arithmetic-coded")],
)
def test_other_kinds_of_jpeg_are_unsupported(marker: int, kind: str) -> None:
    reason, detail = refusal(with_frame_marker(jpeg(), marker))
    assert reason == "unsupported_codec"
    assert kind in detail


def test_12_bits_are_unsupported() -> None:
    reason, detail = refusal(with_frame_marker(jpeg(), 0xC1, bits=12))
    assert reason == "unsupported_codec"
    assert "12 bits" in detail


def test_a_file_without_a_frame_is_corrupt() -> None:
    assert refusal(b"\xff\xd8" + jpeg_segment(0xE0, b"JFIF\0") + b"\xff\xd9")[0] == "corrupt"
    assert refusal(b"\xff\xd8" + struct.pack(">BBH", 0xFF, 0xE0, 1) + b"\xff\xd9")[0] == "corrupt"


def test_three_pictures_of_one_size_are_motion_jpeg() -> None:
    """Not a photo with a preview, a gain map or its other eye behind it."""
    picture = jpeg()
    header = picture.index(b"\xff\xc0") + 5
    small = picture[:header] + struct.pack(">H", HEIGHT // 2) + picture[header + 2 :]
    assert is_motion_jpeg(picture * 3)
    assert is_motion_jpeg((picture + bytes(5)) * 4)
    for photo in (picture, picture * 2, picture + small * 2, picture * 2 + small, picture * 2 + picture[:-40], b"x"):
        assert not is_motion_jpeg(photo)
