"""Finds the part of a decoded frame inside its bars."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vqmon.media.images.frames import count_dark_ends, luma_plane

if TYPE_CHECKING:
    import av

# Levels of luma above black: of a bar that stands alone, of a pair of bars, and how far the pixels of a pair differ.
_BLACK_LEVELS, _DARK_LEVELS, _FLAT_LEVELS = 8, 32, 10
# Of the pixels of a line: what coding changes beside a picture, what logos and subtitles may cover in a pair of bars.
_MAX_CODED_SHARE, _MAX_COVERED_SHARE = 0.05, 0.5
# How much two bars of a pair differ: in levels, and in lines or as a share of the picture's lines or columns.
_PAIR_LEVELS, _PAIR_LINES, _PAIR_SHARE = 4, 4, 0.02
# Of the picture's lines or columns; more than this is a dark scene rather than bars.
_MAX_BAR_SHARE = 0.375
_STEP = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ActiveArea:
    """A rectangle of the coded picture in px; all four numbers are even unless the picture's own size is odd."""

    left: int
    top: int
    width: int
    height: int


def find_active_area(frame: av.VideoFrame, *, is_full_range: bool) -> ActiveArea:
    """The frame without the bars above, below, left and right of it.

    A bar is a run of lines, or of columns, from an edge of the picture that are all black. Two bars of the same length
    and level on opposite sides may also be dark grey and noisy, or hold a logo or a subtitle. The whole frame is active
    when it is dark itself (bars over 3/8 of its height or width), and for packed RGB.
    """
    whole = ActiveArea(left=0, top=0, width=frame.width, height=frame.height)
    if frame.format.is_rgb and not frame.format.is_planar:
        return whole
    luma = luma_plane(frame)
    black = 0 if is_full_range else 16
    top, bottom = _bar_lengths(luma[:, ::_STEP], black)
    if max(top, bottom) > _MAX_BAR_SHARE * frame.height:
        return whole
    left, right = _bar_lengths(luma[top : frame.height - bottom : _STEP].T, black)
    if max(left, right) > _MAX_BAR_SHARE * frame.width:
        return whole
    # whole chroma samples, and no line of a bar
    top, bottom, left, right = (bar + bar % 2 for bar in (top, bottom, left, right))
    width, height = frame.width - left - right, frame.height - top - bottom
    return ActiveArea(left=left, top=top, width=width, height=height) if min(width, height) > 0 else whole


def _bar_lengths(lines: NDArray[np.uint8], black: int) -> tuple[int, int]:
    """The number of lines of the bars at the start and at the end; (all, 0) when every line is black."""
    pair = _pair_lengths(lines, black)
    if pair != (0, 0):
        return pair
    if not _are_black(lines[[0, -1]], black).any():
        return 0, 0
    return count_dark_ends(~_are_black(lines, black))


def _are_black(lines: NDArray[np.uint8], black: int) -> NDArray[np.bool_]:
    lit = (lines > black + _BLACK_LEVELS).mean(axis=1)
    return np.asarray(lit <= _MAX_CODED_SHARE)


def _pair_lengths(lines: NDArray[np.uint8], black: int) -> tuple[int, int]:
    """The lengths of a pair of bars; (0, 0) when there is none."""
    levels = [float(np.median(lines[end])) for end in (0, -1)]
    if max(levels) > black + _DARK_LEVELS or abs(levels[0] - levels[1]) > _PAIR_LEVELS:
        return 0, 0
    is_other = np.abs(lines - np.float32(sum(levels) / 2)) > _FLAT_LEVELS
    start, end = count_dark_ends(is_other.mean(axis=1) > _MAX_COVERED_SHARE)
    is_pair = min(start, end) > 0 and abs(start - end) <= max(_PAIR_LINES, _PAIR_SHARE * len(lines))
    return (start, end) if is_pair else (0, 0)
