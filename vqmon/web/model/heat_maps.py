"""Heat maps as the pages show them: cells over a picture, words and numbers for those who cannot see it, a timeline."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from vqmon.core.scores import HEAT_MAP_MEANINGS, HeatMap, Losses, describe_losses, region_means, score_band
from vqmon.core.types import QualityEvent

_LEVELS = (0.1, 0.25, 0.4, 0.6, 0.8)
"""The least loss of each colour."""

_MAX_TIME_LABELS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class MapChoice:
    """One heat map among those of a page; `slot` numbers them, and style sheets show the slot that is chosen."""

    slot: int
    measure: str
    # as it is shown: the scores of a scorer are on the page too
    name: str
    meaning: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MapLayer:
    """One heat map over one picture."""

    slot: int
    measure: str
    rows: int
    columns: int
    # (column, row, level from 1 for the least loss shown)
    cells: Sequence[tuple[int, int, int]]
    # where most is lost, in words
    text: str
    # name and mean loss, 0..1, of nine regions
    regions: Sequence[tuple[str, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _TimelineMoment:
    """One sampled frame on the timeline of a segment."""

    index: int
    time_seconds: float
    # "" where the label would not fit
    label: str
    # 0..100 of the first scorer, and its band; None without a score
    score: float | None
    band: str
    # per slot: colour level of the frame's worse parts, 0 = nothing is lost
    levels: Sequence[int]
    # all of it, for those who cannot see it
    text: str
    is_worst: bool


def map_choices(heat_maps: Iterable[HeatMap]) -> list[MapChoice]:
    """What the heat maps of a page show, each once: first against the reference, then detail, then scorers."""
    meanings = {heat_map.measure: heat_map.meaning for heat_map in heat_maps}
    order = sorted(meanings, key=lambda measure: (measure != "ssim", measure != "detail", measure))
    return [
        MapChoice(
            slot=slot,
            measure=measure,
            name=measure if measure in HEAT_MAP_MEANINGS else f"{measure} by part",
            meaning=meanings[measure],
        )
        for slot, measure in enumerate(order)
    ]


def map_layers(heat_maps: Sequence[HeatMap], index: int, choices: Sequence[MapChoice]) -> list[MapLayer]:
    """The layers over the frame with this index."""
    slots = {choice.measure: choice.slot for choice in choices}
    return [
        MapLayer(
            slot=slots[heat_map.measure],
            measure=heat_map.measure,
            rows=heat_map.rows,
            columns=heat_map.columns,
            cells=_cells(losses),
            text=describe_losses(losses),
            regions=region_means(losses),
        )
        for heat_map in heat_maps
        if heat_map.measure in slots and (losses := heat_map.losses(index)) is not None
    ]


def timeline(event: QualityEvent, choices: Sequence[MapChoice]) -> list[_TimelineMoment]:
    """The sampled frames of an event with their scores and losses."""
    scores = event.scores[0].frame_values if event.scores else ()
    step = -(-len(event.times_seconds) // _MAX_TIME_LABELS)
    return [
        _moment(event, index, scores[index] if index < len(scores) else None, choices, has_label=index % step == 0)
        for index in range(len(event.times_seconds))
    ]


def worst_frame(event: QualityEvent) -> int:
    """Index of the frame with the lowest value of the first scorer, unless that gives values per clip.

    Of equal ones the one that loses most by the first heat map.
    """
    count = len(event.times_seconds)
    values: Sequence[float] = event.scores[0].frame_values if event.scores else ()
    choices = map_choices(event.heat_maps)
    losses: Sequence[float] = next(
        (heat_map.means for heat_map in event.heat_maps if heat_map.measure == choices[0].measure), ()
    )
    values = values if len(values) == count else [0.0] * count
    losses = losses if len(losses) == count else [0.0] * count
    return min(range(count), key=lambda index: (values[index], -losses[index]), default=0)


def _moment(
    event: QualityEvent, index: int, score: float | None, choices: Sequence[MapChoice], *, has_label: bool
) -> _TimelineMoment:
    time = event.times_seconds[index]
    by_slot = {layer.slot: layer for layer in map_layers(event.heat_maps, index, choices)}
    parts = [f"{time:.1f} s"]
    parts += [f"{event.scores[0].scorer} {score:.1f}"] if score is not None else []
    parts += [f"{layer.measure} lost {layer.text}" for layer in by_slot.values()]
    return _TimelineMoment(
        index=index,
        time_seconds=time,
        label=f"{time:.1f}" if has_label else "",
        score=score,
        band="" if score is None else score_band(score),
        levels=[_worse_level(by_slot.get(choice.slot)) for choice in choices],
        text="; ".join(parts),
        is_worst=score is not None and len(event.times_seconds) > 1 and score == min(event.scores[0].frame_values),
    )


def _worse_level(layer: MapLayer | None) -> int:
    """The level that a twelfth of the cells reach; 0 where fewer lose anything."""
    if layer is None:
        return 0
    levels = sorted((level for _, _, level in layer.cells), reverse=True)
    count = max(1, layer.rows * layer.columns // 12)
    return levels[count - 1] if count <= len(levels) else 0


def _cells(losses: Losses) -> list[tuple[int, int, int]]:
    levels = np.searchsorted(_LEVELS, losses, side="right")
    return [(int(column), int(row), int(levels[row, column])) for row, column in np.argwhere(levels > 0)]
