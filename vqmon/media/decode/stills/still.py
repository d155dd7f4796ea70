"""The description of a still picture as its file's headers give it, and the errors that all formats share."""

from dataclasses import dataclass, field
from typing import Any, Literal

from vqmon.errors import DecodeError
from vqmon.media.images.colour import Colour
from vqmon.media.images.resampling import Orientation

_StillFormat = Literal["jpeg", "png", "webp", "avif"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CodedColour:
    """Code points (ITU-T H.273) with which a container overrides those of the bitstream."""

    transfer: int
    matrix: int
    is_full_range: bool


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class StillPicture:
    """One coded still picture; `width` and `height` are in px, before the orientation is applied."""

    format: _StillFormat
    # name of the libav decoder that is allowed for it
    codec: str
    width: int
    height: int
    # the one packet that the decoder gets
    payload: bytes
    # turns and mirrors that make the coded picture upright
    orientation: Orientation = field(default_factory=Orientation)
    has_icc_profile: bool = False
    # a second packet with the alpha channel as luma (AVIF)
    alpha_payload: bytes | None = None
    # the colours are already multiplied by the alpha channel
    is_premultiplied: bool = False
    colour: CodedColour | None = None
    # remarks for people, published with the segment
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.width <= 0 or self.height <= 0:
            raise DecodeError("corrupt", f"the {self.format} header gives the size {self.width}x{self.height}")


def animation_error(kind: str) -> DecodeError:
    """The refusal of an animated picture, e.g. `kind` "APNG"."""
    return DecodeError("unsupported_codec", f"an animated {kind}: send it as video, or each picture as its own file")


def still_facts(still: StillPicture, *, pixel_format: str, colour: Colour) -> dict[str, Any]:
    """The fields of `core.frames.MediaFacts` that say what was coded: one picture without a duration."""
    return {
        "container": still.format,
        "codec": {"mjpeg": "jpeg", "libdav1d": "av1"}.get(still.codec, still.codec),
        "fps": 0.0,
        "duration_seconds": 0.0,
        "frame_count": 1,
        "pixel_format": pixel_format,
        "colour": colour.name,
    }
