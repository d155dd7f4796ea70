"""The scores of files or playlist segments as one self-contained HTML file."""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from markupsafe import Markup

from vqmon.core.types import Outcome, QualityEvent
from vqmon.web.site import STATIC, open_templates

_NOTABLE_SIGNAL = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredFile:
    """An outcome, and (seconds, JPEG) of its sampled frames."""

    outcome: Outcome
    thumbnails: Sequence[tuple[float, bytes]] = ()


def render_scores(scored: Sequence[ScoredFile], *, title: str, now: datetime) -> str:
    """One row per segment with its worst frame; loads nothing: style sheet and pictures are part of it."""
    template = open_templates(title).get_template("scores.html")
    return template.render(
        rows=[_row(item) for item in scored],
        unscored=sum(not isinstance(item.outcome, QualityEvent) for item in scored),
        now=now,
        css=Markup((STATIC / "vqmon.css").read_text(encoding="utf-8")),
    )


def _row(item: ScoredFile) -> dict[str, object]:
    outcome = item.outcome
    if not isinstance(outcome, QualityEvent):
        return {"outcome": outcome, "is_scored": False, "picture": "", "signals": []}
    signals = sorted(outcome.signals.items(), key=lambda signal: -signal[1].mean)
    return {
        "outcome": outcome,
        "is_scored": True,
        "picture": _worst_picture(outcome, item.thumbnails),
        "signals": [(name, signal.mean) for name, signal in signals if signal.mean >= _NOTABLE_SIGNAL],
    }


def _worst_picture(event: QualityEvent, thumbnails: Sequence[tuple[float, bytes]]) -> str:
    """The thumbnail of the frame with the lowest value of the first scorer, as a data URL; empty without any."""
    if not thumbnails:
        return ""
    values = event.scores[0].frame_values if event.scores else ()
    worst = values.index(min(values)) if values else 0
    _, picture = thumbnails[min(worst, len(thumbnails) - 1)]
    return f"data:image/jpeg;base64,{b64encode(picture).decode()}"
