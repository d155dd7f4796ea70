"""Heat maps of a segment: detail lost against recent frames of the rendition, and parts that a scorer finds worse."""

from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from statistics import median

import numpy as np

from pipelines.observe.scoring_tiers import Scorer
from vqmon.core.frames import DetailGrid
from vqmon.core.scores import HeatMap, Losses, pack_heat_map
from vqmon.core.types import DecodedSegment, Pixels, Score, Segment, View
from vqmon.errors import ScoreError
from vqmon.media.images.signals.detail import detail_losses

_MIN_DETAIL_PEAK = 0.3
"""A cell of clean video that moves loses up to this much."""
_MAX_UNDAMAGED_MEAN = 0.02
_RECENT_FRAMES = 8
_MAX_AGE = timedelta(minutes=10)
_MAX_RENDITIONS = 4_000
_RECENT_SCORES = 30
_MIN_RECENT_SCORES = 5
_DROP_POINTS = 5.0
_STRETCH_CELLS = (3, 4)
"""Rows and columns into which a picture that is scored whole is cut."""


class RecentDetail:
    """The latest undamaged frames of each rendition, with which the frames of its next segment are compared."""

    def __init__(self) -> None:
        # rendition -> (start of the segment, packed grid)
        self._frames: OrderedDict[str, deque[tuple[datetime, bytes]]] = OrderedDict()

    def heat_map(self, segment: Segment, frames: Sequence[DetailGrid]) -> HeatMap | None:
        """Where the sampled frames of a segment lose or lack detail; stores those that do not."""
        recent = self._frames.setdefault(segment.rendition.key, deque(maxlen=_RECENT_FRAMES))
        self._frames.move_to_end(segment.rendition.key)
        if len(self._frames) > _MAX_RENDITIONS:
            self._frames.popitem(last=False)
        # segments are observed in parallel: those that start later may be stored already
        earlier = [
            DetailGrid.unpack(packed)
            for starts_at, packed in recent
            if segment.starts_at - _MAX_AGE <= starts_at < segment.starts_at
        ]
        losses = detail_losses(frames, earlier=earlier)
        recent.extend(
            (segment.starts_at, frame.pack())
            for frame, loss in zip(frames, losses, strict=True)
            if loss.mean() <= _MAX_UNDAMAGED_MEAN
        )
        return pack_heat_map("detail", losses, min_peak=_MIN_DETAIL_PEAK)


class RecentScores:
    """The latest scores of each rendition: of those that fall, scorers are asked which parts are worse."""

    def __init__(self) -> None:
        self._scores: OrderedDict[str, deque[float]] = OrderedDict()

    def is_drop(self, rendition_key: str, value: float) -> bool:
        """Whether a score, 0..100, lies five points below the median of the last 30; it is one of them from now on."""
        recent = self._scores.setdefault(rendition_key, deque(maxlen=_RECENT_SCORES))
        self._scores.move_to_end(rendition_key)
        if len(self._scores) > _MAX_RENDITIONS:
            self._scores.popitem(last=False)
        is_drop = len(recent) >= _MIN_RECENT_SCORES and value <= median(recent) - _DROP_POINTS
        recent.append(value)
        return is_drop


async def scorer_heat_map(scorer: Scorer, decoded: DecodedSegment, score: Score, *, frames: int) -> HeatMap | None:
    """Where a scorer finds the worst `frames` frames worse: the score of each part of the picture, alone.

    The scorer sees pictures that consist of one part only, repeated; the loss of a part is what it lies below the upper
    quartile of the parts, in hundreds of points. That takes as many runs per frame as there are parts. None for a
    scorer with another view than `tiles`, `display` or `stretch`, and for one that fails.
    """
    if len(scorer.views) != 1 or len(score.frame_values) != len(decoded.times_seconds):
        return None
    view = scorer.views[0]
    if view.clip is not None or (cells := _cells(view)) is None:
        return None
    losses: list[Losses | None] = [None] * len(decoded.times_seconds)
    for index in np.argsort(score.frame_values, kind="stable")[:frames].tolist():
        pictures = np.stack([_only(decoded.views[view][index], view, cell, cells) for cell in np.ndindex(*cells)])
        try:
            parts = await scorer.score(_as_segment(decoded, view, pictures))
        except ScoreError:
            return None
        values = np.asarray(parts.frame_values, np.float32).reshape(cells)
        losses[index] = ((np.quantile(values, 0.75) - values) / 100).clip(0, 1).astype(np.float32)
    return pack_heat_map(scorer.id, losses)


def _cells(view: View) -> tuple[int, int] | None:
    """(rows, columns) of the parts of a view that can be scored alone; None for a view of which that makes no sense."""
    if view.kind == "tiles":
        return view.rows, view.columns
    if view.kind == "display":
        largest = max(view.grids, key=lambda grid: grid.rows * grid.columns)
        return largest.rows, largest.columns
    return _STRETCH_CELLS if view.kind == "stretch" else None


def _only(picture: Pixels, view: View, cell: tuple[int, ...], cells: tuple[int, int]) -> Pixels:
    """The view's picture with all its parts replaced by the one at `cell` (row, column)."""
    if view.kind == "display":
        return _only_tiles(picture, view, cell, cells)
    height, width = picture.shape[0] // cells[0], picture.shape[1] // cells[1]
    part = picture[cell[0] * height : (cell[0] + 1) * height, cell[1] * width : (cell[1] + 1) * width]
    repeated = np.tile(part, (cells[0] + 1, cells[1] + 1, 1))
    return repeated[: picture.shape[0], : picture.shape[1]]


def _only_tiles(picture: Pixels, view: View, cell: tuple[int, ...], cells: tuple[int, int]) -> Pixels:
    """Each grid of tiles filled with its tile at the middle of the cell; the tile of the whole picture stays."""
    tiles = picture.reshape(view.tile_count, -1, *picture.shape[1:]).copy()
    start = 0
    for grid in view.grids:
        row, column = (
            int((at + 0.5) / count * length)
            for at, count, length in zip(cell, cells, (grid.rows, grid.columns), strict=True)
        )
        count = grid.rows * grid.columns
        tiles[start : start + count] = tiles[start + row * grid.columns + column]
        start += count
    return tiles.reshape(picture.shape)


def _as_segment(decoded: DecodedSegment, view: View, pictures: Pixels) -> DecodedSegment:
    return replace(
        decoded,
        times_seconds=tuple(float(number) for number in range(len(pictures))),
        views={view: pictures},
        signals={},
        thumbnails=(),
        reference=None,
        detail=(),
    )
