"""Still pictures made at test time: encoded by libav, with Exif and profiles, and AVIF files written box by box."""

import base64
import io
import struct
import zlib
from collections.abc import Sequence
from fractions import Fraction
from functools import cache

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from numpy.typing import NDArray

WIDTH, HEIGHT = 160, 96

_FULL_RANGE_CODECS = ("mjpeg", "png", "libsvtav1")


@cache
def colour_picture() -> NDArray[np.uint8]:
    """(96, 160, 3) RGB: gradients with coloured rectangles; no turn or mirror of it is the same picture."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    picture = np.stack([x * 255 // (WIDTH - 1), y * 255 // (HEIGHT - 1), (x + y) * 255 // (WIDTH + HEIGHT - 2)], -1)
    picture[10:30, 8:48] = (230, 30, 40)
    picture[50:80, 90:150] = (20, 40, 220)
    return picture.astype(np.uint8)


def alpha_ramp() -> NDArray[np.uint8]:
    """(96, 160) alpha, 0 at the left to 255 at the right."""
    return np.tile(np.linspace(0, 255, WIDTH).round().astype(np.uint8), (HEIGHT, 1))


def encode_picture(picture: NDArray[np.generic], codec: str, pixel_format: str, **options: str) -> bytes:
    """One packet: (height, width) grey or (height, width, 3 or 4) pixels of 8 or 16 bits, encoded by libav."""
    layout = {1: "gray", 3: "rgb", 4: "rgba"}[1 if picture.ndim == 2 else picture.shape[2]]
    depth = {"gray": ("gray", "gray16le"), "rgb": ("rgb24", "rgb48le"), "rgba": ("rgba", "rgba64le")}[layout]
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format=depth[picture.dtype == np.uint16])
    if pixel_format != frame.format.name:
        frame = frame.reformat(
            format=pixel_format,
            dst_colorspace="itu601",
            dst_color_range="JPEG" if codec in _FULL_RANGE_CODECS else "MPEG",
            src_color_range="JPEG",
            interpolation="BILINEAR",
        )
    return encode_frame(frame, codec, **options)


def encode_frame(frame: av.VideoFrame, codec: str, **options: str) -> bytes:
    """One packet: a frame encoded by libav; JPEG at its best quality."""
    encoder = av.CodecContext.create(codec, "w")
    assert isinstance(encoder, VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt = frame.width, frame.height, frame.format.name
    encoder.time_base, encoder.thread_count = Fraction(1, 25), 1
    encoder.color_range = 2 if codec in _FULL_RANGE_CODECS else 1
    encoder.colorspace = 5
    encoder.options = options
    if codec == "mjpeg":
        encoder.qscale = True
        encoder.global_quality = 118
    frame.pts = 0
    return b"".join(bytes(packet) for packet in (*encoder.encode(frame), *encoder.encode(None)))


def jpeg(pixel_format: str = "yuvj444p") -> bytes:
    return encode_picture(colour_picture(), "mjpeg", pixel_format)


def png(picture: NDArray[np.generic] | None = None, pixel_format: str = "rgb24") -> bytes:
    return encode_picture(colour_picture() if picture is None else picture, "png", pixel_format)


def webp(picture: NDArray[np.generic] | None = None, *, is_lossless: bool = True) -> bytes:
    picture = colour_picture() if picture is None else picture
    if is_lossless:
        return encode_picture(picture, "libwebp", "bgra", lossless="1")
    return encode_picture(picture, "libwebp", "yuva420p" if picture.shape[-1] == 4 else "yuv420p", quality="95")


# ---- metadata


def exif(orientation: int, *, order: str = ">", kind: int = 3) -> bytes:
    """A TIFF block with a software tag, the orientation and no more."""
    start = (b"MM\0*" if order == ">" else b"II*\0") + struct.pack(f"{order}I", 8)
    entries = struct.pack(f"{order}HHI4s", 305, 2, 4, b"abc\0") + struct.pack(
        f"{order}HHIHH", 274, kind, 1, orientation, 0
    )
    return start + struct.pack(f"{order}H", 2) + entries + bytes(4)


def jpeg_segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def with_jpeg_segments(media: bytes, *segments: bytes) -> bytes:
    """The JPEG file with these segments after its start marker."""
    return media[:2] + b"".join(segments) + media[2:]


def with_jpeg_exif(media: bytes, tiff: bytes) -> bytes:
    return with_jpeg_segments(media, jpeg_segment(0xE1, b"Exif\0\0" + tiff))


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def with_png_chunks(media: bytes, *chunks: bytes) -> bytes:
    """The PNG file with these chunks after its header."""
    return media[:33] + b"".join(chunks) + media[33:]


def riff_chunk(kind: bytes, content: bytes) -> bytes:
    return kind + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)


def with_webp_chunks(media: bytes, *chunks: bytes, flags: int) -> bytes:
    """The WebP file in extended form, with these flags, and with these chunks at the end."""
    header = struct.pack("<B3x", flags) + (WIDTH - 1).to_bytes(3, "little") + (HEIGHT - 1).to_bytes(3, "little")
    old = media[12:] if media[12:16] != b"VP8X" else media[30:]
    body = b"WEBP" + riff_chunk(b"VP8X", header) + old + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


# ---- AVIF


@cache
def av1_picture(pixel_format: str = "yuv420p", *, is_alpha: bool = False) -> bytes:
    """One AV1 picture; of the alpha ramp as luma, or of the colour picture."""
    picture = np.stack([alpha_ramp()] * 3, -1) if is_alpha else colour_picture()
    return encode_picture(picture, "libsvtav1", pixel_format, crf="5", preset="10")


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content) + 8) + kind + content


def full_box(kind: bytes, content: bytes, *, version: int = 0, flags: int = 0) -> bytes:
    return box(kind, struct.pack(">I", version << 24 | flags) + content)


def nclx(*, matrix: int = 5, is_full: bool = True) -> bytes:
    return box(b"colr", b"nclx" + struct.pack(">HHHB", 1, 13, matrix, is_full << 7))


ALPHA_URN = b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0"


def avif(
    payload: bytes | None = None,
    *,
    properties: Sequence[bytes] = (),
    alpha: bytes | None = None,
    brands: bytes = b"avifmif1",
    kind: bytes = b"av01",
    size: tuple[int, int] = (WIDTH, HEIGHT),
    location_version: int = 0,
    is_in_metadata: bool = False,
    references: Sequence[bytes] = (),
) -> bytes:
    """An AVIF file: the primary picture is item 1, its alpha channel item 2; every property is of item 1.

    `location_version` is that of the `iloc` box; with `is_in_metadata` (version 1 or 2) the data is in an `idat` box.
    """
    payloads = [payload if payload is not None else av1_picture(), *([] if alpha is None else [alpha])]
    own = [full_box(b"ispe", struct.pack(">II", *size)), *properties]
    owned = {1: range(1, len(own) + 1)}
    if alpha is not None:
        own += [full_box(b"ispe", struct.pack(">II", *size)), full_box(b"auxC", ALPHA_URN)]
        owned[2] = range(len(own) - 1, len(own) + 1)
        references = [box(b"auxl", struct.pack(">HHH", 2, 1, 1)), *references]
    associations = b"".join(struct.pack(">HB", item, len(indices)) + bytes(indices) for item, indices in owned.items())
    head = box(b"ftyp", brands[:4] + bytes(4) + brands)

    def metadata(first_offset: int) -> bytes:
        entries = b"".join(
            full_box(b"infe", struct.pack(">HH4sB", index + 1, 0, kind if index == 0 else b"av01", 0), version=2)
            for index in range(len(payloads))
        )
        return full_box(
            b"meta",
            full_box(b"hdlr", bytes(4) + b"pict" + bytes(13))
            + full_box(b"pitm", struct.pack(">H", 1))
            + _locations(payloads, first_offset, version=location_version, is_in_metadata=is_in_metadata)
            + full_box(b"iinf", struct.pack(">H", len(payloads)) + entries)
            + (full_box(b"iref", b"".join(references)) if references else b"")
            + box(
                b"iprp", box(b"ipco", b"".join(own)) + full_box(b"ipma", struct.pack(">I", len(owned)) + associations)
            )
            + (box(b"idat", b"".join(payloads)) if is_in_metadata else b""),
        )

    if is_in_metadata:
        return head + metadata(0)
    return head + metadata(len(head) + len(metadata(0)) + 8) + box(b"mdat", b"".join(payloads))


def _locations(payloads: Sequence[bytes], first_offset: int, *, version: int, is_in_metadata: bool) -> bytes:
    content, offset = struct.pack(">BB", 0x44, 0), first_offset
    content += struct.pack(">I" if version == 2 else ">H", len(payloads))
    for index, payload in enumerate(payloads):
        content += struct.pack(">I" if version == 2 else ">H", index + 1)
        content += struct.pack(">H", int(is_in_metadata)) if version else b""
        # data reference, one extent
        content += struct.pack(">HHII", 0, 1, offset, len(payload))
        offset += len(payload)
    return full_box(b"iloc", content, version=version)


def still_by_demuxer(media: bytes) -> av.VideoFrame:
    """The first frame of an AVIF file by libavformat's own reader of items."""
    with av.open(io.BytesIO(media), format="mov") as container:
        return next(container.decode(video=0))


