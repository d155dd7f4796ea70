"""A small canvas in numpy: anti-aliased lines and text on white, saved as PNG."""

import struct
import zlib
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from vqmon.web.charts.ladder.stroke_font import CAP_HEIGHT, text_strokes, text_width

Colour = tuple[int, int, int]
Point = tuple[float, float]

_STROKE_SHARE = 0.13
"""Thickness of the strokes of text as a share of the height of its capitals."""


class Canvas:
    """A picture that is drawn on; x to the right and y down, in px."""

    def __init__(self, width: int, height: int) -> None:
        # (height, width, 3), 0..255
        self.pixels: NDArray[np.float32] = np.full((height, width, 3), 255, np.float32)

    def line(
        self,
        points: Sequence[Point],
        colour: Colour,
        *,
        width: float = 1.5,
        dash: Sequence[float] = (),
        alpha: float = 1.0,
    ) -> None:
        """A line through points; `dash` are lengths of strokes and gaps in turn."""
        segments = _dashed(points, dash) if dash else list(pairwise(points))
        for start, end in segments or [(point, point) for point in points[:1]]:
            self._stroke(start, end, colour, width=width, alpha=alpha)

    def dot(self, at: Point, colour: Colour, *, width: float) -> None:
        """A round dot."""
        self._stroke(at, at, colour, width=width, alpha=1.0)

    def text(self, at: Point, text: str, colour: Colour, *, size: float = 10.0, anchor: float = 0.0) -> None:
        """A line of text on a base line; `size` is the height of capitals, `anchor` 0 starts at the point, 1 ends."""
        unit = size / CAP_HEIGHT
        left = at[0] - anchor * text_width(text) * unit
        for stroke in text_strokes(text):
            points = [(left + x * unit, at[1] + (y - CAP_HEIGHT) * unit) for x, y in stroke]
            self.line(points, colour, width=max(1.1, _STROKE_SHARE * size))

    def png(self) -> bytes:
        """The picture as an 8-bit RGB PNG (ISO/IEC 15948)."""
        pixels = np.rint(self.pixels).clip(0, 255).astype(np.uint8)
        height, width, _ = pixels.shape
        # each row begins with its filter: none
        rows = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)], axis=1)
        header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
        chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b""))
        return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, content) for name, content in chunks)

    def _stroke(self, start: Point, end: Point, colour: Colour, *, width: float, alpha: float) -> None:
        """A segment with round ends: each pixel is covered by its distance from the segment."""
        reach = width / 2 + 1
        height, full_width, _ = self.pixels.shape
        left, right = max(0, int(min(start[0], end[0]) - reach)), int(max(start[0], end[0]) + reach) + 1
        top, bottom = max(0, int(min(start[1], end[1]) - reach)), int(max(start[1], end[1]) + reach) + 1
        right, bottom = min(right, full_width), min(bottom, height)
        if right <= left or bottom <= top:
            return
        x = np.arange(left, right, dtype=np.float32)[None, :] + 0.5 - start[0]
        y = np.arange(top, bottom, dtype=np.float32)[:, None] + 0.5 - start[1]
        along_x, along_y = end[0] - start[0], end[1] - start[1]
        squared = along_x**2 + along_y**2
        share = np.clip((x * along_x + y * along_y) / squared, 0, 1) if squared else 0.0
        distance = np.hypot(x - share * along_x, y - share * along_y)
        cover = (np.clip(width / 2 + 0.5 - distance, 0, 1) * alpha)[..., None]
        area = self.pixels[top:bottom, left:right]
        area += cover * (np.asarray(colour, np.float32) - area)


def _dashed(points: Sequence[Point], dash: Sequence[float]) -> list[tuple[Point, Point]]:
    """The strokes of a dashed line; the pattern goes on around corners."""
    strokes: list[tuple[Point, Point]] = []
    part, rest = 0, dash[0]
    for (x, y), (end_x, end_y) in pairwise(points):
        length = float(np.hypot(end_x - x, end_y - y))
        done = 0.0
        while done < length:
            step = min(rest, length - done)
            first, last = done / length, (done + step) / length
            if part % 2 == 0:
                ends = [(x + share * (end_x - x), y + share * (end_y - y)) for share in (first, last)]
                strokes.append((ends[0], ends[1]))
            done, rest = done + step, rest - step
            if rest <= 1e-9:
                part = (part + 1) % len(dash)
                rest = dash[part]
    return strokes


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
