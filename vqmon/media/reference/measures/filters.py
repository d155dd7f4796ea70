"""Reference measures by the filters of libavfilter; their numbers are those of the ffmpeg program.

XPSNR weighs each block by how much the reference changes since the frames before it: one before up to 32 frames per
second, two above. They are sent through the filter first, so that a sampled frame gets the value that it has when all
frames are compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from vqmon.media.images.frames import buffer_arguments

if TYPE_CHECKING:
    import av

_MAX_GRAPHS = 8
_TICK = Fraction(1, 1000)

MAX_DECIBELS = 100.0
"""PSNR of identical pictures, which is infinite; JSON has no infinity."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterMeasure:
    """The facts of a measure, and how its value is read from the metadata that a filter leaves in its output.

    `low` and `high` bound the values; None where there is no bound.
    """

    description: str
    unit: str
    low: float | None
    high: float | None
    higher_is_better: bool
    # component -> key of the metadata
    keys: Mapping[str, str]
    # the component that is the value; "" = the mean of all
    value: str = ""
    # how many earlier frames of the reference the filter reads, up to and above 32 frames per second
    context: tuple[int, int] = (0, 0)
    # whether the filter takes the reference as its first input
    is_reference_first: bool = False


FILTER_MEASURES: Mapping[str, FilterMeasure] = {
    "psnr": FilterMeasure(
        description="peak signal-to-noise ratio over luma and chroma, the `average` of FFmpeg",
        unit="dB",
        low=0.0,
        high=MAX_DECIBELS,
        higher_is_better=True,
        keys={
            "average": "lavfi.psnr.psnr_avg",
            "y": "lavfi.psnr.psnr.y",
            "u": "lavfi.psnr.psnr.u",
            "v": "lavfi.psnr.psnr.v",
        },
        value="average",
    ),
    "ssim": FilterMeasure(
        description="structural similarity over luma and chroma, `All` of FFmpeg",
        unit="",
        low=-1.0,
        high=1.0,
        higher_is_better=True,
        keys={"all": "lavfi.ssim.All", "y": "lavfi.ssim.Y", "u": "lavfi.ssim.U", "v": "lavfi.ssim.V"},
        value="all",
    ),
    "xpsnr": FilterMeasure(
        description="perceptually weighted PSNR of the luma, `y` of FFmpeg",
        unit="dB",
        low=0.0,
        high=MAX_DECIBELS,
        higher_is_better=True,
        keys={plane: f"lavfi.xpsnr.xpsnr.{plane}" for plane in ("y", "u", "v")},
        value="y",
        context=(1, 2),
        is_reference_first=True,
    ),
    "vif": FilterMeasure(
        description="visual information fidelity of the luma, mean of the four scales of FFmpeg",
        unit="",
        low=0.0,
        high=None,
        higher_is_better=True,
        keys={f"scale_{scale}": f"lavfi.vif.scale.{scale}" for scale in range(4)},
    ),
    "msad": FilterMeasure(
        description="mean absolute difference over luma and chroma, the `average` of FFmpeg",
        unit="",
        low=0.0,
        high=1.0,
        higher_is_better=False,
        keys={
            "average": "lavfi.msad.msad_avg",
            "y": "lavfi.msad.msad.Y",
            "u": "lavfi.msad.msad.U",
            "v": "lavfi.msad.msad.V",
        },
        value="average",
    ),
}
"""The measures of libavfilter by name."""

MAX_FILTER_CONTEXT = max(max(measure.context) for measure in FILTER_MEASURES.values())
"""Of any measure: how many earlier frames of the reference the filter reads."""

_FAST_FPS = 32


class FilterMeter:
    """Runs the filters on pairs of pictures of one canvas; `new_graph` creates an empty graph.

    Its graphs hold the last frames, and these the memory of their decoders: make one meter for each comparison.
    """

    def __init__(self, new_graph: Callable[[], Any]) -> None:
        self._new_graph = new_graph
        self._graphs: dict[tuple[str, str], tuple[Any, Any, Any, Any]] = {}
        self._ticks = 0

    @staticmethod
    def context_frames(names: Sequence[str], fps: float) -> int:
        """How many frames of the reference before a paired one these measures need."""
        return max(
            (FILTER_MEASURES[name].context[fps > _FAST_FPS] for name in names if name in FILTER_MEASURES), default=0
        )

    def measure(
        self,
        name: str,
        segment: av.VideoFrame,
        reference: av.VideoFrame,
        *,
        earlier: Sequence[av.VideoFrame] = (),
        fps: float = 25.0,
    ) -> tuple[float, dict[str, float]]:
        """The value and its components for one pair; `earlier` are the frames of the reference before it, in order."""
        measure = FILTER_MEASURES[name]
        needed = measure.context[fps > _FAST_FPS]
        context = list(earlier)[-needed:] if needed else []
        nodes = self._open(name, reference, fps, is_new=len(context) < needed)
        for frame in (*context, reference):
            metadata = self._push(nodes, segment, frame, is_reference_first=measure.is_reference_first)
        components = {part: _finite(metadata[key]) for part, key in measure.keys.items() if key in metadata}
        value = components[measure.value] if measure.value else sum(components.values()) / len(components)
        return value, components

    def _push(
        self,
        nodes: tuple[Any, Any, Any, Any],
        segment: av.VideoFrame,
        reference: av.VideoFrame,
        *,
        is_reference_first: bool,
    ) -> Mapping[str, str]:
        _, first, second, sink = nodes
        self._ticks += 40
        for frame in (segment, reference):
            frame.pts, frame.time_base = self._ticks, _TICK
        pair = (reference, segment) if is_reference_first else (segment, reference)
        first.push(pair[0])
        second.push(pair[1])
        metadata: Mapping[str, str] = sink.pull().metadata
        return metadata

    def _open(self, name: str, frame: av.VideoFrame, fps: float, *, is_new: bool) -> tuple[Any, Any, Any, Any]:
        """(graph, first input, second input, output) of a filter, cached unless its memory must be empty."""
        rate = Fraction(max(fps, 1.0)).limit_denominator(1001)
        key = (name, buffer_arguments(frame, frame_rate=rate))
        if is_new or key not in self._graphs:
            if len(self._graphs) >= _MAX_GRAPHS:
                self._graphs.clear()
            graph = self._new_graph()
            graph.threads = 1
            first, second = graph.add("buffer", key[1]), graph.add("buffer", key[1])
            node, sink = graph.add(name), graph.add("buffersink")
            first.link_to(node, 0, 0)
            second.link_to(node, 0, 1)
            node.link_to(sink)
            graph.configure()
            # the graph is stored because a filter does not keep its graph alive
            self._graphs[key] = (graph, first, second, sink)
        return self._graphs[key]


def _finite(text: str) -> float:
    value = float(text)
    return min(value, MAX_DECIBELS) if math.isinf(value) else value
