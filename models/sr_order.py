"""Scorers compared on the super-resolution set, from the events that `vqmon score --json` writes."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from models.data.csv_scores import DataError
from models.data.sr_benchmark import TIERS, Entry, order_accuracy


def read_events(file: Path) -> dict[str, dict[str, float]]:
    """Scorer -> file name of the clip -> score 0..100, from one CloudEvent per line. Raises DataError.

    A clip of several segments has the mean of them.
    """
    found: dict[str, dict[str, list[float]]] = {}
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            told = json.loads(line)["data"]
            name = Path(unquote(urlsplit(told["segment"]["url"]).path)).name
            for score in told.get("scores", ()):
                found.setdefault(score["scorer"], {}).setdefault(name, []).append(float(score["value"]))
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{file}, line {number}: is no event of `vqmon score --json`: {error!r}") from error
    return {
        scorer: {name: sum(values) / len(values) for name, values in clips.items()} for scorer, clips in found.items()
    }


def table(entries: Sequence[Entry], scores: Mapping[str, Mapping[str, float]]) -> str:
    """A Markdown table: how often each scorer puts two clips of one content in the order of the labels."""
    lines = ["| scorer | " + " | ".join([*TIERS, "all"]) + " |", "|---" * 5 + "|"]
    for scorer, values in {**_references(entries), **scores}.items():
        missing = [entry.path for entry in entries if entry.path not in values]
        if missing:
            raise DataError(f"{scorer}: {len(missing)} clips have no score, {missing[0]} among them; score them all")
        found = order_accuracy(entries, [values[entry.path] for entry in entries])
        cells = [f"{share:.1%}" for share, _ in (found[tier] for tier in (*TIERS, "all"))]
        lines.append(f"| {scorer} | " + " | ".join(cells) + " |")
    counts = order_accuracy(entries, [0.0] * len(entries))
    lines.append("| pairs | " + " | ".join(f"{counts[tier][1]}" for tier in (*TIERS, "all")) + " |")
    return "\n".join(lines)


def _references(entries: Sequence[Entry]) -> dict[str, dict[str, float]]:
    # What knows only the rate, as a baseline for all that look at the picture.
    return {"bitrate alone (CRF)": {entry.path: -float(entry.crf) for entry in entries}}
