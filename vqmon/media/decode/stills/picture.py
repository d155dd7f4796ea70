"""Decodes the packet of a still picture with libav and makes it an opaque picture with full chroma; imports av."""

import re
from typing import Any

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.reformatter import ColorRange, Colorspace
from numpy.typing import NDArray

from vqmon.errors import DecodeError
from vqmon.media.decode.decoders.frame_selection import DecodeStats
from vqmon.media.decode.stills.alpha import composite_on_black
from vqmon.media.decode.stills.still import StillPicture
from vqmon.media.images.colour import describe_frame_colour

_SIZE_MARGIN = 128
_EXACTLY_READ = ("gray16", "rgb48", "rgba64")
_DEEP_PACKED = (*_EXACTLY_READ, "ya16")
_UNSPECIFIED = 2  # ITU-T H.273, 8.3
_PLANAR_YUV = re.compile(r"yuv([ja]?)4[0-4][0-4]p((?:9|10|12|14|16)?(?:le|be)?)")


def decode_still_packet(still: StillPicture, payload: bytes, stats: DecodeStats) -> av.VideoFrame:
    """The first frame in a packet; where the decoder finds damage, the picture that it can make, counted as damaged.

    libav rounds sizes up before it compares them with its limit, hence the margin around the size in the header.
    The frame's side data must not be read: PyAV 18.1 does not know Exif among it, and crashes.
    """
    max_pixels = (still.width + _SIZE_MARGIN) * (still.height + _SIZE_MARGIN)
    for error_detection in ("explode", "crccheck"):
        context = av.CodecContext.create(still.codec, "r")
        assert isinstance(context, VideoCodecContext)
        context.options = {"max_pixels": str(max_pixels), "threads": "1", "err_detect": error_detection}
        context.thread_count = 1
        try:
            frames = [*context.decode(av.Packet(payload)), *context.decode(None)]
        except (av.error.FFmpegError, ValueError) as error:
            if isinstance(error, av.error.MemoryError):
                raise MemoryError from error
            frames = []
        if frames:
            stats.damaged_pictures = max(
                stats.damaged_pictures, int(frames[0].is_corrupt or error_detection != "explode")
            )
            return frames[0]
    raise DecodeError("corrupt", f"the {still.format} picture cannot be decoded")


def set_still_colour(frame: av.VideoFrame, still: StillPicture) -> None:
    """Set what the format says about matrix and range and the decoder does not."""
    if still.format in ("jpeg", "png"):
        frame.color_range = ColorRange.JPEG
    if frame.format.name.startswith("gray"):
        frame.colorspace = frame.colorspace or Colorspace.ITU601
    if still.colour is not None and not frame.format.name.startswith("gbr"):
        frame.color_range = ColorRange.JPEG if still.colour.is_full_range else ColorRange.MPEG
        frame.color_trc = still.colour.transfer
        if still.colour.matrix != _UNSPECIFIED:
            frame.colorspace = still.colour.matrix


def without_alpha(frame: av.VideoFrame, still: StillPicture, stats: DecodeStats) -> av.VideoFrame:
    """The picture as 4:4:4 or grey or, where it has alpha, a palette or 16 bits, as opaque RGB.

    Subsampled chroma is interpolated linearly, as JPEG and WebP libraries and browsers do; video is left to the views.
    """
    name, is_hdr = frame.format.name, describe_frame_colour(frame).transfer != "sdr"
    is_deep = name.startswith(_DEEP_PACKED)
    if still.alpha_payload is None:
        if name.startswith(("gray", "gbrp", "rgb24", "rgb48")) and (is_hdr or not is_deep):
            return frame
        if _PLANAR_YUV.fullmatch(name) and not name.startswith("yuva"):
            return _with_full_chroma(frame)
    packed = _packed_pixels(frame, is_deep=is_deep or is_hdr)
    if still.alpha_payload is not None:
        alpha = decode_still_packet(still, still.alpha_payload, stats)
        if (alpha.width, alpha.height) != (frame.width, frame.height):
            raise DecodeError("corrupt", "the alpha channel has another size than its picture")
        packed[..., 3] = _reformat(alpha, "gray16le" if is_hdr else "gray").to_ndarray()
    pixels, is_translucent = composite_on_black(
        packed, is_premultiplied=still.is_premultiplied, dtype=np.uint16 if is_hdr else np.uint8
    )
    if is_translucent:
        stats.notes.append("the alpha channel was composited on black")
    if pixels.shape[2] == 1:
        opaque = av.VideoFrame.from_ndarray(pixels[..., 0], format="gray")
        opaque.colorspace, opaque.color_range = Colorspace.ITU601, ColorRange.JPEG
        return opaque
    opaque = av.VideoFrame.from_ndarray(pixels, format="rgb48le" if is_hdr else "rgb24")
    opaque.color_trc = frame.color_trc
    return opaque


def _packed_pixels(frame: av.VideoFrame, *, is_deep: bool) -> NDArray[Any]:
    """(height, width, channels) of uint8 or, when deep, uint16: grey, R G B, or R G B alpha."""
    if frame.format.name.startswith(_EXACTLY_READ):
        # not by swscale, which divides by 256 instead of 257 and dithers
        return frame.to_ndarray().reshape(frame.height, frame.width, -1)
    return _reformat(_with_full_chroma(frame), "rgba64le" if is_deep else "rgba").to_ndarray()


def _with_full_chroma(frame: av.VideoFrame) -> av.VideoFrame:
    """The frame with as much chroma as luma; any other than planar YUV as it is."""
    name = _PLANAR_YUV.fullmatch(frame.format.name)
    return _reformat(frame, f"yuv{name[1]}444p{name[2]}") if name else frame


def _reformat(frame: av.VideoFrame, pixel_format: str) -> av.VideoFrame:
    if frame.format.name == pixel_format:
        return frame
    converted = frame.reformat(format=pixel_format, interpolation="BILINEAR", threads=1)
    if not pixel_format.startswith(("rgb", "gray")):
        converted.colorspace, converted.color_range = frame.colorspace, frame.color_range
        converted.color_trc = frame.color_trc
    return converted
