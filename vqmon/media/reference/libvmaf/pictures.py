"""The pictures of both sides on their canvas: written by the decoder process, streamed to the program by the daemon.

libvmaf skips frames (`n_subsample`) but reads the motion of the reference in every frame. So both streams have one
block per compared frame: the reference's frames around it in order of time, and the segment's frame as often. The
blocks begin such that the compared frames are the frames 0, period, 2 * period ... of the streams, and the first frame
of the reference, which has no motion before it, is the first of its stream. So a compared frame has the values that it
has when the program compares all frames.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vqmon.media.reference.libvmaf.measures import FrameContext

if TYPE_CHECKING:
    import av

_SAMPLE_BYTES: Mapping[str, int] = {"yuv420p": 1, "yuv420p10le": 2}
"""Bytes of a sample by the pixel format of a canvas."""

_Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureLayout:
    """Size and format of stored pictures, and where the reference begins or ends within the first or last block."""

    width: int
    height: int
    pixel_format: str
    count: int = 0
    # the first compared frame is the first of the reference
    starts_at_first: bool = False
    # frames after the last compared one that the reference does not have
    missing_at_end: int = 0

    def __post_init__(self) -> None:
        if self.pixel_format not in _SAMPLE_BYTES:
            raise ValueError(f"{self.pixel_format!r} is none of {', '.join(_SAMPLE_BYTES)}")
        if not all(16 <= side <= 8192 and side % 2 == 0 for side in (self.width, self.height)):
            raise ValueError(f"{self.width}x{self.height}: both sides must be even and within 16..8192")
        if not 0 <= self.count < 100_000 or not 0 <= self.missing_at_end < 100:
            raise ValueError(f"{self.count} pictures and {self.missing_at_end} missing frames cannot be")

    @property
    def picture_bytes(self) -> int:
        """Bytes of one picture: luma, then both chroma planes at half width and height."""
        return self.width * self.height * 3 // 2 * _SAMPLE_BYTES[self.pixel_format]


@dataclass(slots=True)
class PictureStore:
    """Memory into which the pictures of compared frames are written: the segment's, then those of the reference."""

    memory: _Bytes
    context: FrameContext
    layout: PictureLayout | None = field(default=None, init=False)

    def begin(self, *, width: int, height: int, pixel_format: str) -> int:
        """Set size and format of the pictures; returns how many compared frames there is room for."""
        self.layout = PictureLayout(width=width, height=height, pixel_format=pixel_format)
        return len(self.memory) // (self.layout.picture_bytes * (1 + self.context.period))

    def add(
        self,
        segment: av.VideoFrame,
        reference: Mapping[int, av.VideoFrame],
        *,
        partner: int,
        frame_count: int,
    ) -> None:
        """Add a compared frame; `reference` holds frames around its partner by index, of `frame_count` in all."""
        layout, last = self.layout, frame_count - 1
        assert layout is not None
        around = range(partner - self.context.before, partner + self.context.after + 1)
        offset = layout.count * layout.picture_bytes * (1 + self.context.period)
        for frame in (segment, *(reference[_mirrored(index, last)] for index in around)):
            self.memory[offset : offset + layout.picture_bytes] = frame.to_ndarray().reshape(-1).view(np.uint8)
            offset += layout.picture_bytes
        self.layout = replace(
            layout,
            count=layout.count + 1,
            starts_at_first=layout.starts_at_first if layout.count else partner == 0,
            missing_at_end=max(0, partner + self.context.after - last),
        )


def _mirrored(index: int, last: int) -> int:
    """The frame that stands for one before the first (the first) or after the last (the one as far before it)."""
    return max(0, index if index <= last else 2 * last - index)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPictures:
    """What a `PictureStore` wrote, as two streams of raw pictures."""

    memory: _Bytes
    layout: PictureLayout
    context: FrameContext

    def __post_init__(self) -> None:
        if not self.layout.count or len(self.memory) < self.layout.count * self._block_bytes:
            raise ValueError("there are no pictures, or fewer than their layout says")

    @property
    def indices(self) -> Sequence[int]:
        """Where the compared frames stand in the streams."""
        period = self.context.period
        first = 0 if self.layout.starts_at_first else period
        return range(first, first + self.layout.count * period, period)

    def segment_stream(self) -> Iterator[memoryview]:
        """The pictures of the segment, each as often as there are frames in its block."""
        for block, _ in self._sequence():
            yield self._picture(block, 0)

    def reference_stream(self) -> Iterator[memoryview]:
        """The pictures of the reference in order of time, block by block."""
        for block, position in self._sequence():
            yield self._picture(block, 1 + position)

    def _sequence(self) -> Iterator[tuple[int, int]]:
        """(block, position within the block) of each frame of the reference's stream."""
        before, period = self.context.before, self.context.period
        if not self.layout.starts_at_first:
            yield from ((0, before) for _ in range(period - before))
        for block in range(self.layout.count):
            first = before if block == 0 and self.layout.starts_at_first else 0
            is_last = block == self.layout.count - 1
            end = max(before + 1, period - self.layout.missing_at_end) if is_last else period
            yield from ((block, position) for position in range(first, end))

    @property
    def _block_bytes(self) -> int:
        return self.layout.picture_bytes * (1 + self.context.period)

    def _picture(self, block: int, position: int) -> memoryview:
        offset = block * self._block_bytes + position * self.layout.picture_bytes
        return self.memory[offset : offset + self.layout.picture_bytes].data


def parse_layout(content: Mapping[str, Any]) -> PictureLayout:
    """The inverse of `dataclasses.asdict`; raises ValueError, KeyError or TypeError for anything else."""
    numbers = {name: content[name] for name in ("width", "height", "count", "missing_at_end")}
    if any(type(number) is not int for number in numbers.values()) or type(content["starts_at_first"]) is not bool:
        raise ValueError("this is no layout of pictures")
    return PictureLayout(
        **numbers, pixel_format=str(content["pixel_format"]), starts_at_first=content["starts_at_first"]
    )
