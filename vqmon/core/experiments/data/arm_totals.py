"""Totals of each arm over all its outcomes: scores, failures by reason, signals, cost, and scoring versions."""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from vqmon.core.experiments.data.metrics import (
    cluster_of_segment,
    numeric_attribute,
    scoring_versions,
    segment_bitrate_kbps,
)
from vqmon.core.experiments.definition import Experiment
from vqmon.core.experiments.results import HISTOGRAM_BINS, ArmSummary
from vqmon.core.scores import reference_subject
from vqmon.core.types import Outcome, QualityEvent

_MAX_VERSIONS = 20
"""Versions that are counted of each component (scorer, sampling, decoder): enough to state that it changed."""


@dataclass(slots=True)
class _WeightedMean:
    """A mean weighted by seconds of media."""

    total: float = 0.0
    seconds: float = 0.0

    def add(self, value: float, seconds: float) -> None:
        if math.isfinite(value):
            self.total += value * seconds
            self.seconds += seconds

    @property
    def value(self) -> float | None:
        return self.total / self.seconds if self.seconds > 0 else None


@dataclass(slots=True)
class _ClusterSum:
    total: float = 0.0
    count: int = 0


@dataclass(slots=True)
class _Totals:
    scored: int = 0
    unscored_by_reason: Counter[str] = field(default_factory=Counter)
    lost_scores: Counter[str] = field(default_factory=Counter)
    # scorer -> cluster -> sum
    scores: defaultdict[str, dict[str, _ClusterSum]] = field(default_factory=lambda: defaultdict(dict))
    histogram: dict[str, list[int]] = field(default_factory=dict)
    signals: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    bitrate_kbps: _WeightedMean = field(default_factory=_WeightedMean)
    gpu_seconds_per_second: _WeightedMean = field(default_factory=_WeightedMean)


class ArmTotals:
    """Accumulates the outcomes of every arm, each of which must be added once."""

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment
        self._totals = {arm.name: _Totals() for arm in experiment.arms}
        # component (scorer, sampling, decoder) -> version -> events
        self.versions: dict[str, Counter[str]] = {}

    def add(self, arm: str, outcome: Outcome) -> None:
        """Add an outcome of an arm."""
        totals, segment = self._totals[arm], outcome.segment
        seconds = segment.duration_seconds or 1.0
        totals.bitrate_kbps.add(segment_bitrate_kbps(segment), seconds)
        totals.gpu_seconds_per_second.add(numeric_attribute("label:gpu_seconds", segment) / seconds, seconds)
        if not isinstance(outcome, QualityEvent):
            totals.unscored_by_reason[outcome.reason] += 1
            return
        totals.scored += 1
        for failure in outcome.scorer_failures:
            if failure.tier != "shadow":
                totals.lost_scores[failure.scorer] += 1
        cluster = cluster_of_segment(self._experiment, segment)
        for score in outcome.scores:
            bins = totals.histogram.setdefault(score.scorer, [0] * HISTOGRAM_BINS)
            bins[min(HISTOGRAM_BINS - 1, max(0, int(score.value * HISTOGRAM_BINS / 100)))] += 1
        if cluster is not None:
            for name, value in self._main_values(outcome).items():
                clusters = totals.scores[name]
                cluster_sum = clusters.get(cluster) or clusters.setdefault(cluster, _ClusterSum())
                cluster_sum.total += value
                cluster_sum.count += 1
        for name, signal in outcome.signals.items():
            totals.signals[name] += signal.mean
        self._count_versions(outcome)

    def _main_values(self, event: QualityEvent) -> dict[str, float]:
        """The scores by scorer, and the reference measures that the experiment names as scorers."""
        values = {score.scorer: score.value for score in event.scores}
        measures = {reference_subject(reference.measure): reference.value for reference in event.references}
        return values | {name: measures[name] for name in self._experiment.scorers if name in measures}

    def scorer_names(self) -> Mapping[str, str]:
        """Scorer as the experiment names it -> name@version in the events, the most frequent one."""
        counts: Counter[str] = Counter()
        for totals in self._totals.values():
            for scorer, bins in totals.histogram.items():
                counts[scorer] += sum(bins)
        names = {}
        for scorer in self._experiment.scorers:
            matches = [name for name, _ in counts.most_common() if scorer in (name, name.split("@")[0])]
            names[scorer] = matches[0] if matches else scorer
        return names

    def summary(self, arm: str) -> ArmSummary:
        """The totals of one arm."""
        experiment, totals = self._experiment, self._totals[arm]
        means = {
            scorer: sum(cluster.total / cluster.count for cluster in clusters.values()) / len(clusters)
            for scorer, clusters in totals.scores.items()
        }
        names = [name for name in self.scorer_names().values() if name in means]
        means = {name: means[name] for name in dict.fromkeys([*names, *means])}
        first_mean = means.get(self.scorer_names()[experiment.scorers[0]])
        kbps, gpu_seconds = totals.bitrate_kbps.value, totals.gpu_seconds_per_second.value
        return ArmSummary(
            arm=arm,
            role="control" if arm == experiment.control else "input" if arm == experiment.input_arm else "arm",
            scored=totals.scored,
            unscored=totals.unscored_by_reason.total(),
            clusters=max((len(clusters) for clusters in totals.scores.values()), default=0),
            mean=means,
            histogram={scorer: tuple(bins) for scorer, bins in totals.histogram.items()},
            signals={name: total / totals.scored for name, total in sorted(totals.signals.items())},
            unscored_by_reason=dict(totals.unscored_by_reason),
            lost_scores=dict(totals.lost_scores),
            bitrate_kbps=kbps,
            gpu_seconds_per_second=gpu_seconds,
            points_per_mbps=_ratio(first_mean, None if kbps is None else kbps / 1000),
            points_per_gpu_second=_ratio(first_mean, gpu_seconds),
        )

    def _count_versions(self, event: QualityEvent) -> None:
        components = (*(scorer.split("@")[0] for scorer in self._experiment.scorers), "sampling", "decoder")
        for component, version in scoring_versions(event).items():
            if component.partition("@")[0] not in components:
                continue
            counts = self.versions.get(component) or self.versions.setdefault(component, Counter())
            if version in counts or len(counts) < _MAX_VERSIONS:
                counts[version] += 1


def points_per_extra(gain: float | None, *, arm_cost: float | None, control_cost: float | None) -> float | None:
    """Points gained per additional unit of cost; None when the arm costs no more, or a number is unknown."""
    if gain is None or arm_cost is None or control_cost is None or arm_cost <= control_cost:
        return None
    return gain / (arm_cost - control_cost)


def _ratio(value: float | None, cost: float | None) -> float | None:
    return value / cost if value is not None and cost is not None and cost > 0 else None
