"""How an answer came about: the mean difference at up to 200 moments of the media timeline, whatever their span."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from vqmon.core.experiments.definition import MIN_SEQUENTIAL_CLUSTERS, Experiment
from vqmon.core.experiments.results import ConfidenceSequencePoint
from vqmon.core.experiments.stats.sequential import MeanDifference, anytime_valid_interval, e_value, mixture_rho

MAX_POINTS = 200
INITIAL_STEP_SECONDS = 60.0

ArmAndScorer = tuple[str, str]
"""(arm, scorer as the experiment names it)."""

Estimates = Mapping[ArmAndScorer, MeanDifference | None]


@dataclass(slots=True, kw_only=True)
class EffectTrajectory:
    """Looks at the samples now and then; when there are too many looks, every other one is forgotten."""

    experiment: Experiment
    # the largest e-value at any look, by arm and scorer
    max_e_values: dict[ArmAndScorer, float] = field(default_factory=dict)
    _step: float = INITIAL_STEP_SECONDS
    _next: float = -math.inf
    _looks: list[tuple[float, Estimates]] = field(default_factory=list)

    def advance_to(self, moment: datetime, samples: Callable[[], Estimates]) -> None:
        """The media timeline comes to `moment`: look if it is time to."""
        seconds = moment.timestamp()
        if seconds < self._next:
            return
        self._look(seconds, samples())
        if len(self._looks) > MAX_POINTS:
            self._looks = self._looks[1::2]
            self._step *= 2
        self._next = (seconds // self._step + 1) * self._step

    def finish(self, moment: datetime, samples: Estimates) -> None:
        """The last look."""
        seconds = moment.timestamp()
        if self._looks and self._looks[-1][0] >= seconds:
            self._looks.pop()
        self._look(seconds, samples)

    def points(self, which: ArmAndScorer, *, alpha: float) -> Sequence[ConfidenceSequencePoint]:
        """What was seen of one arm and scorer, at this level; no bounds before the first look that counts."""
        found = []
        for seconds, samples in self._looks:
            sample = samples.get(which)
            if sample is None:
                continue
            interval = (
                anytime_valid_interval(sample, rho=self.rho, alpha=alpha)
                if sample.n >= MIN_SEQUENTIAL_CLUSTERS
                else None
            )
            found.append(
                ConfidenceSequencePoint(
                    at=datetime.fromtimestamp(seconds, UTC),
                    clusters=sample.n,
                    mean=sample.mean,
                    low=None if interval is None else interval.low,
                    high=None if interval is None else interval.high,
                )
            )
        return found

    @property
    def rho(self) -> float:
        return mixture_rho(alpha=self.experiment.alpha, planned_clusters=self.experiment.planned_clusters)

    def _look(self, seconds: float, samples: Estimates) -> None:
        for which, sample in samples.items():
            if sample is not None and sample.n >= MIN_SEQUENTIAL_CLUSTERS:
                self.max_e_values[which] = max(self.max_e_values.get(which, 0.0), e_value(sample, rho=self.rho))
        self._looks.append((seconds, samples))
