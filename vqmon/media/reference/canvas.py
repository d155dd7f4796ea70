"""The canvas of a comparison: the size, pixel format and colour to which a segment and its reference are brought.

Upright SDR pictures go through one swscale step from the coded picture (its black borders cut off) to the canvas;
nothing is converted that is equal on both sides, so at equal sizes the measures are those of the coded pictures. HDR
and rotated pictures go through display RGB. Where one side does not state its colour matrix, that of the other holds.

Still pictures are made smaller to fit the canvas, never larger, and keep full chroma unless both are coded in 4:2:0.
Measures of RGB pictures get them without the step through Y, U and V.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from vqmon.core.types import Pixels
from vqmon.media.images.colour import Colour
from vqmon.media.images.frames import FilterGraphs, luma_plane
from vqmon.media.images.resampling import FrameResampler, Orientation, display_size
from vqmon.media.reference.registration import NO_BORDERS, Borders

if TYPE_CHECKING:
    import av

Kernel = Literal["bicubic", "bilinear", "lanczos", "area"]

_DISPLAY_COLOUR = Colour(matrix="bt709", range="tv", transfer="sdr", transfer_name="bt709", is_guessed=False)
_JPEG_COLOUR = Colour(matrix="bt601", range="pc", transfer="sdr", transfer_name="srgb", is_guessed=False)
_UPRIGHT = Orientation()


@dataclass(frozen=True, slots=True)
class SideFrame:
    """One decoded frame of the segment or of the reference, with its neighbours if it is interlaced."""

    # seconds after the first frame of its side
    time_seconds: float
    frame: av.VideoFrame
    colour: Colour
    orientation: Orientation
    sample_aspect_ratio: float
    previous: av.VideoFrame | None = None
    following: av.VideoFrame | None = None
    # of a still picture: the opaque picture with as much chroma as luma, from which RGB is made; None for video
    still: av.VideoFrame | None = None

    @property
    def needs_rgb(self) -> bool:
        """Whether it reaches the canvas through display RGB."""
        return self.colour.transfer != "sdr" or self.orientation != _UPRIGHT

    def active_size(self, borders: Borders) -> tuple[int, int]:
        """(width, height) inside the borders, upright and with square pixels."""
        width = self.frame.width - borders.left - borders.right
        height = self.frame.height - borders.top - borders.bottom
        return display_size(width, height, orientation=self.orientation, sample_aspect_ratio=self.sample_aspect_ratio)


@dataclass(frozen=True, slots=True, kw_only=True)
class Canvas:
    """The size and format at which two sides are compared."""

    width: int
    height: int
    kernel: Kernel
    pixel_format: str
    colour: Colour

    @property
    def name(self) -> str:
        """As published, e.g. "1920x1080 bicubic yuv420p bt709/limited"."""
        return f"{self.width}x{self.height} {self.kernel} {self.pixel_format} {self.colour.name}"


def choose_canvas(
    segment: SideFrame,
    reference: SideFrame,
    *,
    borders: tuple[Borders, Borders],
    size: tuple[int, int] | None,
    kernel: Kernel,
) -> Canvas:
    """The canvas for two sides: the reference's picture fitted into `size` (width, height), or its own size."""
    width, height = reference.active_size(borders[1])
    scale = min(size[0] / width, size[1] / height) if size else 1.0
    step = 2
    if reference.still is not None:
        scale, step = min(scale, 1.0), 1
    return Canvas(
        width=max(16, round(width * scale / step) * step),
        height=max(16, round(height * scale / step) * step),
        kernel=kernel,
        pixel_format=_pixel_format(segment, reference),
        colour=_canvas_colour(segment, reference),
    )


def _pixel_format(segment: SideFrame, reference: SideFrame) -> str:
    formats = [side.frame.format for side in (segment, reference)]
    suffix = "10le" if any(each.components[0].bits > 8 for each in formats) else ""
    if reference.still is None or all("420" in each.name for each in formats):
        return f"yuv420p{suffix}"
    return f"gray{suffix}" if all(each.name.startswith("gray") for each in formats) else f"yuv444p{suffix}"


