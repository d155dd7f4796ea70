"""All outcomes of each arm counted: scores, reasons, signals, cost, and which versions made them."""

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
from vqmon.core.types import Outcome, QualityEvent

MAX_VERSIONS = 20
"""Of one part; enough to say that it changed."""


@dataclass(slots=True)
class _Mean:
    """Weighted by seconds of media."""

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
class _Counts:
    scored: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    scores: defaultdict[str, dict[str, list[float]]] = field(default_factory=lambda: defaultdict(dict))
    histogram: dict[str, list[int]] = field(default_factory=dict)
    signals: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    bitrate: _Mean = field(default_factory=_Mean)
    gpu: _Mean = field(default_factory=_Mean)


class ArmTotals:
    """Sees every outcome of every arm once."""

    def __init__(self, experiment: Experiment) -> None:
        self._it = experiment
        self._arms = {arm.name: _Counts() for arm in experiment.arms}
        self.versions: dict[str, Counter[str]] = {}

    def add(self, arm: str, outcome: Outcome) -> None:
        """One outcome of an arm more."""
        counts, segment = self._arms[arm], outcome.segment
        seconds = segment.duration_seconds or 1.0
        counts.bitrate.add(segment_bitrate_kbps(segment), seconds)
        counts.gpu.add(numeric_attribute("label:gpu_seconds", segment) / seconds, seconds)
        if not isinstance(outcome, QualityEvent):
            counts.reasons[outcome.reason] += 1
            return
        counts.scored += 1
        cluster = cluster_of_segment(self._it, segment)
        for score in outcome.scores:
            bins = counts.histogram.setdefault(score.scorer, [0] * HISTOGRAM_BINS)
            bins[min(HISTOGRAM_BINS - 1, max(0, int(score.value * HISTOGRAM_BINS / 100)))] += 1
            if cluster is not None:
                sums = counts.scores[score.scorer].setdefault(cluster, [0.0, 0.0])
                sums[0] += score.value
                sums[1] += 1
        for name, signal in outcome.signals.items():
            counts.signals[name] += signal.mean
        self._made(outcome)

    def scorer_names(self) -> Mapping[str, str]:
        """What the experiment calls a scorer -> name@version as found, the most frequent."""
        found: Counter[str] = Counter()
        for counts in self._arms.values():
            for scorer, bins in counts.histogram.items():
                found[scorer] += sum(bins)
        names = {}
        for word in self._it.scorers:
            fitting = [name for name, _ in found.most_common() if word in (name, name.split("@")[0])]
            names[word] = fitting[0] if fitting else word
        return names

    def summary(self, arm: str) -> ArmSummary:
        """What was counted of one arm."""
        counts = self._arms[arm]
        means = {
            scorer: sum(total / n for total, n in clusters.values()) / len(clusters)
            for scorer, clusters in counts.scores.items()
        }
        first = means.get(self.scorer_names()[self._it.scorers[0]])
        mbps = counts.bitrate.value and counts.bitrate.value / 1000
        return ArmSummary(
            arm=arm,
            role="control" if arm == self._it.control else "input" if arm == self._it.input_arm else "arm",
            scored=counts.scored,
            unscored=counts.reasons.total(),
            clusters=max((len(clusters) for clusters in counts.scores.values()), default=0),
            mean=means,
            histogram={scorer: tuple(bins) for scorer, bins in counts.histogram.items()},
            signals={name: total / counts.scored for name, total in sorted(counts.signals.items())},
            unscored_by_reason=dict(counts.reasons),
            bitrate_kbps=counts.bitrate.value,
            gpu_seconds_per_second=counts.gpu.value,
            points_per_mbps=_per(first, mbps),
            points_per_gpu_second=_per(first, counts.gpu.value),
        )

    def _made(self, event: QualityEvent) -> None:
        for part, version in scoring_versions(event).items():
            if part.partition("@")[0] not in (*(it.split("@")[0] for it in self._it.scorers), "sampling", "decoder"):
                continue
            seen = self.versions.setdefault(part, Counter())
            if version in seen or len(seen) < MAX_VERSIONS:
                seen[version] += 1


def points_per_extra(gain: float | None, cost: float | None, cost_before: float | None) -> float | None:
    """Points gained for one unit of cost more; None when it costs no more or one of them is not known."""
    if gain is None or cost is None or cost_before is None or cost <= cost_before:
        return None
    return gain / (cost - cost_before)


def _per(value: float | None, cost: float | None) -> float | None:
    return value / cost if value is not None and cost is not None and cost > 0 else None
