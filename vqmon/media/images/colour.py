"""Colour description of decoded frames: matrix, range and transfer.

Matrix and range come from the frame, where libav puts what the bitstream says or else the container. Where they are not
specified, or mean nothing for such a picture (ITU-T H.273: reserved values, GBR of a picture with subsampled chroma),
FFmpeg's defaults are assumed (BT.601, limited range; BT.2020 for PQ and HLG, which no other matrix goes with in
ITU-R BT.2100) and "guessed" is added to the name. Constant luminance is shown as non-constant luminance, which is a
guess too. Pictures whose values are no luma and colour differences (YCgCo, ICtCp, IPT) cannot be shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from vqmon.errors import DecodeError

if TYPE_CHECKING:
    import av

Transfer = Literal["sdr", "pq", "hlg"]

_MATRICES = {1: "bt709", 4: "fcc", 5: "bt601", 6: "bt601", 7: "smpte240m", 9: "bt2020", 10: "bt2020"}
_CONSTANT_LUMINANCE = (10, 13)
# chromaticity-derived matrices by colour primaries; those of 1, 6, 7 and 9 give the constants of these standards,
# those of 5 (BT.470 B, G), 11 (P3-DCI) and 12 (P3-D65) nearly those of BT.709: 0.222 and 0.071, 0.209 and 0.069, 0.229
# and 0.079
_DERIVED_MATRICES = (12, 13)
_MATRICES_OF_PRIMARIES = {
    1: "bt709",
    5: "bt709",
    6: "smpte240m",
    7: "smpte240m",
    9: "bt2020",
    11: "bt709",
    12: "bt709",
}
_NOT_SHOWN = {
    8: "YCgCo",
    11: "Y'D'zD'x (SMPTE ST 2085)",
    14: "ICtCp",
    15: "IPT-C2",
    16: "YCgCo-Re",
    17: "YCgCo-Ro",
}
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
    """The interpretation of a frame by its own code points; raises as `describe_colour`."""
    return describe_colour(
        colorspace=frame.colorspace,
        color_range=frame.color_range,
        color_trc=frame.color_trc,
        color_primaries=frame.color_primaries,
        pixel_format=frame.format.name,
    )


def describe_colour(
    *, colorspace: int, color_range: int, color_trc: int, pixel_format: str, color_primaries: int = 2
) -> Colour:
    """The interpretation of a frame with these code points (ITU-T H.273).

    Raises DecodeError with the reason "colour" for pictures that cannot be shown.
    """
    is_rgb = pixel_format.startswith(("gbr", "rgb", "bgr"))
    if not is_rgb and colorspace in _NOT_SHOWN:
        detail = (
            f"the colours are coded as {_NOT_SHOWN[colorspace]} (matrix_coefficients {colorspace}), which is not shown"
        )
        raise DecodeError("colour", detail)
    matrix = _MATRICES.get(colorspace)
    if colorspace in _DERIVED_MATRICES:
        matrix = _MATRICES_OF_PRIMARIES.get(color_primaries)
    is_full = is_rgb or color_range == _FULL_RANGE or pixel_format.startswith("yuvj")
    transfer: Transfer = {16: "pq", 18: "hlg"}.get(color_trc, "sdr")  # type: ignore[assignment]
    guess = "bt601" if transfer == "sdr" else "bt2020"
    return Colour(
        matrix="rgb" if is_rgb else matrix or guess,
        range="pc" if is_full else "tv",
        transfer=transfer,
        transfer_name=_TRANSFERS.get(color_trc, "unspecified"),
        is_guessed=not is_rgb and (matrix is None or colorspace in _CONSTANT_LUMINANCE),
    )
