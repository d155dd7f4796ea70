"""`vqmon scorers bridge`: fits a map from an old scorer's scores to a new one's, from a history that has both."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from vqmon.core.evaluation.score_bridge import ScoreBridge, fit_score_bridge
from vqmon.core.types import Outcome, QualityEvent
from vqmon.errors import SettingsError
from vqmon.whole_files import write_whole_file


def fit_bridge_from_outcomes(outcomes: Iterable[Outcome], old: str, new: str) -> ScoreBridge:
    """Fit `old` -> `new`, each name@version or name.task@version, to the segments that both scored.

    Shadow scores count. Raises SettingsError for an unknown scorer and for too few segments.
    """
    score_pairs, scorer_ids = [], set()
    for outcome in outcomes:
        if isinstance(outcome, QualityEvent):
            values = {score.scorer: score.value for score in (*outcome.scores, *outcome.shadow_scores)}
            scorer_ids |= set(values)
            if old in values and new in values:
                score_pairs.append((values[old], values[new]))
    if missing := [scorer_id for scorer_id in (old, new) if scorer_id not in scorer_ids]:
        scored_by = ", ".join(sorted(scorer_ids)) or "none"
        raise SettingsError(f"no segment in this history was scored by {missing[0]}; scorers in it: {scored_by}")
    try:
        return fit_score_bridge(score_pairs, old=old, new=new)
    except ValueError as error:
        remedy = f"let both score the same segments for some days, both in scoring.scorers or {new} in scoring.shadows"
        raise SettingsError(f"{error}; {remedy}") from error


def save_bridge(bridge: ScoreBridge, file: Path) -> None:
    """Write a bridge as JSON; the range of old scores keeps its first names there, `seen_from` and `seen_to`."""
    document = asdict(bridge)
    document["seen_from"] = document.pop("old_score_min")
    document["seen_to"] = document.pop("old_score_max")
    write_whole_file(file, json.dumps(document, indent=2) + "\n")
