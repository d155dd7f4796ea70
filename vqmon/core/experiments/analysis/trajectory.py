"""How an answer came about: the mean difference at up to 200 moments of the media timeline, whatever their span."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from vqmon.core.experiments.definition import FIRST_LOOK, Experiment
from vqmon.core.experiments.results import IntervalPoint
from vqmon.core.experiments.stats.sequential import Sample, anytime_interval, e_value, mixture_rho

MOST_POINTS = 200
FIRST_STEP_SECONDS = 60.0

Which = tuple[str, str]
"""(arm, scorer as the experiment names it)."""

Samples = Mapping[Which, Sample | None]


@dataclass(slots=True, kw_only=True)
class Course:
    """Looks at the samples now and then; when there are too many looks, every other one is forgotten."""

    experiment: Experiment
    # the largest e-value at any look, by arm and scorer
    most: dict[Which, float] = field(default_factory=dict)
    _step: float = FIRST_STEP_SECONDS
    _next: float = -math.inf
    _looks: list[tuple[float, Samples]] = field(default_factory=list)

    def pass_by(self, moment: datetime, samples: Callable[[], Samples]) -> None:
        """The media timeline comes to `moment`: look if it is time to."""
        seconds = moment.timestamp()
        if seconds < self._next:
            return
        self._look(seconds, samples())
        if len(self._looks) > MOST_POINTS:
            self._looks = self._looks[1::2]
            self._step *= 2
        self._next = (seconds // self._step + 1) * self._step

    def finish(self, moment: datetime, samples: Samples) -> None:
        """The last look."""
        seconds = moment.timestamp()
        if self._looks and self._looks[-1][0] >= seconds:
            self._looks.pop()
        self._look(seconds, samples)

    def points(self, which: Which, *, alpha: float) -> Sequence[IntervalPoint]:
        """What was seen of one arm and scorer, at this level; no bounds before the first look that counts."""
        found = []
        for seconds, samples in self._looks:
            sample = samples.get(which)
            if sample is None:
                continue
            interval = anytime_interval(sample, rho=self.rho, alpha=alpha) if sample.n >= FIRST_LOOK else None
            found.append(
                IntervalPoint(
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
        return mixture_rho(alpha=self.experiment.alpha, planned=self.experiment.planned_clusters)

    def _look(self, seconds: float, samples: Samples) -> None:
        for which, sample in samples.items():
            if sample is not None and sample.n >= FIRST_LOOK:
                self.most[which] = max(self.most.get(which, 0.0), e_value(sample, rho=self.rho))
        self._looks.append((seconds, samples))
