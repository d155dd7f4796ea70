"""A PNG file is described chunk by chunk, and refused when one is damaged or the end is missing."""

import struct

import pytest

from tests.media.stills import HEIGHT, WIDTH, exif, png, png_chunk, with_png_chunks
from vqmon.errors import DecodeError
from vqmon.media.decode.stills.png import read_png
from vqmon.media.images.resampling import Orientation


def refusal(media: bytes) -> tuple[str, str]:
    with pytest.raises(DecodeError) as caught:
        read_png(media)
    return caught.value.reason, caught.value.detail


def test_size_orientation_and_profile_are_found() -> None:
    still = read_png(with_png_chunks(png(), png_chunk(b"iCCP", b"name\0\0"), png_chunk(b"eXIf", exif(8))))
    assert (still.format, still.codec, still.width, still.height) == ("png", "png", WIDTH, HEIGHT)
    assert still.orientation == Orientation(transposes=True, flips_y=True)
    assert still.has_icc_profile
    assert not read_png(png()).has_icc_profile


def test_what_follows_the_end_is_left_out() -> None:
    assert read_png(png() + b"more").payload == png()


def test_every_cut_is_found() -> None:
    media = png()
    assert {refusal(media[:length])[0] for length in range(8, len(media))} == {"corrupt"}


def test_every_changed_byte_is_found() -> None:
    media = png()
    for offset in range(8, len(media), 7):
        changed = media[:offset] + bytes([media[offset] ^ 0x10]) + media[offset + 1 :]
        assert refusal(changed)[0] == "corrupt", offset


def test_an_animation_is_unsupported_and_an_animation_of_one_picture_is_a_still() -> None:
    reason, detail = refusal(with_png_chunks(png(), png_chunk(b"acTL", struct.pack(">II", 2, 0))))
    assert reason == "unsupported_codec"
    assert "animated PNG" in detail
    assert read_png(with_png_chunks(png(), png_chunk(b"acTL", struct.pack(">II", 1, 0)))).width == WIDTH


@pytest.mark.parametrize("chunk", [png_chunk(b"IDAT", b""), png_chunk(b"IHDR", bytes(5)), b""])
def test_a_file_that_does_not_begin_with_its_header_is_corrupt(chunk: bytes) -> None:
    assert refusal(png()[:8] + chunk + png_chunk(b"IEND", b""))[0] == "corrupt"


def test_a_picture_without_pixels_is_corrupt() -> None:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 0, 7, 8, 2, 0, 0, 0))
    assert refusal(png()[:8] + header + png_chunk(b"IEND", b"")) == ("corrupt", "the png header gives the size 0x7")
