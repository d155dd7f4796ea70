"""The answer of an experiment: numbers with their uncertainty, checks, pairs, and a verdict in plain words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from vqmon.core.experiments.definition import Experiment, WorseDirection
from vqmon.core.experiments.human_review import MissingPair, PairExample, VoteTally

VerdictKind = Literal["better", "worse", "not worse", "equivalent", "undecided", "needs human look"]

HISTOGRAM_BINS = 50
"""Of `ArmSummary.histogram`: 2 points of 0..100 each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfidenceInterval:
    """A mean difference (arm - control) and where it lies with the confidence `level`.

    `any-time` holds at every look; `final` holds for one look at the planned number of clusters.
    """

    mean: float
    low: float
    high: float
    # 0.95; with several hypotheses more, so that all hold together (Holm)
    level: float
    kind: Literal["any-time", "final"]

    def __post_init__(self) -> None:
        if not self.low <= self.mean <= self.high:
            raise ValueError(f"not an interval: {self.low} <= {self.mean} <= {self.high}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfidenceSequencePoint:
    """The any-time interval as it stood when the media timeline had come to `at`; no bounds before the first look."""

    at: datetime
    clusters: int
    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterDifference:
    """One cluster (title, stream, block): a line of the forest plot.

    `low`..`high` is about 95 % from the segments inside (with their lag-1 correlation); it describes this cluster and
    decides nothing. None with fewer than 3 segments.
    """

    cluster: str
    segments: int
    control_mean: float
    arm_mean: float
    difference: float
    low: float | None
    high: float | None
    # of one segment's difference around the cluster's mean; None with fewer than 2 segments
    sd: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceDifference:
    """A part of the data, for exploration: `p` by t over its clusters, `q` the same after Benjamini-Hochberg."""

    # e.g. "label:genre", and its value
    slice: str
    value: str
    clusters: int
    segments: int
    mean: float
    # t interval; None with fewer than 3 clusters
    low: float | None
    high: float | None
    p: float | None
    q: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What one scorer says about one arm against the control, in points of 0..100."""

    # name@version, as found; the experiment's word when none was found
    scorer: str
    clusters: int
    segments: int
    # the interval that the verdict reads; None while there is nothing to read yet
    reading: ConfidenceInterval | None = None
    # the same, corrected for a few contents that stand out; a winner needs both
    corrected: ConfidenceInterval | None = None
    anytime: ConfidenceInterval | None = None
    final: ConfidenceInterval | None = None
    # each segment counts once instead of each cluster: a sensitivity check
    weighted: ConfidenceInterval | None = None
    # with covariates; see `variance_saved`
    adjusted: ConfidenceInterval | None = None
    # share of the variance that the covariates explain, 0..1
    variance_saved: float | None = None
    # evidence against "no difference" at this look; above 1/alpha is decisive at any time
    e_value: float | None = None
    p_anytime: float | None = None
    p_t: float | None = None
    # exact, up to 20 clusters
    p_sign_flip: float | None = None
    p_wilcoxon: float | None = None
    # share of the clusters in which the arm is ahead (a tie is half), with its 95 % interval (Wilson)
    win_rate: float | None = None
    win_low: float | None = None
    win_high: float | None = None
    # bias-corrected cluster bootstrap; above 50 clusters
    bootstrap: ConfidenceInterval | None = None
    over_time: tuple[ConfidenceSequencePoint, ...] = ()
    # the worst for the arm first; empty unless paired
    by_cluster: tuple[ClusterDifference, ...] = ()
    slices: tuple[SliceDifference, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardrailResult:
    """Whether a guardrail holds.

    `held`: worse by the margin is excluded. `broken`: surely worse, and by the margin as far as can be told.
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
    # the bound towards the bad side, one-sided at alpha
    bound: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalDifference:
    """How far arm and control differ in a signal that fools scorers, 0..1."""

    signal: str
    control_mean: float
    arm_mean: float
    limit: float

    @property
    def difference(self) -> float:
        return self.arm_mean - self.control_mean

    @property
    def exceeds_limit(self) -> bool:
        return abs(self.difference) > self.limit


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthCheck:
    """Whether the data can be trusted; `blocks` the verdict, asks a person to `look`, or only `notes` something."""

    # "sample ratio", "missing pairs", "versions", "doubled segments", "mixed blocks", "a/a"
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
    """The answer in plain words."""

    kind: VerdictKind
    # one whole sentence, e.g. "sr-v2 is better than sr-v1: +1.9 points (1.1 to 2.7)."
    sentence: str
    reasons: tuple[str, ...] = ()
    next_step: str = ""
    # only one of two scorers sees it
    is_metric_specific: bool = False
    # people's votes have settled what the scorers could not
    is_settled_by_people: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmSummary:
    """All segments of one arm, and what they cost."""

    arm: str
    role: Literal["control", "arm", "input"]
    scored: int
    unscored: int
    clusters: int
    # by scorer (name@version): mean of cluster means, 0..100
    mean: Mapping[str, float] = field(default_factory=dict, hash=False)
    # by scorer: how many segments fall into each of HISTOGRAM_BINS parts of 0..100
    histogram: Mapping[str, Sequence[int]] = field(default_factory=dict, hash=False)
    # mean over segments, 0..1
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmResult:
    """One arm against the control."""

    arm: str
    control: str
    verdict: Verdict
    # the first scorer first
    effects: tuple[Effect, ...]
    guardrails: tuple[GuardrailResult, ...] = ()
    looks: tuple[SignalDifference, ...] = ()
    # about this arm only
    checks: tuple[HealthCheck, ...] = ()
    pairs: tuple[PairExample, ...] = ()
    missing: tuple[MissingPair, ...] = ()
    # how many source segments have a score on one side only
    missing_in_arm: int = 0
    missing_in_control: int = 0
    people: VoteTally | None = None
    # points gained per Mbit/s and per GPU-second (per second of media) more than the control; None when not more
    points_per_extra_mbps: float | None = None
    points_per_extra_gpu_second: float | None = None

    def pairs_with_role(self, role: Literal["worst", "best", "review"]) -> tuple[PairExample, ...]:
        """The pairs kept for one purpose, the most telling first."""
        return tuple(pair for pair in self.pairs if pair.role == role)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The whole answer of an experiment at one moment."""

    experiment: Experiment
    # the first and the last start on the media timeline; None without a single outcome
    begins_at: datetime | None
    ends_at: datetime | None
    outcomes: int
    arms: tuple[ArmSummary, ...]
    # about the experiment as a whole
    checks: tuple[HealthCheck, ...]
    # one per treatment, in the order of the experiment
    answers: tuple[ArmResult, ...]

    def result_of(self, arm: str) -> ArmResult | None:
        """The answer about one arm."""
        return next((answer for answer in self.answers if answer.arm == arm), None)
