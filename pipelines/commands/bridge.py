"""Fits a bridge between two scorers to the segments in the history that both have scored."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from vqmon.core.score_bridge import ScoreBridge, fit_score_bridge
from vqmon.core.types import Outcome, QualityEvent
from vqmon.errors import SettingsError


def bridge(outcomes: Iterable[Outcome], old: str, new: str) -> ScoreBridge:
    """Fit `old` -> `new`, each name@version or name.task@version; raises SettingsError when it cannot be done."""
    pairs, known = [], set()
    for outcome in outcomes:
        if isinstance(outcome, QualityEvent):
            scores = {score.scorer: score.value for score in (*outcome.scores, *outcome.shadow_scores)}
            known |= set(scores)
            if old in scores and new in scores:
                pairs.append((scores[old], scores[new]))
    if missing := [name for name in (old, new) if name not in known]:
        raise SettingsError(
            f"no segment here was scored by {missing[0]}; scored by: {', '.join(sorted(known)) or 'none'}"
        )
    try:
        return fit_score_bridge(pairs, old=old, new=new)
    except ValueError as error:
        raise SettingsError(f"{error}; let both look for a while: scoring.shadows = [{new!r}]") from error


def store(found: ScoreBridge, file: Path) -> None:
    """Write a bridge as JSON."""
    file.write_text(json.dumps(asdict(found), indent=2) + "\n", encoding="utf-8")


def load(file: Path) -> ScoreBridge:
    """Read a bridge; raises SettingsError."""
    try:
        tree = json.loads(file.read_text(encoding="utf-8"))
        return ScoreBridge(**{**tree, "points": tuple(tuple(point) for point in tree["points"])})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise SettingsError(f"{file}: no bridge: {error}; make it with `vqmon scorers bridge`") from error
