"""A WebP file, lossy, lossless or extended, is described; one that is cut off or animated is refused."""

import pytest

from tests.media.stills import HEIGHT, WIDTH, exif, riff_chunk, webp, with_webp_chunks
from vqmon.errors import DecodeError
from vqmon.media.decode.stills.webp import is_webp, read_webp
from vqmon.media.images.resampling import Orientation


def refusal(media: bytes) -> tuple[str, str]:
    with pytest.raises(DecodeError) as caught:
        read_webp(media)
    return caught.value.reason, caught.value.detail


@pytest.mark.parametrize("is_lossless", [True, False])
def test_the_size_is_found(is_lossless: bool) -> None:
    still = read_webp(webp(is_lossless=is_lossless))
    assert (still.format, still.codec, still.width, still.height) == ("webp", "webp", WIDTH, HEIGHT)
    assert not still.has_icc_profile


@pytest.mark.parametrize("is_lossless", [True, False])
@pytest.mark.parametrize("prefix", [b"", b"Exif\0\0"])
def test_orientation_and_profile_are_found(is_lossless: bool, prefix: bytes) -> None:
    media = with_webp_chunks(webp(is_lossless=is_lossless), riff_chunk(b"EXIF", prefix + exif(3)), flags=0x28)
    still = read_webp(media)
    assert still.orientation == Orientation(flips_x=True, flips_y=True)
    assert still.has_icc_profile
    assert (still.width, still.height) == (WIDTH, HEIGHT)


def test_an_animation_is_unsupported() -> None:
    reason, detail = refusal(with_webp_chunks(webp(), flags=0x02))
    assert reason == "unsupported_codec"
    assert "animated WebP" in detail


def test_every_cut_is_found() -> None:
    media = webp()
    assert {refusal(media[:length])[0] for length in range(12, len(media) - 1)} == {"corrupt"}


def test_what_follows_the_file_is_left_out() -> None:
    assert read_webp(webp() + b"more").payload == webp()


def test_files_without_a_picture_and_with_wrong_headers_are_corrupt() -> None:
    assert "no picture" in refusal(b"RIFF\x04\0\0\0WEBP")[1]
    assert refusal(webp().replace(b"VP8L", b"VP8 "))[0] == "corrupt"
    assert refusal(webp(is_lossless=False).replace(b"VP8 ", b"VP8L"))[0] == "corrupt"
    long_chunk = webp()
    assert "longer" in refusal(long_chunk[:16] + b"\xff\xff\xff\x7f" + long_chunk[20:])[1]


def test_other_riff_files_are_no_webp() -> None:
    assert is_webp(webp())
    assert not is_webp(b"RIFF\x24\0\0\0WAVEfmt ")
