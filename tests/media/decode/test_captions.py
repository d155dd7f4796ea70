"""Captions in the pictures, as a decoder process sees them."""

import re

from tests.media.clips import clip, ffmpeg
from vqmon.media.decode.pool import DecoderPool

# ATSC A/53 part 4, 6.2.3: user data "GA94" of type 3 with one pair of CEA-608 bytes, in an SEI message of H.264
CAPTION = b"\xb5\0\x31GA94\x03\x41\xff\xfc\x94\x20\xff"
MESSAGE = b"\0\0\x01\x06\x04" + bytes([len(CAPTION)]) + CAPTION + b"\x80"
PLAIN = ("-c:v", "libx264", "-preset", "ultrafast", "-x264-params", "bframes=0:slices=1:threads=1")


def with_captions(raw_h264: bytes) -> bytes:
    """A message before each slice."""
    units = re.sub(rb"\x00\x00\x01[\x65\x41\x61\x01\x21]", lambda match: MESSAGE + match[0], raw_h264)
    source = ("-fflags", "+genpts", "-f", "h264", "-r", "25", "-i", "pipe:0")
    return ffmpeg(*source, "-c", "copy", "-movflags", "frag_keyframe+empty_moov", "-f", "mp4", "-", source=units)


async def test_captions_in_the_pictures_are_a_fact_of_the_media() -> None:
    """Of CEA-608 in H.264; the same pictures without them have none."""
    raw = clip(*PLAIN, container="h264", seconds=1)
    plain = ffmpeg(
        "-fflags", "+genpts", "-f", "h264", "-r", "25", "-i", "pipe:0", "-c", "copy", "-f", "matroska", "-", source=raw
    )
    async with DecoderPool(1) as pool:
        found = [
            (await pool.decode(media, views=(), signals=("black",))).media for media in (with_captions(raw), plain)
        ]
    assert [media.has_captions for media in found] == [True, False]