def palette_png(indices: NDArray[np.uint8], colours: NDArray[np.uint8], *, alpha: bytes = b"") -> bytes:
    """A PNG file with a palette, (colours, 3) RGB, and the alpha of its first entries."""
    height, width = indices.shape
    lines = b"".join(b"\0" + bytes(line) for line in indices)
    chunks = [
        png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
        png_chunk(b"PLTE", colours.tobytes()),
        *([png_chunk(b"tRNS", alpha)] if alpha else []),
        png_chunk(b"IDAT", zlib.compress(lines)),
        png_chunk(b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


GREY_JPEG = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAIBAQEBAQIBAQECAgICAgQDAgICAgUEBAMEBgUGBgYFBgYGBwkIBgcJBwYGCAsICQoKCgoKBggL"
    "DAsKDAkKCgr/wAALCAAQAEABAREA/8QAFgABAQEAAAAAAAAAAAAAAAAACAkK/8QAHBAAAgIDAQEAAAAAAAAAAAAAAAdDgQEDMXEy/9oACAEB"
    "AAA/AIbraOhALaOhArPuvzAg1tHQgFtHQg1n86xAraOhArXuv3Bh2W0dCAW0dCBWfdfmBBraOhALaOhBrP51iBW0dCBWvdfuD//Z"
)
"""A ramp of 64 x 16 grey pixels, 0 at the left to 255 at the right, by Pillow 13: libav writes no grey JPEG."""
