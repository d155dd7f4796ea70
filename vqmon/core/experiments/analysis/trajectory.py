"""How the estimated effects develop along the media timeline, and what all intervals so far have in common."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from vqmon.core.experiments.analysis.intervals import conservative_interval
from vqmon.core.experiments.definition import MIN_SEQUENTIAL_CLUSTERS, Experiment
from vqmon.core.experiments.results import ConfidenceInterval, ConfidenceSequencePoint
from vqmon.core.experiments.stats.sequential import (
    MeanDifference,
    anytime_valid_interval,
    e_value,
    is_large_enough,
    mixture_rho,
)

_MAX_POINTS = 200
_INITIAL_STEP_SECONDS = 60.0
_GROWTH = 1.01
"""The intervals are also read whenever the data have grown by 1 %, so that what a reader saw between is rarely lost."""

ArmAndScorer = tuple[str, str]
"""(arm, scorer as the experiment names it): one primary hypothesis."""

Estimates = Mapping[ArmAndScorer, MeanDifference | None]
"""None where there are too few clusters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommonBounds:
    """What all any-time intervals of one hypothesis and level so far have in common: plain, and conservative."""

    low: float = -math.inf
    high: float = math.inf
    conservative_low: float = -math.inf
    conservative_high: float = math.inf

    def narrowed(self, interval: ConfidenceInterval, conservative: ConfidenceInterval) -> "CommonBounds":
        """These bounds and those of one more moment."""
        return CommonBounds(
            low=max(self.low, interval.low),
            high=min(self.high, interval.high),
            conservative_low=max(self.conservative_low, conservative.low),
            conservative_high=min(self.conservative_high, conservative.high),
        )


@dataclass(slots=True, kw_only=True)
class EffectTrajectory:
    """Records the estimates at regular steps of the media timeline; the step doubles at MAX_POINTS records."""

    experiment: Experiment
    # the largest e-value at any record
    max_e_values: dict[ArmAndScorer, float] = field(default_factory=dict)
    _step_seconds: float = _INITIAL_STEP_SECONDS
    _next_at_seconds: float = -math.inf
    # calls of advance_to so far, and the number at which the bounds are narrowed next
    _outcomes: int = 0
    _next_outcomes: float = 1.0
    # (moment in seconds since 1970, estimates)
    _records: list[tuple[float, Estimates]] = field(default_factory=list)
    # (hypothesis, by how many it shares alpha) -> bounds
    _bounds: dict[tuple[ArmAndScorer, int], CommonBounds] = field(default_factory=dict)
    # the estimates of the last moment
    _last_estimates: dict[ArmAndScorer, MeanDifference] = field(default_factory=dict)
    # the variance of a cluster when there were first enough clusters for an interval
    _first_variances: dict[ArmAndScorer, float] = field(default_factory=dict)

    def advance_to(self, moment: datetime, estimate: Callable[[], Estimates]) -> None:
        """The media timeline reaches `moment`: record what `estimate` returns if the next step is due."""
        seconds = moment.timestamp()
        self._outcomes += 1
        if seconds < self._next_at_seconds:
            if self._outcomes >= self._next_outcomes:
                self._narrow(estimate())
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
            if not estimate.is_constant and is_large_enough(estimate, MIN_SEQUENTIAL_CLUSTERS):
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

    def common_intervals(
        self, hypothesis: ArmAndScorer, interval: ConfidenceInterval
    ) -> tuple[ConfidenceInterval, ConfidenceInterval]:
        """What all intervals so far, at the level of `interval`, have in common: plain, and conservative.

        All of them hold together, so their intersection does, and a verdict once reached stays. Where the mean of this
        moment has left it, the effect itself has changed, and the intervals of this moment alone count.
        """
        share = round(self.experiment.alpha / (1 - interval.level))
        bounds = self._bounds[hypothesis, share]
        if not bounds.low <= interval.mean <= bounds.high:
            last = self._last_estimates[hypothesis]
            now = conservative_interval(
                self.experiment, last, anytime_valid_interval(last, rho=self.rho, alpha=self.experiment.alpha / share)
            )
            return interval, replace(interval, low=min(now.low, interval.low), high=max(now.high, interval.high))
        return (
            replace(interval, low=bounds.low, high=bounds.high),
            replace(interval, low=bounds.conservative_low, high=bounds.conservative_high),
        )

    def with_information(self, hypothesis: ArmAndScorer, estimate: MeanDifference) -> MeanDifference:
        """The estimate with the information since there were first enough clusters.

        Streams that all run at once grow no more in number; their means become more precise. A sequence that counted
        only clusters would stand still and be read again and again: of 20 streams with 150 looks it erred in 15 %.
        """
        first_variance = self._first_variances.get(hypothesis)
        if first_variance is None or estimate.sd == 0 or self.experiment.design == "unpaired":
            return estimate
        return replace(estimate, information=estimate.independent_n * max(1.0, first_variance / estimate.sd**2))

    def p_value(self, hypothesis: ArmAndScorer) -> float | None:
        """The p-value that holds at all looks: one over the largest e-value; None before there is one."""
        largest = self.max_e_values.get(hypothesis)
        return None if largest is None else min(1.0, 1 / largest)

    @property
    def rho(self) -> float:
        """The mixture parameter that is tuned to the planned number of clusters."""
        return mixture_rho(alpha=self.experiment.alpha, planned_clusters=self.experiment.planned_clusters)

    def _record(self, seconds: float, estimates: Estimates) -> None:
        estimates = self._narrow(estimates)
        self._records.append(
            (seconds, {key: estimate and replace(estimate, values=None) for key, estimate in estimates.items()})
        )

    def _narrow(self, estimates: Estimates) -> Estimates:
        """Narrow the common bounds by the intervals of this moment; the estimates with their information."""
        self._next_outcomes = max(self._outcomes + 1, self._outcomes * _GROWTH)
        informed = dict(estimates)
        for hypothesis, estimate in estimates.items():
            if estimate is None or estimate.is_constant or not is_large_enough(estimate, MIN_SEQUENTIAL_CLUSTERS):
                continue
            self._first_variances.setdefault(hypothesis, estimate.sd**2)
            informed[hypothesis] = estimate = self.with_information(hypothesis, estimate)
            value = e_value(estimate, rho=self.rho)
            self.max_e_values[hypothesis] = max(self.max_e_values.get(hypothesis, 0.0), value)
            if self.experiment.is_fixed_horizon:
                continue
            self._last_estimates[hypothesis] = estimate
            for share in range(1, len(estimates) + 1):
                interval = anytime_valid_interval(estimate, rho=self.rho, alpha=self.experiment.alpha / share)
                bounds = self._bounds.get((hypothesis, share), CommonBounds())
                within = bounds.conservative_low, bounds.conservative_high
                conservative = conservative_interval(self.experiment, estimate, interval, within=within)
                self._bounds[hypothesis, share] = bounds.narrowed(interval, conservative)
        return informed
