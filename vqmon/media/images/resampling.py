"""A decoded frame as people see it: deinterlaced, turned, square pixels, RGB; and the views that scorers ask for.

Every view is one swscale step from the coded picture to the size asked for (bicubic, full chroma, accurate rounding;
at the coded size the plain conversion that ffmpeg makes by default), then turned as the display matrix says. The step
goes by way of planes of R, G and B: the same bits as straight to packed pixels, three times as fast. Square pixels: the
height is kept, the width becomes width × SAR. Interlaced frames go through `bwdif` with their neighbours, one frame out
per frame in; a frame that is flagged as interlaced but shows no comb is left as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vqmon.core.types import Pixels, View
from vqmon.media.images.colour import Colour, luma_to_sdr, to_sdr

if TYPE_CHECKING:
    import av

_FLAGS_SCALED = "bicubic+accurate_rnd+full_chroma_int+full_chroma_inp"
_FLAGS_SAME_SIZE = "bicubic"
_MAX_GRAPHS = 32
_PLANAR_8_BIT = ("yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p")
_COMB_STEP = 12
_COMB_SHARE = 0.005


@dataclass(frozen=True, slots=True)
class Turn:
    """A display matrix snapped to quarter turns and mirrors: first transpose, then flip left-right, then up-down."""

    transposes: bool = False
    flips_x: bool = False
    flips_y: bool = False

    @classmethod
    def of(cls, matrix: bytes) -> Turn:
        """From the 36 bytes of an ISO base media display matrix: 3x3 signed integers, native byte order."""
        if len(matrix) < 36:
            return cls()
        a, b, _, c, d = (int(value) for value in np.frombuffer(matrix[:36], np.int32)[:5])
        if abs(b) + abs(c) > abs(a) + abs(d):
            return cls(transposes=True, flips_x=c < 0, flips_y=b < 0)
        return cls(flips_x=a < 0, flips_y=d < 0)

    def __call__(self, picture: NDArray[Any]) -> NDArray[Any]:
        if self.transposes:
            picture = picture.swapaxes(0, 1)
        if self.flips_x:
            picture = picture[:, ::-1]
        return picture[::-1] if self.flips_y else picture

    @property
    def degrees(self) -> int:
        """Clockwise turn to show the coded picture upright; mirrors count as the turn they contain."""
        if self.transposes:
            return 270 if self.flips_y else 90
        return 180 if self.flips_y else 0


@dataclass(frozen=True, slots=True)
class Planes:
    """Luma and chroma of a frame as coded, 8 bits; `is_full` tells the range."""

    y: NDArray[np.uint8]
    u: NDArray[np.uint8]
    v: NDArray[np.uint8]
    is_full: bool


class Darkroom:
    """Turns frames into arrays; keeps its filter graphs from frame to frame. `new_graph` makes an empty one."""

    def __init__(self, new_graph: Callable[[], Any]) -> None:
        self._new_graph = new_graph
        self._graphs: dict[tuple[str, ...], tuple[Any, Any, Any]] = {}

    def view(self, frame: av.VideoFrame, view: View, *, colour: Colour, turn: Turn, sar: float) -> Pixels:
        """One (height, width, 3) picture."""
        if view.kind == "stretch":
            return self.rgb(frame, view.width, view.height, colour=colour, turn=turn)
        width, height = display_size(frame.width, frame.height, turn=turn, sar=sar)
        if view.kind == "fit":
            scale = min(view.width / width, view.height / height)
            inner = (min(view.width, max(1, round(width * scale))), min(view.height, max(1, round(height * scale))))
            return _padded(self.rgb(frame, *inner, colour=colour, turn=turn), view)
        scale = view.short_side / min(width, height)
        outer = (max(view.short_side, _round(width * scale)), max(view.short_side, _round(height * scale)))
        return _tiled(self.rgb(frame, *outer, colour=colour, turn=turn), view)

    def rgb(self, frame: av.VideoFrame, width: int, height: int, *, colour: Colour, turn: Turn) -> Pixels:
        """The whole frame squeezed to width × height, upright."""
        size = (height, width) if turn.transposes else (width, height)
        if colour.transfer == "sdr":
            out = self._scaled(frame, size, colour=colour, to="rgb24")
            return turn(_packed(out, np.uint8))
        out = self._scaled(frame, size, colour=colour, to="rgb48le")
        return turn(to_sdr(_packed(out, np.uint16), colour.transfer))

    def planes(self, frame: av.VideoFrame, *, colour: Colour) -> Planes:
        """The coded picture for measuring: native size, as coded, neither turned nor stretched; HDR as SDR grey."""
        is_full = colour.range == "pc"
        if frame.format.name not in _PLANAR_8_BIT:
            frame = self._scaled(frame, (frame.width, frame.height), colour=colour, to="yuv444p")
            is_full = is_full and colour.matrix != "rgb"
        y, u, v = (_plane(plane) for plane in frame.planes[:3])
        if colour.transfer != "sdr":
            return Planes(luma_to_sdr(y, colour), u, v, is_full=False)
        return Planes(y, u, v, is_full=is_full)

    def deinterlaced(
        self, frame: av.VideoFrame, *, before: av.VideoFrame | None, after: av.VideoFrame | None
    ) -> av.VideoFrame:
        """The frame without comb; itself when it shows none."""
        if not frame.interlaced_frame or not _is_combed(_plane(frame.planes[0])):
            return frame
        graph = self._new_graph()
        source = graph.add("buffer", _buffer_arguments(frame))
        nodes = [source, graph.add("bwdif", "mode=send_frame:parity=auto:deint=all"), graph.add("buffersink")]
        graph.link_nodes(*nodes).configure()
        line = [one for one in (before, frame, after) if one is not None and _same_shape(one, frame)]
        for place, one in enumerate(line):
            kept, one.pts = one.pts, place * 40
            source.push(one)
            one.pts = kept
        source.push(None)
        shown = [nodes[-1].pull() for _ in line]
        result: av.VideoFrame = shown[line.index(frame)]
        return result

    def _scaled(self, frame: av.VideoFrame, size: tuple[int, int], *, colour: Colour, to: str) -> av.VideoFrame:
        source, sink = self._graph(frame, size, colour=colour, to=to)
        source.push(frame)
        result: av.VideoFrame = sink.pull()
        return result

    def _graph(self, frame: av.VideoFrame, size: tuple[int, int], *, colour: Colour, to: str) -> tuple[Any, Any]:
        is_rgb_source = colour.matrix == "rgb"
        is_scaled = size != (frame.width, frame.height)
        flags = _FLAGS_SCALED if is_scaled else _FLAGS_SAME_SIZE
        scale = f"w={size[0]}:h={size[1]}:flags={flags}:in_range={colour.range}"
        if to.startswith("rgb"):
            scale += ":out_range=pc"
        elif is_rgb_source:
            scale += ":out_range=tv:out_color_matrix=bt709"
        else:
            scale += f":out_range={colour.range}"
        if not is_rgb_source:
            scale += f":in_color_matrix={colour.matrix}"
            if not to.startswith("rgb"):
                scale += f":out_color_matrix={colour.matrix}"
        key = (_buffer_arguments(frame), scale, to)
        if key not in self._graphs:
            if len(self._graphs) >= _MAX_GRAPHS:
                self._graphs.clear()
            filters = [("buffer", key[0]), ("scale", scale)]
            if is_scaled and to == "rgb24":
                filters += [("format", "gbrp"), ("scale", f"flags={_FLAGS_SAME_SIZE}")]
            graph = self._new_graph()
            graph.threads = 1
            nodes = [graph.add(*one) for one in (*filters, ("format", to), ("buffersink", None))]
            graph.link_nodes(*nodes).configure()
            # a filter does not keep its graph alive
            self._graphs[key] = (graph, nodes[0], nodes[-1])
        return self._graphs[key][1:]


def display_size(width: int, height: int, *, turn: Turn, sar: float) -> tuple[int, int]:
    """(width, height) of a coded picture with square pixels, upright."""
    square = max(1, round(width * sar))
    return (height, square) if turn.transposes else (square, height)


def thin_luma(frame: av.VideoFrame) -> NDArray[np.float32]:
    """Every eighth pixel of every eighth row of the first plane, in levels of 8 bits."""
    bits = frame.format.components[0].bits
    plane = frame.planes[0]
    step = 8 if min(frame.width, frame.height) >= 256 else 1
    rows = _rows(plane)[::step]
    if bits <= 8:
        return rows[:, : plane.width : step].astype(np.float32)
    deep = rows.view(np.uint16)[:, : plane.width : step].astype(np.float32)
    return deep / np.float32(1 << (bits - 8))


def _buffer_arguments(frame: av.VideoFrame) -> str:
    size = f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}:time_base=1/1000"
    spaces, ranges = {0: "gbr", 2: "unknown", 3: "unknown"}, {1: "tv", 2: "pc"}
    space = spaces.get(frame.colorspace, frame.colorspace)
    return f"{size}:colorspace={space}:range={ranges.get(frame.color_range, 'unknown')}"


def _plane(plane: Any) -> NDArray[np.uint8]:
    return _rows(plane)[:, : plane.width]


def _rows(plane: Any) -> NDArray[np.uint8]:
    """The bytes of a plane, padding included; no copy."""
    return np.frombuffer(plane, np.uint8, plane.height * plane.line_size).reshape(plane.height, plane.line_size)


def _packed(frame: av.VideoFrame, kind: type[Any]) -> NDArray[Any]:
    rows = _rows(frame.planes[0])
    length = frame.width * 3 * np.dtype(kind).itemsize
    packed: NDArray[Any] = np.ascontiguousarray(rows[:, :length]).view(kind).reshape(frame.height, frame.width, 3)
    return packed


def _padded(picture: Pixels, view: View) -> Pixels:
    whole = np.empty((view.height, view.width, 3), np.uint8)
    whole[:] = np.asarray(view.pad_rgb, np.uint8)
    height, width = picture.shape[:2]
    top, left = (view.height - height) // 2, (view.width - width) // 2
    whole[top : top + height, left : left + width] = picture
    return whole


def _tiled(picture: Pixels, view: View) -> Pixels:
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


def _round(value: float) -> int:
    return math.floor(value + 0.5)


def _same_shape(one: av.VideoFrame, other: av.VideoFrame) -> bool:
    return (one.width, one.height, one.format.name) == (other.width, other.height, other.format.name)


def _is_combed(luma: NDArray[np.uint8]) -> bool:
    """Whether lines differ from both neighbours in the same direction more often than any picture does."""
    part = luma[: luma.shape[0] // 2 * 2, ::4].astype(np.int16)
    above, here, below = part[:-2], part[1:-1], part[2:]
    comb = (np.minimum(np.abs(here - above), np.abs(here - below)) > _COMB_STEP) & (np.abs(above - below) < _COMB_STEP)
    comb &= (here > above) == (here > below)
    return float(comb.mean()) > _COMB_SHARE
