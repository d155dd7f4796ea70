"""WebP files: size and orientation, and whether the file is whole (RFC 9649, RFC 6386 9.1)."""

from collections.abc import Iterator

from vqmon.errors import DecodeError
from vqmon.media.decode.stills.exif import read_exif_orientation
from vqmon.media.decode.stills.still import StillPicture, animation_error
from vqmon.media.images.resampling import Orientation

_ANIMATION_FLAG, _ICC_FLAG = 0x02, 0x20
_LOSSY_START_CODE = b"\x9d\x01\x2a"
_LOSSLESS_SIGNATURE = 0x2F


def is_webp(media: bytes) -> bool:
    """Whether a file begins like a WebP file."""
    return media[:4] == b"RIFF" and media[8:12] == b"WEBP"


def read_webp(media: bytes) -> StillPicture:
    """Describe a WebP file; raises DecodeError: corrupt for a file that is cut off, unsupported_codec (animated)."""
    end = 8 + int.from_bytes(media[4:8], "little")
    if end > len(media):
        raise DecodeError("corrupt", f"the WebP file is cut off: it has {len(media)} of {end} bytes")
    size: tuple[int, int] | None = None
    orientation, has_icc_profile = Orientation(), False
    for kind, start, stop in _iterate_chunks(media, end):
        content = media[start:stop] if kind == b"EXIF" else media[start : start + 10]
        if kind == b"VP8X" and len(content) == 10:
            if content[0] & _ANIMATION_FLAG:
                raise animation_error("WebP")
            has_icc_profile = bool(content[0] & _ICC_FLAG)
        elif kind in (b"VP8 ", b"VP8L"):
            size = _lossy_size(content) if kind == b"VP8 " else _lossless_size(content)
        elif kind == b"EXIF":
            orientation = read_exif_orientation(content)
    if size is None:
        raise DecodeError("corrupt", "the WebP file holds no picture")
    return StillPicture(
        format="webp",
        codec="webp",
        width=size[0],
        height=size[1],
        payload=media[:end],
        orientation=orientation,
        has_icc_profile=has_icc_profile,
    )


def _iterate_chunks(media: bytes, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(type, start of the content, end) of each chunk; raises DecodeError for one that is longer than the file."""
    offset = 12
    while offset + 8 <= end:
        stop = offset + 8 + int.from_bytes(media[offset + 4 : offset + 8], "little")
        if stop > end:
            raise DecodeError("corrupt", "a chunk of the WebP file is longer than the file")
        yield media[offset : offset + 4], offset + 8, stop
        offset = stop + stop % 2


def _lossy_size(header: bytes) -> tuple[int, int]:
    if header[3:6] != _LOSSY_START_CODE:
        raise DecodeError("corrupt", "the lossy WebP picture has no valid header")
    return int.from_bytes(header[6:8], "little") & 0x3FFF, int.from_bytes(header[8:10], "little") & 0x3FFF


def _lossless_size(header: bytes) -> tuple[int, int]:
    if header[:1] != bytes([_LOSSLESS_SIGNATURE]) or len(header) < 5:
        raise DecodeError("corrupt", "the lossless WebP picture has no valid header")
    bits = int.from_bytes(header[1:5], "little")
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
