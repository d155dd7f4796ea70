"""JPEG files: size, orientation and end of the first picture (ITU-T T.81 annex B, JFIF, Exif, ICC.1 annex B.4)."""

import re
from collections.abc import Iterator

from vqmon.errors import DecodeError
from vqmon.media.decode.stills.exif import EXIF_PREFIX, read_exif_orientation
from vqmon.media.decode.stills.still import StillPicture
from vqmon.media.images.resampling import Orientation

JPEG_SIGNATURE = b"\xff\xd8\xff"

_ICC_PREFIX = b"ICC_PROFILE\0"
_MOTION_PICTURES = 3
_START_OF_SCAN, _END_OF_IMAGE, _APP1, _APP2 = 0xDA, 0xD9, 0xE1, 0xE2
# baseline, extended sequential and progressive, Huffman-coded
_DECODED_FRAMES = (0xC0, 0xC1, 0xC2)
_FRAME_KINDS = {
    0xC3: "lossless",
    0xC5: "hierarchical",
    0xC6: "hierarchical",
    0xC7: "hierarchical",
    0xC9: "arithmetic-coded",
    0xCA: "arithmetic-coded",
    0xCB: "arithmetic-coded",
    0xCD: "arithmetic-coded",
    0xCE: "arithmetic-coded",
    0xCF: "arithmetic-coded",
}
# within entropy-coded data 0xFF is followed by a stuffed zero or a restart marker, else it begins the next segment
_NEXT_MARKER = re.compile(rb"\xff+[^\x00\xd0-\xd7\xff]", re.DOTALL)


def read_jpeg(media: bytes) -> StillPicture:
    """Describe the first picture of a JPEG file; what follows it (previews, gain maps, clips) is not decoded.

    Raises DecodeError: corrupt for a file that ends before its picture does, unsupported_codec.
    """
    size: tuple[int, int] | None = None
    orientation, has_icc_profile, end = Orientation(), False, None
    for marker, start, stop in _iterate_segments(media):
        if marker == _END_OF_IMAGE:
            end = stop
            break
        if marker in _DECODED_FRAMES or marker in _FRAME_KINDS:
            size = size or _read_frame_size(marker, media[start:stop])
        elif marker == _APP1 and media.startswith(EXIF_PREFIX, start):
            orientation = read_exif_orientation(media[start:stop])
        elif marker == _APP2 and media.startswith(_ICC_PREFIX, start):
            has_icc_profile = True
    if size is None or end is None:
        raise DecodeError("corrupt", "the JPEG file ends before its picture does")
    return StillPicture(
        format="jpeg",
        codec="mjpeg",
        width=size[0],
        height=size[1],
        payload=media[:end],
        orientation=orientation,
        has_icc_profile=has_icc_profile,
    )


def is_motion_jpeg(media: bytes) -> bool:
    """Whether three pictures of one size follow each other: raw motion JPEG.

    Photos are followed by one picture of their size at most (stereo), and by previews and gain maps of others.
    """
    sizes = []
    for _ in range(_MOTION_PICTURES):
        try:
            picture = read_jpeg(media)
        except DecodeError:
            return False
        sizes.append((picture.width, picture.height))
        media = media[len(picture.payload) :].lstrip(b"\0")
        if not media.startswith(JPEG_SIGNATURE):
            break
    return len(sizes) == _MOTION_PICTURES and len(set(sizes)) == 1


def _iterate_segments(media: bytes) -> Iterator[tuple[int, int, int]]:
    """(marker, start of the content, end) of each marker segment, without the entropy-coded data between them."""
    offset = 2
    while (match := _NEXT_MARKER.search(media, offset)) is not None:
        marker, start = media[match.end() - 1], match.end()
        if marker == _END_OF_IMAGE:
            yield marker, start, start
            return
        length = int.from_bytes(media[start : start + 2], "big")
        if length < 2 or start + length > len(media):
            return
        yield marker, start + 2, start + length
        offset = start + length


def _read_frame_size(marker: int, header: bytes) -> tuple[int, int]:
    if len(header) < 6:
        raise DecodeError("corrupt", "the frame header of the JPEG file is too short")
    if marker in _FRAME_KINDS:
        raise DecodeError("unsupported_codec", f"{_FRAME_KINDS[marker]} JPEG; baseline and progressive are decoded")
    if header[0] != 8:
        raise DecodeError("unsupported_codec", f"JPEG with {header[0]} bits per sample; 8 are decoded")
    return int.from_bytes(header[3:5], "big"), int.from_bytes(header[1:3], "big")
