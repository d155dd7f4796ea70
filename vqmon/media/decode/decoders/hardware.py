"""Decoding on the GPU's own decoder, NVDEC, through libav's hardware contexts; the pictures are those of the CPU.

NVDEC is exact for streams without damage, and what it gives is brought into the planes in which the CPU's decoders give
the same values; all that follows is the same. What it does not decode in full and without a complaint is decoded on the
CPU instead, segment by segment.
"""

from typing import Any, Protocol, cast

import av
import av.error
from av.codec.codec import Codec
from av.codec.hwaccel import HWAccel
from av.video.codeccontext import VideoCodecContext

from vqmon.errors import DecodeError

HARDWARE_CODECS = ("h264", "hevc", "vp9", "av1")
"""The codecs that are decoded on the GPU."""

_PLANAR_FORMATS = {"nv12": "yuv420p", "p010le": "yuv420p10le"}
"""The formats that NVDEC gives -> those in which the CPU's decoders give the same values."""


class HardwareDecoder(Protocol):
    """What makes decoders for the streams of segments."""

    def new_context(self, stream: "av.video.VideoStream") -> VideoCodecContext | None:
        """A decoder for a stream, not yet open; None for a codec that it does not have. Raises FFmpegError."""


class Nvdec:
    """NVDEC of one GPU, whose CUDA context stays open for as long as this object lives."""

    def __init__(self, device: str) -> None:
        """Open a GPU by its name, such as "cuda" or "cuda:1"; raises FFmpegError where there is none."""
        self._acceleration = HWAccel(
            "cuda",
            device=device.partition(":")[2] or "0",
            allow_software_fallback=False,
            # the context of the process, which is expensive to make, in place of one for each segment
            options={"primary_ctx": "1"},
        )
        self._held = self._acceleration.create(Codec("h264", "r"))

    def new_context(self, stream: "av.video.VideoStream") -> VideoCodecContext | None:
        """A decoder for a stream; None for other codecs. Raises FFmpegError."""
        source = stream.codec_context
        name = stream.codec.canonical_name
        if name not in HARDWARE_CODECS:
            return None
        context = cast(VideoCodecContext, av.CodecContext.create(name, "r", hwaccel=self._acceleration))
        context.extradata = source.extradata
        return context


def open_nvdec(device: str) -> Nvdec | str:
    """The hardware decoder of a GPU, or why there is none."""
    try:
        return Nvdec(device)
    except (av.error.FFmpegError, NotImplementedError, ValueError, OSError) as error:
        return str(error) or type(error).__name__


def take_container_colours(context: VideoCodecContext, source: VideoCodecContext) -> None:
    """Give a decoder the colours that a container states; those in the bitstream come before them."""
    for name in ("colorspace", "color_primaries", "color_trc", "color_range"):
        setattr(context, name, getattr(source, name))


def to_planes(frame: "av.VideoFrame") -> "av.VideoFrame":
    """A frame of a hardware decoder with the chroma in planes of their own; raises DecodeError for other formats."""
    target = _PLANAR_FORMATS.get(frame.format.name)
    if target is None:
        raise DecodeError("unsupported_codec", f"the GPU gives {frame.format.name}")
    return frame.reformat(format=cast(Any, target), threads=1)