def _canvas_colour(segment: SideFrame, reference: SideFrame) -> Colour:
    if segment.needs_rgb or reference.needs_rgb:
        return _DISPLAY_COLOUR
    sides = (segment, reference) if reference.colour.is_guessed else (reference, segment)
    stated = next((side.colour for side in sides if not side.colour.is_guessed), reference.colour)
    if stated.matrix != "rgb":
        return stated
    return _DISPLAY_COLOUR if reference.still is None else _JPEG_COLOUR


class CanvasConverter:
    """Brings frames to a canvas with libavfilter; `new_graph` creates an empty graph, `frame_from_rgb` a frame."""

    def __init__(
        self,
        resampler: FrameResampler,
        *,
        new_graph: Callable[[], Any],
        frame_from_rgb: Callable[[Pixels], av.VideoFrame],
    ) -> None:
        self._resampler, self._frame_from_rgb, self._graphs = resampler, frame_from_rgb, FilterGraphs(new_graph)

    def to_canvas(self, side: SideFrame, canvas: Canvas, borders: Borders) -> av.VideoFrame:
        """The picture inside the borders on the canvas, in its pixel format and colour."""
        frame = self._resampler.deinterlace(side.frame, previous=side.previous, following=side.following)
        colour, size = side.colour, f"w={canvas.width}:h={canvas.height}:flags={canvas.kernel}"
        if side.needs_rgb:
            rgb = self._resampler.to_rgb(
                frame, (canvas.width, canvas.height), colour=side.colour, orientation=side.orientation
            )
            frame = self._frame_from_rgb(np.ascontiguousarray(rgb))
            colour, borders = _RGB, NO_BORDERS
        if colour.is_guessed:
            colour = replace(colour, matrix=canvas.colour.matrix, is_guessed=False)
        scale = f"{size}+accurate_rnd+full_chroma_int:in_range={colour.range}:out_range={canvas.colour.range}"
        if colour.matrix != "rgb":
            scale += f":in_color_matrix={colour.matrix}"
        scale += f":out_color_matrix={canvas.colour.matrix}"
        filters = [("scale", scale), ("format", canvas.pixel_format)]
        if not borders.is_empty:
            filters.insert(0, ("crop", _crop_arguments(frame, borders)))
        return self._graphs.run(frame, tuple(filters))

    def to_rgb(self, picture: av.VideoFrame, canvas: Canvas) -> Pixels:
        """(height, width, 3): a picture of the canvas as RGB."""
        return self._resampler.to_rgb(
            picture,
            (canvas.width, canvas.height),
            colour=replace(canvas.colour, is_guessed=False),
            orientation=_UPRIGHT,
        )

    def still_to_rgb(self, side: SideFrame, canvas: Canvas) -> Pixels:
        """(height, width, 3): a still picture at the size of the canvas as RGB."""
        assert side.still is not None
        size = (canvas.width, canvas.height)
        return self._resampler.to_rgb(side.still, size, colour=side.colour, orientation=side.orientation)

    def to_luma(self, side: SideFrame, size: tuple[int, int], borders: Borders = NO_BORDERS) -> NDArray[np.uint8]:
        """(height, width) luma of the upright picture inside the borders, averaged to `size` (width, height)."""
        width, height = reversed(size) if side.orientation.transposes else size
        filters = [("scale", f"w={width}:h={height}:flags=area"), ("format", "gray")]
        if not borders.is_empty:
            filters.insert(0, ("crop", _crop_arguments(side.frame, borders)))
        return side.orientation.apply(luma_plane(self._graphs.run(side.frame, tuple(filters)))).copy()


_RGB = Colour(matrix="rgb", range="pc", transfer="sdr", transfer_name="srgb", is_guessed=False)


def _crop_arguments(frame: av.VideoFrame, borders: Borders) -> str:
    width = frame.width - borders.left - borders.right
    height = frame.height - borders.top - borders.bottom
    return f"w={width}:h={height}:x={borders.left}:y={borders.top}:exact=1"
