"""The tools that a decoder process keeps from comparison to comparison, and the memory that they keep."""

import ctypes
import gc
import io
import sys
from collections.abc import Iterator
from functools import partial

import av
import av.filter
import numpy as np
import pytest

from tests.media.clips import clip, x264
from vqmon.media.images.colour import describe_frame_colour
from vqmon.media.images.resampling import FrameResampler, Orientation
from vqmon.media.reference.canvas import SideFrame
from vqmon.media.reference.comparison import ReferenceRequest, SegmentSide
from vqmon.media.reference.sides import ReferenceTools

FILM = "mandelbrot=size={size}:rate={rate}:end_scale=0.02:end_pts=250,trim=duration={seconds}"
FRAME_BYTES = 640 * 360 * 3 // 2
_HEAP_FACTS = (
    "arena",
    "ordblks",
    "smblks",
    "hblks",
    "hblkhd",
    "usmblks",
    "fsmblks",
    "uordblks",
    "fordblks",
    "keepcost",
)


class HeapFacts(ctypes.Structure):
    """glibc's `struct mallinfo2`."""

    _fields_ = [(name, ctypes.c_size_t) for name in _HEAP_FACTS]


def allocated_bytes() -> int:
    """What is allocated and not freed, on the heap and in mappings."""
    gc.collect()
    read = ctypes.CDLL(None).mallinfo2
    read.restype = HeapFacts
    facts = read()
    return int(facts.uordblks + facts.hblkhd)


def side_frames(media: bytes) -> Iterator[SideFrame]:
    with av.open(io.BytesIO(media), "r") as container:
        for index, frame in enumerate(container.decode(video=0)):
            yield SideFrame(index / 25, frame, describe_frame_colour(frame), Orientation(), 1.0)


def compare(tools: ReferenceTools, media: bytes, measure: str) -> float:
    """The mean value of a segment that is its own reference, by two samples per second."""
    side = SegmentSide(tools.converter)
    for index, frame in enumerate(side_frames(media)):
        side.add_decoded(frame)
        if index % 12 == 0:
            side.add_sample(frame, stream_seconds=frame.time_seconds)
    answer = tools.compare(
        side,
        partial(side_frames, media),
        ReferenceRequest(measures=(measure,)),
        times=[0.0, 2.0],
        memory=np.empty(0, np.uint8),
        used_bytes=0,
    )
    return float(np.mean(answer["measures"][measure]["values"]))


@pytest.mark.skipif(sys.platform != "linux", reason="the heap is read by a function of glibc")
def test_no_frame_outlives_its_comparison() -> None:
    """A filter that held one frame kept the memory of all frames of its decoder: a segment's frames per measure."""
    media = clip(*x264("-crf", "30"), size="640x360", seconds=2, source=FILM)
    tools = ReferenceTools(
        FrameResampler(av.filter.Graph),
        new_graph=av.filter.Graph,
        frame_from_rgb=partial(av.VideoFrame.from_ndarray, format="rgb24"),
    )
    # graphs that only scale are kept, and the first use of a filter may leave a few MB once
    assert [compare(tools, media, measure) for measure in ("xpsnr", "psnr")] == [100.0, 100.0]
    gc.collect()
    before = allocated_bytes()
    for measure in ("ssim", "msad", "xpsnr"):
        compare(tools, media, measure)

    gc.collect()
    # 170 MB while frames were held
    assert allocated_bytes() - before < 100 * FRAME_BYTES
