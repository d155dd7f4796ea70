"""How the estimated effects develop along the media timeline: up to 200 moments, whatever span they cover."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from vqmon.core.experiments.definition import MIN_SEQUENTIAL_CLUSTERS, Experiment
from vqmon.core.experiments.results import ConfidenceSequencePoint
from vqmon.core.experiments.stats.sequential import MeanDifference, anytime_valid_interval, e_value, mixture_rho

_MAX_POINTS = 200
_INITIAL_STEP_SECONDS = 60.0

ArmAndScorer = tuple[str, str]
"""(arm, scorer as the experiment names it): one primary hypothesis."""

Estimates = Mapping[ArmAndScorer, MeanDifference | None]
"""None where there are too few clusters."""


@dataclass(slots=True, kw_only=True)
class EffectTrajectory:
    """Records the estimates at regular steps of the media timeline; the step doubles at MAX_POINTS records."""

    experiment: Experiment
    # the largest e-value at any record
    max_e_values: dict[ArmAndScorer, float] = field(default_factory=dict)
    _step_seconds: float = _INITIAL_STEP_SECONDS
    _next_at_seconds: float = -math.inf
    # (moment in seconds since 1970, estimates)
    _records: list[tuple[float, Estimates]] = field(default_factory=list)

    def advance_to(self, moment: datetime, estimate: Callable[[], Estimates]) -> None:
        """The media timeline reaches `moment`: record what `estimate` returns if the next step is due."""
        seconds = moment.timestamp()
        if seconds < self._next_at_seconds:
            return
        self._record(seconds, estimate())
        if len(self._records) > _MAX_POINTS:
            self._records = self._records[1::2]
            self._step_seconds *= 2
        self._next_at_seconds = (seconds // self._step_seconds + 1) * self._step_seconds

    def finish(self, moment: datetime, estimates: Estimates) -> None:
        """Record the final estimates."""
        seconds = moment.timestamp()
        if self._records and self._records[-1][0] >= seconds:
            self._records.pop()
        self._record(seconds, estimates)

    def points(self, hypothesis: ArmAndScorer, *, alpha: float) -> Sequence[ConfidenceSequencePoint]:
        """The confidence sequence of one arm and scorer at level 1 - alpha; no bounds with too few clusters."""
        points = []
        for seconds, estimates in self._records:
            estimate = estimates.get(hypothesis)
            if estimate is None:
                continue
            interval = None
            if estimate.n >= MIN_SEQUENTIAL_CLUSTERS:
                interval = anytime_valid_interval(estimate, rho=self.rho, alpha=alpha)
            points.append(
                ConfidenceSequencePoint(
                    at=datetime.fromtimestamp(seconds, UTC),
                    clusters=estimate.n,
                    mean=estimate.mean,
                    low=None if interval is None else interval.low,
                    high=None if interval is None else interval.high,
                )
            )
        return points

    @property
    def rho(self) -> float:
        """The mixture parameter that is tuned to the planned number of clusters."""
        return mixture_rho(alpha=self.experiment.alpha, planned_clusters=self.experiment.planned_clusters)

    def _record(self, seconds: float, estimates: Estimates) -> None:
        for hypothesis, estimate in estimates.items():
            if estimate is not None and estimate.n >= MIN_SEQUENTIAL_CLUSTERS:
                value = e_value(estimate, rho=self.rho)
                self.max_e_values[hypothesis] = max(self.max_e_values.get(hypothesis, 0.0), value)
        self._records.append((seconds, estimates))
