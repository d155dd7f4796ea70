"""The scores of files or playlist segments as one self-contained HTML file."""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from markupsafe import Markup

from vqmon.core.types import Outcome, QualityEvent
from vqmon.web.model.heat_maps import MapChoice, MapLayer, map_choices, map_layers, timeline, worst_frame
from vqmon.web.site import STATIC, open_templates

_NOTABLE_SIGNAL = 0.5
_MAX_PICTURES = 300
"""Of the whole report: with more sampled frames, only the worst one of each segment is shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredFile:
    """An outcome, and (seconds, JPEG) of its sampled frames."""

    outcome: Outcome
    thumbnails: Sequence[tuple[float, bytes]] = ()


def render_scores(scored: Sequence[ScoredFile], *, title: str, now: datetime) -> str:
    """One row per segment with its worst frame, then timelines and heat maps; loads nothing: all is part of it."""
    template = open_templates(title).get_template("scores.html")
    maps = map_choices(heat_map for event in _events(scored) for heat_map in event.heat_maps)
    shows_all = sum(len(item.thumbnails) for item in scored) <= _MAX_PICTURES
    return template.render(
        rows=[_row(item, maps, shows_all=shows_all) for item in scored],
        maps=maps,
        unscored=sum(not isinstance(item.outcome, QualityEvent) for item in scored),
        now=now,
        css=Markup((STATIC / "vqmon.css").read_text(encoding="utf-8")),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Frame:
    """A sampled frame that is shown; `picture` is a data URL."""

    index: int
    time_seconds: float
    picture: str
    score: float | None
    layers: Sequence[MapLayer]


def _events(scored: Sequence[ScoredFile]) -> list[QualityEvent]:
    return [item.outcome for item in scored if isinstance(item.outcome, QualityEvent)]


def _row(item: ScoredFile, maps: Sequence[MapChoice], *, shows_all: bool) -> dict[str, object]:
    outcome = item.outcome
    if not isinstance(outcome, QualityEvent):
        return {"outcome": outcome, "is_scored": False, "signals": []}
    worst = worst_frame(outcome)
    signals = sorted(outcome.signals.items(), key=lambda signal: -signal[1].mean)
    return {
        "outcome": outcome,
        "is_scored": True,
        "worst": next(iter(_frames(item, outcome, [worst], maps)), None),
        "frames": _frames(item, outcome, range(len(item.thumbnails)) if shows_all else [worst], maps),
        "moments": timeline(outcome, maps),
        "signals": [(name, signal.mean) for name, signal in signals if signal.mean >= _NOTABLE_SIGNAL],
    }


def _frames(item: ScoredFile, event: QualityEvent, indices: Sequence[int], maps: Sequence[MapChoice]) -> list[_Frame]:
    """The frames with these indices of which there is a picture."""
    scores = event.scores[0].frame_values if event.scores else ()
    return [
        _Frame(
            index=index,
            time_seconds=item.thumbnails[index][0],
            picture=f"data:image/jpeg;base64,{b64encode(item.thumbnails[index][1]).decode()}",
            score=scores[index] if index < len(scores) else None,
            layers=map_layers(event.heat_maps, index, maps),
        )
        for index in indices
        if index < len(item.thumbnails)
    ]
