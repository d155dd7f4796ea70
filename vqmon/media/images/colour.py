"""Colour description of decoded frames: matrix, range and transfer.

Matrix and range come from the frame; where they are not specified, FFmpeg's defaults are assumed (BT.601, limited
range) and "guessed" is added to the name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import av

Transfer = Literal["sdr", "pq", "hlg"]

_MATRICES = {1: "bt709", 4: "fcc", 5: "bt601", 6: "bt601", 7: "smpte240m", 9: "bt2020", 10: "bt2020"}
_TRANSFERS = {
    1: "bt709",
    4: "gamma22",
    5: "gamma28",
    6: "smpte170m",
    7: "smpte240m",
    8: "linear",
    11: "iec61966-2-4",
    13: "srgb",
    14: "bt2020-10",
    15: "bt2020-12",
    16: "smpte2084",
    18: "arib-std-b67",
}
_RGB_MATRIX = 0
_FULL_RANGE = 2


@dataclass(frozen=True, slots=True)
class Colour:
    """How the values of a frame are interpreted.

    `matrix` is swscale's name, `range` "pc" (full) or "tv" (limited), `is_guessed` tells that the matrix was assumed.
    """

    matrix: str
    range: Literal["pc", "tv"]
    transfer: Transfer
    transfer_name: str
    is_guessed: bool

    @property
    def name(self) -> str:
        """As published, for example "bt709/limited"."""
        text = f"{self.matrix}/{'full' if self.range == 'pc' else 'limited'}"
        return f"{text} (guessed)" if self.is_guessed else text


def describe_frame_colour(frame: av.VideoFrame) -> Colour:
    """The interpretation of a frame by its own code points."""
    return describe_colour(
        colorspace=frame.colorspace,
        color_range=frame.color_range,
        color_trc=frame.color_trc,
        pixel_format=frame.format.name,
    )


def describe_colour(*, colorspace: int, color_range: int, color_trc: int, pixel_format: str) -> Colour:
    """The interpretation of a frame with these code points (ITU-T H.273)."""
    is_rgb = colorspace == _RGB_MATRIX or pixel_format.startswith(("gbr", "rgb", "bgr"))
    is_full = is_rgb or color_range == _FULL_RANGE or pixel_format.startswith("yuvj")
    transfer: Transfer = {16: "pq", 18: "hlg"}.get(color_trc, "sdr")  # type: ignore[assignment]
    return Colour(
        matrix="rgb" if is_rgb else _MATRICES.get(colorspace, "bt601"),
        range="pc" if is_full else "tv",
        transfer=transfer,
        transfer_name=_TRANSFERS.get(color_trc, "unspecified"),
        is_guessed=not is_rgb and colorspace not in _MATRICES,
    )
