"""Conversion of decoded frames to RGB as a player displays them: deinterlaced, upright, with square pixels, resized.

Every view is one swscale step from the coded picture to the requested size (bicubic, full chroma, accurate rounding; at
the coded size the conversion that ffmpeg makes by default), then rotated as the display matrix tells. The step goes
through planar R, G and B, which gives the same bits as packed pixels three times as fast. For square pixels the height
is kept and the width multiplied by the sample aspect ratio (SAR). Interlaced frames go through `bwdif` with their
neighbours, one frame out per frame in; a frame that is flagged as interlaced but shows no combing is left unchanged.
Pictures for a display view have their chroma brought to a quarter of their lines and columns first, so that a picture
coded in 4:2:0 and in 4:4:4 is the same picture.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vqmon.core.types import Pixels, View
from vqmon.media.images.active_area import ActiveArea
from vqmon.media.images.colour import Colour
from vqmon.media.images.frames import (
    FilterChain,
    FilterGraphs,
    buffer_arguments,
    filtered_colour,
    plane_pixels,
    plane_rows,
)
from vqmon.media.images.tone_mapping import tone_map_luma, tone_map_to_sdr

if TYPE_CHECKING:
    import av

_FLAGS_SCALED = "bicubic+accurate_rnd+full_chroma_int+full_chroma_inp"
_FLAGS_SAME_SIZE = "bicubic"
_PLANAR_8_BIT = ("yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p")
_COMB_STEP = 12
_COMB_SHARE = 0.005


@dataclass(frozen=True, slots=True)
class Orientation:
    """A display matrix rounded to quarter turns and mirrors: first transpose, then flip left-right, then up-down."""

    transposes: bool = False
    flips_x: bool = False
    flips_y: bool = False

    @classmethod
    def from_display_matrix(cls, matrix: bytes) -> Orientation:
        """From the 36 bytes of an ISO BMFF display matrix, 3x3 int32 in native byte order; upright if shorter."""
        if len(matrix) < 36:
            return cls()
        a, b, _, c, d = (int(value) for value in np.frombuffer(matrix[:36], np.int32)[:5])
        if abs(b) + abs(c) > abs(a) + abs(d):
            return cls(transposes=True, flips_x=c < 0, flips_y=b < 0)
        return cls(flips_x=a < 0, flips_y=d < 0)

    def apply(self, picture: NDArray[Any]) -> NDArray[Any]:
        """The coded picture (height, width, ...) made upright; a view of the same memory."""
        if self.transposes:
            picture = picture.swapaxes(0, 1)
        if self.flips_x:
            picture = picture[:, ::-1]
        return picture[::-1] if self.flips_y else picture

    @property
    def rotation_degrees(self) -> int:
        """Clockwise rotation that makes the coded picture upright: 0, 90, 180 or 270; mirroring is not included."""
        if self.transposes:
            return 270 if self.flips_y else 90
        return 180 if self.flips_y else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TileLayout:
    """Where tiles of one size lie on a canvas: sizes are (width, height), `corners` (left, top) in px."""

    canvas: tuple[int, int]
    tile: tuple[int, int]
    corners: tuple[tuple[int, int], ...]

    def to_coded(self, orientation: Orientation) -> TileLayout:
        """The same tiles on the canvas before it was made upright."""
        corners = []
        for x, y in self.corners:
            left = self.canvas[0] - x - self.tile[0] if orientation.flips_x else x
            top = self.canvas[1] - y - self.tile[1] if orientation.flips_y else y
            corners.append((top, left) if orientation.transposes else (left, top))
        if not orientation.transposes:
            return TileLayout(canvas=self.canvas, tile=self.tile, corners=tuple(corners))
        return TileLayout(canvas=self.canvas[::-1], tile=self.tile[::-1], corners=tuple(corners))


@dataclass(frozen=True, slots=True)
class YuvPlanes:
    """Luma and chroma of a frame as coded, 8 bits, (height, width) each; `is_full` tells full from limited range."""

    y: NDArray[np.uint8]
    u: NDArray[np.uint8]
    v: NDArray[np.uint8]
    is_full: bool


class FrameResampler:
    """Converts frames to arrays with libavfilter; `new_graph` creates an empty graph."""

    def __init__(self, new_graph: Callable[[], Any]) -> None:
        self._new_graph = new_graph
        self._graphs = FilterGraphs(new_graph)

    def render_view(
        self, frame: av.VideoFrame, view: View, *, colour: Colour, orientation: Orientation, sample_aspect_ratio: float
    ) -> Pixels:
        """A stretch, fit or tiles view, (height, width, 3)."""
        if view.kind == "stretch":
            return self.to_rgb(frame, (view.width, view.height), colour=colour, orientation=orientation)
        width, height = display_size(
            frame.width, frame.height, orientation=orientation, sample_aspect_ratio=sample_aspect_ratio
        )
        if view.kind == "fit":
            scale = min(view.width / width, view.height / height)
            inner = (min(view.width, max(1, round(width * scale))), min(view.height, max(1, round(height * scale))))
            return _pad(self.to_rgb(frame, inner, colour=colour, orientation=orientation), view)
        scale = view.short_side / min(width, height)
        outer = (
            max(view.short_side, _round_half_up(width * scale)),
            max(view.short_side, _round_half_up(height * scale)),
        )
        return _lay_tiles(self.to_rgb(frame, outer, colour=colour, orientation=orientation), view)

    def to_rgb(
        self, frame: av.VideoFrame, size: tuple[int, int], *, colour: Colour, orientation: Orientation
    ) -> Pixels:
        """The whole frame scaled to `size` (width, height) as displayed, upright, HDR tone-mapped to SDR."""
        coded_size = size[::-1] if orientation.transposes else size
        if colour.transfer == "sdr":
            scaled = self._scale(frame, coded_size, colour=colour, pixel_format="rgb24")
            return orientation.apply(_packed_rgb(scaled, np.uint8))
        scaled = self._scale(frame, coded_size, colour=colour, pixel_format="rgb48le")
        return orientation.apply(tone_map_to_sdr(_packed_rgb(scaled, np.uint16), colour.transfer))

    def to_tiles(
        self, frame: av.VideoFrame, layout: TileLayout, *, colour: Colour, orientation: Orientation, area: ActiveArea
    ) -> Pixels:
        """Tiles (count, height, width, 3) of the area of the frame, scaled to the layout's canvas, upright, in SDR.

        The chroma of the canvas has a quarter of its lines and columns. Only the tiles are converted to RGB.
        """
        coded = layout.to_coded(orientation)
        target = "rgb24" if colour.transfer == "sdr" else "rgb48le"
        tiles = self._graphs.run(frame, _tile_filters(coded, colour=colour, target=target, area=area))
        stacked = _packed_rgb(tiles, np.uint8 if target == "rgb24" else np.uint16)
        if target == "rgb48le":
            stacked = tone_map_to_sdr(stacked, colour.transfer)
        width, height = coded.tile
        return np.stack([orientation.apply(tile) for tile in stacked.reshape(-1, height, width, 3)])

    def to_planes(self, frame: av.VideoFrame, *, colour: Colour) -> YuvPlanes:
        """The coded picture for measuring signals: not resized or rotated, 8 bits, HDR luma tone-mapped to SDR."""
        is_full = colour.range == "pc"
        if frame.format.name not in _PLANAR_8_BIT:
            frame = self._scale(frame, (frame.width, frame.height), colour=colour, pixel_format="yuv444p")
            is_full = is_full and colour.matrix != "rgb"
        y, u, v = (plane_pixels(plane) for plane in frame.planes[:3])
        if colour.transfer != "sdr":
            return YuvPlanes(tone_map_luma(y, colour), u, v, is_full=False)
        return YuvPlanes(y, u, v, is_full=is_full)

    def deinterlace(
        self, frame: av.VideoFrame, *, previous: av.VideoFrame | None, following: av.VideoFrame | None
    ) -> av.VideoFrame:
        """The deinterlaced frame; the frame itself when it is progressive or shows no combing."""
        if not frame.interlaced_frame or not _is_combed(plane_pixels(frame.planes[0])):
            return frame
        graph = self._new_graph()
        with filtered_colour(frame):
            source = graph.add("buffer", buffer_arguments(frame))
        nodes = [source, graph.add("bwdif", "mode=send_frame:parity=auto:deint=all"), graph.add("buffersink")]
        graph.link_nodes(*nodes).configure()
        inputs = [
            neighbour
            for neighbour in (previous, frame, following)
            if neighbour is not None and _have_same_format(neighbour, frame)
        ]
        for index, input_frame in enumerate(inputs):
            original_pts, input_frame.pts = input_frame.pts, index * 40
            with filtered_colour(input_frame):
                source.push(input_frame)
            input_frame.pts = original_pts
        source.push(None)
        outputs = [nodes[-1].pull() for _ in inputs]
        result: av.VideoFrame = outputs[inputs.index(frame)]
        return result

    def _scale(
        self, frame: av.VideoFrame, size: tuple[int, int], *, colour: Colour, pixel_format: str
    ) -> av.VideoFrame:
        return self._graphs.run(frame, _scale_filters(frame, size, colour=colour, target=pixel_format))


def _scale_filters(frame: av.VideoFrame, size: tuple[int, int], *, colour: Colour, target: str) -> FilterChain:
    """The filters that scale a frame to `size` and convert it to the pixel format `target`."""
    is_scaled = size != (frame.width, frame.height)
    scale = _input_scale(size, colour=colour, flags=_FLAGS_SCALED if is_scaled else _FLAGS_SAME_SIZE)
    if target.startswith("rgb"):
        scale += ":out_range=pc"
    elif colour.matrix == "rgb":
        scale += ":out_range=tv:out_color_matrix=bt709"
    else:
        scale += f":out_range={colour.range}:out_color_matrix={colour.matrix}"
    if is_scaled and target == "rgb24":
        return ("scale", scale), ("format", "gbrp"), ("scale", f"flags={_FLAGS_SAME_SIZE}"), ("format", target)
    return ("scale", scale), ("format", target)


def _tile_filters(layout: TileLayout, *, colour: Colour, target: str, area: ActiveArea) -> FilterChain:
    """The filters that scale an area to a canvas, cut tiles from it, stack them, and convert them to RGB."""
    matrix = "bt709" if colour.matrix == "rgb" else colour.matrix
    canvas = (
        _input_scale(layout.canvas, colour=colour, flags=_FLAGS_SCALED) + f":out_range=tv:out_color_matrix={matrix}"
    )
    width, height = layout.tile
    crops = [f"{width}:{height}:{left}:{top}" for left, top in layout.corners]
    is_sdr = target == "rgb24"
    to_rgb = f"flags={_FLAGS_SCALED}:in_color_matrix={matrix}:in_range=tv:out_range=pc"
    return (
        ("crop", f"{area.width}:{area.height}:{area.left}:{area.top}"),
        ("scale", canvas), ("format", "yuv410p" if is_sdr else "yuv420p12le"),
        ("crops", *crops),
        ("scale", to_rgb), ("format", "gbrp" if is_sdr else target), ("scale", f"flags={_FLAGS_SAME_SIZE}"),
        ("format", target),
    )  # fmt: skip


def _input_scale(size: tuple[int, int], *, colour: Colour, flags: str) -> str:
    """Arguments of the filter that scales a decoded frame: size, kernel, and how its values are read."""
    scale = f"w={size[0]}:h={size[1]}:flags={flags}:in_range={colour.range}"
    return scale if colour.matrix == "rgb" else f"{scale}:in_color_matrix={colour.matrix}"


def display_size(width: int, height: int, *, orientation: Orientation, sample_aspect_ratio: float) -> tuple[int, int]:
    """(width, height) of a coded picture when it is displayed upright with square pixels."""
    square_width = max(1, round(width * sample_aspect_ratio))
    return (height, square_width) if orientation.transposes else (square_width, height)


def subsample_luma(frame: av.VideoFrame) -> NDArray[np.float32]:
    """Every eighth pixel of every eighth row of the luma plane on an 8-bit scale; every pixel of small pictures."""
    bits = frame.format.components[0].bits
    plane = frame.planes[0]
    step = 8 if min(frame.width, frame.height) >= 256 else 1
    rows = plane_rows(plane)[::step]
    if bits <= 8:
        return rows[:, : plane.width : step].astype(np.float32)
    deep_rows = rows.view(np.uint16)[:, : plane.width : step].astype(np.float32)
    return deep_rows / np.float32(1 << (bits - 8))


def _packed_rgb(frame: av.VideoFrame, dtype: type[Any]) -> NDArray[Any]:
    rows = plane_rows(frame.planes[0])
    length = frame.width * 3 * np.dtype(dtype).itemsize
    packed: NDArray[Any] = np.ascontiguousarray(rows[:, :length]).view(dtype).reshape(frame.height, frame.width, 3)
    return packed


def _pad(picture: Pixels, view: View) -> Pixels:
    padded = np.empty((view.height, view.width, 3), np.uint8)
    padded[:] = np.asarray(view.pad_rgb, np.uint8)
    height, width = picture.shape[:2]
    top, left = (view.height - height) // 2, (view.width - width) // 2
    padded[top : top + height, left : left + width] = picture
    return padded


def _lay_tiles(picture: Pixels, view: View) -> Pixels:
    mosaic = np.empty((view.height, view.width, 3), np.uint8)
    height, width = picture.shape[:2]
    tile_width, tile_height = view.width // view.columns, view.height // view.rows
    for row in range(view.rows):
        top = _tile_start(row, view.rows, height, tile_height)
        for column in range(view.columns):
            left = _tile_start(column, view.columns, width, tile_width)
            mosaic[row * tile_height : (row + 1) * tile_height, column * tile_width : (column + 1) * tile_width] = (
                picture[top : top + tile_height, left : left + tile_width]
            )
    return mosaic


def _tile_start(index: int, count: int, length: int, tile: int) -> int:
    start = math.floor((index + 0.5) * length / count - tile / 2 + 0.5)
    return min(max(start, 0), length - tile)


def _round_half_up(value: float) -> int:
    return math.floor(value + 0.5)


def _have_same_format(first: av.VideoFrame, second: av.VideoFrame) -> bool:
    return (first.width, first.height, first.format.name) == (second.width, second.height, second.format.name)


def _is_combed(luma: NDArray[np.uint8]) -> bool:
    """Whether more lines differ from both neighbours in the same direction than in any progressive picture."""
    columns = luma[: luma.shape[0] // 2 * 2, ::4].astype(np.int16)
    above, line, below = columns[:-2], columns[1:-1], columns[2:]
    comb = (np.minimum(np.abs(line - above), np.abs(line - below)) > _COMB_STEP) & (np.abs(above - below) < _COMB_STEP)
    comb &= (line > above) == (line > below)
    return float(comb.mean()) > _COMB_SHARE
