"""A still picture is known by its first bytes, whatever its name is."""

import pytest

from tests.media.clips import clip, x264
from tests.media.stills import avif, jpeg, png, webp
from vqmon.errors import DecodeError
from vqmon.media.decode.stills.detection import read_still


@pytest.mark.parametrize(("media", "format"), [(jpeg(), "jpeg"), (png(), "png"), (webp(), "webp"), (avif(), "avif")])
def test_each_format_is_detected(media: bytes, format: str) -> None:
    still = read_still(media)
    assert still is not None
    assert still.format == format


@pytest.mark.parametrize(
    "media",
    [b"", b"<html>", b"\xff\xd8", b"RIFF\x24\0\0\0WAVEfmt ", bytes(200), clip(*x264()), clip(*x264(), container="mp4")],
    ids=["empty", "page", "cut", "wave", "zeros", "ts", "mp4"],
)
def test_other_media_are_no_still_picture(media: bytes) -> None:
    assert read_still(media) is None


@pytest.mark.parametrize(
    ("start", "name"),
    [(b"GIF89a", "GIF"), (b"II*\0", "TIFF"), (b"MM\0*", "TIFF"), (b"\xff\x0a", "JPEG XL"), (b"8BPS", "Photoshop")],
)
def test_other_picture_formats_are_named_in_their_refusal(start: bytes, name: str) -> None:
    with pytest.raises(DecodeError, match=f"a {name} picture; JPEG, PNG, WebP and AVIF are decoded") as caught:
        read_still(start + bytes(100))
    assert caught.value.reason == "unsupported_codec"
