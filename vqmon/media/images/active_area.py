"""Finds the part of a decoded frame inside its black bars."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vqmon.media.images.frames import count_dark_ends, luma_plane

if TYPE_CHECKING:
    import av

# Levels of limited-range luma, 16 black: coded bars stay within them, dark scenes are noisier.
_BAR_MEAN, _BAR_PEAK = 20, 30
# Of the picture's lines or columns; more than this is a dark scene rather than bars.
_MAX_BAR_SHARE = 0.375
# Coding mixes the picture into the first lines of a bar; with those left out, the edge of a bar is no contrast.
_MARGIN_PX = 4
_STEP = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ActiveArea:
    """A rectangle of the coded picture in px; all four numbers are even unless the picture's own size is odd."""

    left: int
    top: int
    width: int
    height: int


def find_active_area(frame: av.VideoFrame, *, is_full_range: bool) -> ActiveArea:
    """The frame without the black bars above, below, left and right of it.

    A bar is a run of lines, or of columns, from an edge of the picture that are all black and flat. The whole frame
    is active when it is dark itself (bars over 3/8 of its height or width), and for packed RGB.
    """
    whole = ActiveArea(left=0, top=0, width=frame.width, height=frame.height)
    if frame.format.is_rgb and not frame.format.is_planar:
        return whole
    luma = luma_plane(frame)
    black = 0 if is_full_range else 16
    top, bottom = _bar_lengths(luma[:, ::_STEP], black)
    left, right = _bar_lengths(luma[::_STEP].T, black)
    if top + bottom + left + right == 0:
        return whole
    if max(top, bottom) > _MAX_BAR_SHARE * frame.height or max(left, right) > _MAX_BAR_SHARE * frame.width:
        return whole
    top, bottom, left, right = (_cut(bar) for bar in (top, bottom, left, right))
    return ActiveArea(left=left, top=top, width=frame.width - left - right, height=frame.height - top - bottom)


def _cut(bar: int) -> int:
    """How many lines are cut away for a bar: an even number with a margin, none without a bar."""
    return (bar + _MARGIN_PX) // 2 * 2 if bar else 0


def _bar_lengths(lines: NDArray[np.uint8], black: int) -> tuple[int, int]:
    """The number of black lines at the start and at the end; (all, 0) when every line is black."""
    offset = black - 16
    return count_dark_ends((lines.mean(axis=1) > _BAR_MEAN + offset) | (lines.max(axis=1) > _BAR_PEAK + offset))
