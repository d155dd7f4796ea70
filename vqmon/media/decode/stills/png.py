"""PNG files: size and orientation, and whether the file is whole (PNG third edition, chapters 5 and 11)."""

import zlib
from collections.abc import Iterator

from vqmon.errors import DecodeError
from vqmon.media.decode.stills.exif import read_exif_orientation
from vqmon.media.decode.stills.still import StillPicture, animation_error
from vqmon.media.images.resampling import Orientation

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

_HEADER_BYTES = 13


def read_png(media: bytes) -> StillPicture:
    """Describe a PNG file; raises DecodeError: corrupt (cut off, or a wrong checksum), unsupported_codec (APNG)."""
    size: tuple[int, int] | None = None
    orientation, has_icc_profile, end = Orientation(), False, None
    for kind, content, stop in _iterate_chunks(media):
        if size is None:
            if kind != b"IHDR" or len(content) != _HEADER_BYTES:
                raise DecodeError("corrupt", "the PNG file does not begin with its header")
            size = (int.from_bytes(content[:4], "big"), int.from_bytes(content[4:8], "big"))
        elif kind == b"acTL" and int.from_bytes(content[:4], "big") > 1:
            raise animation_error("PNG")
        elif kind == b"eXIf":
            orientation = read_exif_orientation(bytes(content))
        elif kind == b"iCCP":
            has_icc_profile = True
        elif kind == b"IEND":
            end = stop
            break
    if size is None or end is None:
        raise DecodeError("corrupt", "the PNG file ends before its picture does")
    return StillPicture(
        format="png",
        codec="png",
        width=size[0],
        height=size[1],
        payload=media[:end],
        orientation=orientation,
        has_icc_profile=has_icc_profile,
    )


def _iterate_chunks(media: bytes) -> Iterator[tuple[bytes, memoryview, int]]:
    """(type, content, end) of each whole chunk; raises DecodeError for a wrong checksum."""
    view = memoryview(media)
    offset = len(PNG_SIGNATURE)
    while offset + 12 <= len(media):
        start = offset + 8
        stop = start + int.from_bytes(view[offset : offset + 4], "big")
        if stop + 4 > len(media):
            return
        kind = bytes(view[offset + 4 : start])
        if zlib.crc32(view[offset + 4 : stop]) != int.from_bytes(view[stop : stop + 4], "big"):
            raise DecodeError("corrupt", f"the checksum of the PNG chunk {kind!r} is wrong")
        yield kind, view[start:stop], stop + 4
        offset = stop + 4
