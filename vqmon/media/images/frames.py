"""Decoded frames: chains of libavfilter filters for them, and their planes as arrays."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import av

FilterChain = tuple[tuple[str, ...], ...]
"""Names and arguments of filters, one after the other; `crops` are several crops that are stacked."""

_MAX_GRAPHS = 32
_UNSPECIFIED = 2
# ITU-T H.273 code points that libav's filters take; a matrix is always given to them by name
_FILTERED_MATRICES = frozenset((1, 2, 4, 5, 6, 7, 9))
_FILTERED_TRANSFERS = frozenset((1, 2, 4, 5, 6, 7, 8, 11, 12, 13, 14, 15, 16, 17, 18))
_FILTERED_PRIMARIES = frozenset((1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12, 22))


class FilterGraphs:
    """Runs frames through chains of filters, and caches the graphs; `new_graph` creates an empty graph."""

    def __init__(self, new_graph: Callable[[], Any]) -> None:
        self._new_graph = new_graph
        self._graphs: dict[tuple[str, FilterChain], tuple[Any, Any, Any]] = {}

    def run(self, frame: av.VideoFrame, chain: FilterChain) -> av.VideoFrame:
        """The frame that leaves the chain."""
        with filtered_colour(frame):
            key = (buffer_arguments(frame), chain)
            if key not in self._graphs:
                if len(self._graphs) >= _MAX_GRAPHS:
                    self._graphs.clear()
                self._graphs[key] = self._open(*key)
            _, source, sink = self._graphs[key]
            source.push(frame)
        result: av.VideoFrame = sink.pull()
        return result

    def _open(self, arguments: str, chain: FilterChain) -> tuple[Any, Any, Any]:
        """(graph, source, sink); the graph is stored because a filter does not keep its graph alive."""
        graph = self._new_graph()
        graph.threads = 1
        last = source = graph.add("buffer", arguments)
        for name, *options in chain:
            last = _add_crops(graph, last, options) if name == "crops" else _add_filter(graph, last, name, *options)
        sink = _add_filter(graph, last, "buffersink")
        graph.configure()
        return graph, source, sink


@contextlib.contextmanager
def filtered_colour(frame: av.VideoFrame) -> Iterator[None]:
    """Within it, code points of the frame's colour that libav's filters refuse are unspecified.

    The chains name matrix and range themselves, as `colour.describe_frame_colour` reads them.
    """
    matrix, transfer, primaries = frame.colorspace, frame.color_trc, frame.color_primaries
    is_rgb = frame.format.is_rgb
    if not is_rgb and matrix not in _FILTERED_MATRICES:
        frame.colorspace = _UNSPECIFIED
    if transfer not in _FILTERED_TRANSFERS:
        frame.color_trc = _UNSPECIFIED
    if primaries not in _FILTERED_PRIMARIES:
        frame.color_primaries = _UNSPECIFIED
    try:
        yield
    finally:
        frame.colorspace, frame.color_trc, frame.color_primaries = matrix, transfer, primaries


def buffer_arguments(frame: av.VideoFrame, *, frame_rate: Fraction | None = None) -> str:
    """The arguments of a `buffer` filter for frames like this one."""
    spaces, ranges = {0: "gbr", 2: "unknown", 3: "unknown"}, {1: "tv", 2: "pc"}
    space, colour_range = spaces.get(frame.colorspace, frame.colorspace), ranges.get(frame.color_range, "unknown")
    arguments = f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}:time_base=1/1000"
    arguments += f":colorspace={space}:range={colour_range}"
    return arguments if frame_rate is None else f"{arguments}:frame_rate={frame_rate}"


def _add_filter(graph: Any, previous: Any, name: str, *arguments: str) -> Any:
    node = graph.add(name, *arguments)
    previous.link_to(node)
    return node


def _add_crops(graph: Any, previous: Any, crops: Sequence[str]) -> Any:
    """Several crops of one picture, one below the other."""
    if len(crops) == 1:
        return _add_filter(graph, previous, "crop", crops[0])
    split, stack = _add_filter(graph, previous, "split", str(len(crops))), graph.add("vstack", f"inputs={len(crops)}")
    for index, crop in enumerate(crops):
        node = graph.add("crop", crop)
        split.link_to(node, index)
        node.link_to(stack, 0, index)
    return stack


def frame_side_data(frame: av.VideoFrame, name: str) -> Any:
    """The side data of a frame by its name in FFmpeg; None without it.

    PyAV refuses all side data of a frame when it does not know the type of one, as that of Exif: then None too.
    """
    try:
        return frame.side_data.get(name)
    except ValueError:
        return None


def plane_rows(plane: Any) -> NDArray[np.uint8]:
    """The bytes of a plane, (height, line size) with the padding of each line; no copy."""
    return np.frombuffer(plane, np.uint8, plane.height * plane.line_size).reshape(plane.height, plane.line_size)


def plane_pixels(plane: Any) -> NDArray[np.uint8]:
    """(height, width) of a plane of 8 bits; no copy."""
    return plane_rows(plane)[:, : plane.width]


def luma_plane(frame: av.VideoFrame) -> NDArray[np.uint8]:
    """(height, width) of the first plane on an 8-bit scale; a copy for deeper pictures."""
    plane, bits = frame.planes[0], frame.format.components[0].bits
    if bits <= 8:
        return plane_pixels(plane)
    deep = plane_rows(plane).view(np.uint16)[:, : plane.width]
    return (deep >> (bits - 8)).astype(np.uint8)


def luma_codes(frame: av.VideoFrame) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """(height, width) of the first plane as it is coded, uint16 for pictures deeper than 8 bits; no copy."""
    plane = frame.planes[0]
    if frame.format.components[0].bits <= 8:
        return plane_pixels(plane)
    return plane_rows(plane).view(np.uint16)[:, : plane.width]


def count_dark_ends(is_lit: NDArray[np.bool_]) -> tuple[int, int]:
    """How many lines are dark before the first lit one and after the last; (all, 0) when none is lit."""
    lit = np.flatnonzero(is_lit)
    return (int(lit[0]), len(is_lit) - 1 - int(lit[-1])) if len(lit) else (len(is_lit), 0)
