"""What 8 bits lose against human scores: the rank correlation of both forms with the scores of an evaluation set."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.data.csv_scores import DataError, read_scored_rows
from vqmon.core.evaluation.correlations import spearman

_MIN_RATED = 12
NOT_MEASURED = (
    "not measured: what 8 bits lose against human scores; give an evaluation set by --data scores.csv, or run "
    "`vqmon evaluate FLOAT INT8 --data scores.csv --max-loss 0.005`"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RatedFiles:
    """An evaluation set: files and their human scores, of which more is better."""

    name: str
    files: tuple[Path, ...]
    scores: NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """SRCC of both forms with the human scores."""

    exact: float
    rounded: float
    max_loss: float
    source: str

    @property
    def is_allowed(self) -> bool:
        """Whether the loss is measured and small enough; scores that are all alike have no rank correlation."""
        return bool(self.exact - self.rounded <= self.max_loss)

    def describe(self) -> str:
        """One line for the card and the report."""
        verdict = "passed" if self.is_allowed else "failed"
        return (
            f"{self.source}: SRCC with human scores {self.exact:.4f} in float32, {self.rounded:.4f} in 8 bits, "
            f"{self.exact - self.rounded:.4f} lost, {self.max_loss:g} allowed: {verdict}"
        )


def read_rated_files(table: Path | None) -> RatedFiles | None:
    """The evaluation set of a CSV with `path` and `score`; None without one. Raises DataError."""
    if table is None:
        return None
    if not table.is_file():
        raise DataError(f"--data {table}: no such file; name a CSV with the columns path and score")
    rows = read_scored_rows(table)
    if len(rows) < _MIN_RATED:
        raise DataError(
            f"--data {table}: {len(rows)} files are too few: {_MIN_RATED} are needed, some hundred are better"
        )
    scores = np.array([row.score for row in rows], dtype=np.float64)
    return RatedFiles(name=f"{table.name} ({len(rows)} files)", files=tuple(row.path for row in rows), scores=scores)


def measure_loss(
    rated: RatedFiles, exact: Sequence[float] | NDArray[np.float64], rounded: Sequence[float] | NDArray[np.float64],
    *, max_loss: float,
) -> Loss:  # fmt: skip
    """What the second scores of the files lose to the first."""
    first, second = (float(spearman(np.asarray(each, dtype=np.float64), rated.scores)) for each in (exact, rounded))
    return Loss(exact=first, rounded=second, max_loss=max_loss, source=rated.name)
