"""Rows of a fleet folded into one per stream: the worst of its renditions stands for it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from vqmon.web.model.renditions import WORST_FIRST, Row, plural


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One rendition of a stream's ladder: its name, its state and what a reader hears."""

    name: str
    state: str
    score: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamRow:
    """One stream in a table: its worst rendition, and all of them as steps."""

    worst: Row
    steps: Sequence[Step]


def folded(rows: Iterable[Row]) -> list[StreamRow]:
    """One row per stream, in the order in which the streams come."""
    by_stream: dict[str, list[Row]] = {}
    for row in rows:
        by_stream.setdefault(row.stream_id, []).append(row)
    return [_folded(rows) for rows in by_stream.values()]


def _folded(rows: Sequence[Row]) -> StreamRow:
    worst = min(rows, key=lambda row: (WORST_FIRST[row.state], 101.0 if row.score is None else row.score))
    whole = replace(
        worst,
        detail=plural(len(rows), "rendition"),
        unscored_share=sum(row.unscored_share for row in rows) / len(rows),
        last_at=max(row.last_at for row in rows),
        open_alerts=sum(row.open_alerts for row in rows),
    )
    ladder = sorted(rows, key=lambda row: (-(row.height or 0), row.rendition))
    return StreamRow(worst=whole, steps=[Step(name=it.rendition, state=it.state, score=it.score) for it in ladder])
