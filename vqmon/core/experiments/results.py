"""The results of an experiment: effects with their intervals, health checks, example pairs, and a verdict per arm.

Field names are keys of `vqmon compare --json` and of the REST API.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from vqmon.core.experiments.definition import Experiment, WorseDirection
from vqmon.core.experiments.human_review import MissingPair, PairExample, VoteTally

VerdictKind = Literal["better", "worse", "not worse", "equivalent", "undecided", "needs human look"]

HISTOGRAM_BINS = 50
"""Number of bins in `ArmSummary.histogram`; each is 2 points of 0..100 wide."""


def interval_decimals(low: float, high: float, *, least: int = 2) -> int:
    """Decimals with which the ends of an interval differ: the width has two significant digits."""
    width = high - low
    return least if width <= 0 else max(least, min(9, 1 - math.floor(math.log10(width))))


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfidenceInterval:
    """A mean difference (arm - control) and its confidence interval at `level`.

    An `any-time` interval covers at all looks together (a confidence sequence), a `final` one at a single look at the
    planned number of clusters.
    """

    mean: float
    low: float
    high: float
    # e.g. 0.95; higher with several hypotheses, so that all hold together (Holm)
    level: float
    kind: Literal["any-time", "final"]

    def __post_init__(self) -> None:
        if not self.low <= self.mean <= self.high:
            raise ValueError(f"not an interval: {self.low} <= {self.mean} <= {self.high}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfidenceSequencePoint:
    """The any-time interval over the segments up to `at` on the media timeline; no bounds with too few clusters."""

    at: datetime
    clusters: int
    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterDifference:
    """One cluster (title, stream, block): a row of the forest plot.

    `low`..`high` is an interval of about 95 % from the segments of the cluster and their lag-1 autocorrelation; it
    describes the cluster and decides nothing. None with fewer than 3 segments, or without variance.
    """

    cluster: str
    segments: int
    control_mean: float
    arm_mean: float
    difference: float
    low: float | None
    high: float | None
    # standard deviation of the segments' differences; None with fewer than 2 segments
    sd: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceDifference:
    """The difference in a slice of the data, for exploration: `p` by t over clusters, `q` by Benjamini-Hochberg."""

    # e.g. "label:genre", and the value of that label
    slice: str
    value: str
    clusters: int
    segments: int
    mean: float
    # t interval; None with fewer than 3 clusters, or without variance
    low: float | None
    high: float | None
    p: float | None
    q: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """The difference between one arm and the control by one scorer, in points of 0..100."""

    # name@version from the events; as the experiment names it when there are no events
    scorer: str
    clusters: int
    segments: int
    # the interval that decides the verdict: what all any-time intervals so far have in common; None with too few
    # clusters
    reading: ConfidenceInterval | None = None
    # the same, wide enough for skewness and for rare losses that were not seen yet; every conclusion needs both
    corrected: ConfidenceInterval | None = None
    # the independent clusters that correlated blocks are worth; None for other clusters
    effective_clusters: float | None = None
    # sessions of the arm that has fewer; None when paired
    smaller_arm: int | None = None
    anytime: ConfidenceInterval | None = None
    final: ConfidenceInterval | None = None
    # each segment counts once instead of each cluster: a sensitivity analysis
    weighted: ConfidenceInterval | None = None
    # adjusted for covariates, which explain `variance_saved` of the variance
    adjusted: ConfidenceInterval | None = None
    # 0..1; below 0 when the covariates only add noise
    variance_saved: float | None = None
    # evidence against "no difference" now; from 1/alpha on it is decisive, at any look
    e_value: float | None = None
    p_anytime: float | None = None
    p_t: float | None = None
    # exact, up to 20 clusters
    p_sign_flip: float | None = None
    p_wilcoxon: float | None = None
    # share of the clusters in which the arm is better (a tie counts half), with its 95 % Wilson interval
    win_rate: float | None = None
    win_low: float | None = None
    win_high: float | None = None
    # BCa bootstrap over clusters; with more than 50 clusters
    bootstrap: ConfidenceInterval | None = None
    over_time: tuple[ConfidenceSequencePoint, ...] = ()
    # worst for the arm first; empty unless paired
    by_cluster: tuple[ClusterDifference, ...] = ()
    slices: tuple[SliceDifference, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardrailResult:
    """Whether a guardrail holds.

    `held`: a deterioration by `margin` is excluded. `broken`: the metric is significantly worse, and its estimate is
    worse by at least `margin`. `open`: neither.
    """

    name: str
    of: str
    margin: float
    worse: WorseDirection
    state: Literal["held", "broken", "open"]
    control_mean: float | None
    arm_mean: float | None
    # arm - control; None without enough clusters
    difference: float | None
    # the one-sided confidence bound on the worse side, at alpha
    bound: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalDifference:
    """The means of a signal that fools scorers in control and arm, 0..1, and the limit of their difference."""

    signal: str
    control_mean: float
    arm_mean: float
    limit: float

    @property
    def difference(self) -> float:
        """arm - control."""
        return self.arm_mean - self.control_mean

    @property
    def exceeds_limit(self) -> bool:
        """Whether a person must look before a winner is declared."""
        return abs(self.difference) > self.limit


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthCheck:
    """The result of a health check. A failed check `blocks` the verdict, asks a person to `look`, or only `notes`."""

    # e.g. "sample ratio", "missing pairs", "lost content", "spread", "versions"
    name: str
    is_good: bool
    weight: Literal["blocks", "look", "notes"]
    # one sentence with the numbers
    text: str
    # what to do; "" when good
    remedy: str = ""
    p: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The verdict on one arm, in plain words."""

    kind: VerdictKind
    # one whole sentence, e.g. "sr-v2 is better than sr-v1: +1.9 points (1.1 to 2.7)."
    sentence: str
    reasons: tuple[str, ...] = ()
    next_step: str = ""
    # only one of two scorers finds a winner
    is_metric_specific: bool = False
    # decided by people's votes, where the scorers could not decide
    is_settled_by_people: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmSummary:
    """All segments of one arm: counts, means, and cost."""

    arm: str
    role: Literal["control", "arm", "input"]
    scored: int
    unscored: int
    clusters: int
    # by scorer (name@version): mean of cluster means, 0..100
    mean: Mapping[str, float] = field(default_factory=dict, hash=False)
    # by scorer: segments in each of HISTOGRAM_BINS equal bins of 0..100
    histogram: Mapping[str, Sequence[int]] = field(default_factory=dict, hash=False)
    # signal -> mean over segments, 0..1
    signals: Mapping[str, float] = field(default_factory=dict, hash=False)
    # reason -> count
    unscored_by_reason: Mapping[str, int] = field(default_factory=dict, hash=False)
    # from label `bytes` and the duration, else the rendition's declared bitrate
    bitrate_kbps: float | None = None
    # label `gpu_seconds` per second of media
    gpu_seconds_per_second: float | None = None
    # points of the first scorer for each Mbit/s, and for each GPU-second per second of media
    points_per_mbps: float | None = None
    points_per_gpu_second: float | None = None
    # scorer (name@version) -> scored segments that lack its score because it failed
    lost_scores: Mapping[str, int] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmResult:
    """The results of one arm against the control."""

    arm: str
    control: str
    verdict: Verdict
    # in the order of the experiment's scorers
    effects: tuple[Effect, ...]
    guardrails: tuple[GuardrailResult, ...] = ()
    looks: tuple[SignalDifference, ...] = ()
    # about this arm only
    checks: tuple[HealthCheck, ...] = ()
    pairs: tuple[PairExample, ...] = ()
    missing: tuple[MissingPair, ...] = ()
    # source segments without a score in the arm, and in the control
    missing_in_arm: int = 0
    missing_in_control: int = 0
    people: VoteTally | None = None
    # points gained per additional Mbit/s and per additional GPU-second (per second of media); None when the arm costs
    # no more than the control
    points_per_extra_mbps: float | None = None
    points_per_extra_gpu_second: float | None = None

    def pairs_with_role(self, role: Literal["worst", "best", "review"]) -> tuple[PairExample, ...]:
        """The example pairs of one role; worst and best pairs are sorted, the most extreme first."""
        return tuple(pair for pair in self.pairs if pair.role == role)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All results of an experiment at one moment."""

    experiment: Experiment
    # the first and the last start on the media timeline; None without outcomes
    begins_at: datetime | None
    ends_at: datetime | None
    outcomes: int
    arms: tuple[ArmSummary, ...]
    # about the experiment as a whole
    checks: tuple[HealthCheck, ...]
    # one per treatment, in the order of the experiment
    answers: tuple[ArmResult, ...]

    def result_of(self, arm: str) -> ArmResult | None:
        """The results of one arm, or None."""
        return next((result for result in self.answers if result.arm == arm), None)
