"""The definition of an experiment: its arms, design, unit of analysis, guardrails and error rates."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from hashlib import sha256
from itertools import pairwise
from typing import Literal

from vqmon.core.scores import REFERENCE_PREFIX
from vqmon.core.types import SIGNALS, Outcome

Design = Literal["paired", "unpaired", "switchback"]
"""Every source segment in every arm; each session in one arm; one live encoder that changes arm from block to block."""

WorseDirection = Literal["higher", "lower"]

MIN_SEQUENTIAL_CLUSTERS = 20
"""No confidence sequence is read with fewer clusters: it is asymptotic (8.0 % errors at 5 clusters, 3.8 % at 20)."""

_SIGNAL_DIFFERENCE_LIMITS: Mapping[str, float] = {"over_sharpness": 0.03, "flicker": 0.03, "noise": 0.01}
"""When the arms' mean signals differ by more, a person must look: these signals are known to fool scorers."""

_GUARDRAIL_METRICS = ("score", "p5", "min", "signal", "label", "bitrate_kbps", "unscored", "reference")
"""Kinds of metric of guardrails: `score:lite`, `p5:lite`, `min:lite`, `signal:flicker`, `label:NAME`, ..."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareChange:
    """From `since` on, an arm has another planned share of the sessions (a ramp)."""

    since: datetime
    share: float

    def __post_init__(self) -> None:
        if self.since.utcoffset() != timedelta(0):
            raise ValueError(f"since must be aware UTC, got {self.since!r}")
        if not (math.isfinite(self.share) and self.share > 0):
            raise ValueError(f"share must be more than 0, got {self.share}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One of the encodings compared; segments belong to it by label and by stream and rendition patterns (`*`, `?`)."""

    name: str
    # the value of the experiment's label on segment or rendition; "" matches any
    label: str = ""
    stream: str = "*"
    rendition: str = "*"
    # planned share of the sessions, relative to the other arms; for the sample ratio test
    share: float = 1.0
    # later planned shares, in the order of time
    share_changes: tuple[ShareChange, ...] = ()

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("an arm needs a name")
        if not (self.label or self.rendition != "*" or self.stream != "*"):
            raise ValueError(f"arm {self.name!r}: needs a label, or a stream or rendition pattern")
        if not (math.isfinite(self.share) and self.share > 0):
            raise ValueError(f"arm {self.name!r}: share must be more than 0, got {self.share}")
        moments = [change.since for change in self.share_changes]
        if any(later <= earlier for earlier, later in pairwise(moments)):
            raise ValueError(f"arm {self.name!r}: share_changes must be in the order of time")

    def share_at(self, moment: datetime | None) -> float:
        """The planned share at a moment; without one, the first."""
        shares = [change.share for change in self.share_changes if moment is not None and change.since <= moment]
        return shares[-1] if shares else self.share


@dataclass(frozen=True, slots=True, kw_only=True)
class Guardrail:
    """A metric that must not become worse by `margin` or more; tested for non-inferiority."""

    name: str
    # e.g. "signal:flicker", "p5:lite", "label:latency_seconds", "unscored", "bitrate_kbps", "reference:psnr"
    of: str
    # in the unit of `of`: points of 0..100, signal 0..1, share of segments 0..1, kbit/s, or that of the label
    margin: float
    worse: WorseDirection = "higher"

    def __post_init__(self) -> None:
        kind, _, name = self.of.partition(":")
        if kind not in _GUARDRAIL_METRICS or (kind in ("unscored", "bitrate_kbps")) == bool(name):
            raise ValueError(
                f"guardrail {self.name!r}: of {self.of!r} is none of {', '.join(_GUARDRAIL_METRICS)} (`kind:name`)"
            )
        if kind == "signal" and name not in SIGNALS:
            raise ValueError(f"guardrail {self.name!r}: no signal {name!r}; signals: {', '.join(sorted(SIGNALS))}")
        if not (math.isfinite(self.margin) and self.margin > 0):
            raise ValueError(f"guardrail {self.name!r}: margin must be more than 0, got {self.margin}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """A named comparison of arms, with everything that must be fixed before the first look at results.

    Segments of two arms show the same source when they start at the same moment of the media timeline and agree in
    every attribute in `same`: `stream`, `rendition`, `height` or `label:NAME`. `cluster` is the unit of analysis:
    `stream`, `label:NAME`, or `block` (`block_seconds` of one live stream each).
    """

    name: str
    arms: tuple[Arm, ...]
    control: str
    question: str = ""
    # one or two, each name or name@version; a win that only one of two sees is called metric-specific.
    # Or one reference measure, as "reference:psnr": differences are on its own scale, above 0 when the arm is better
    scorers: tuple[str, ...] = ("lite",)
    design: Design = "paired"
    # key of the label whose value names the arm
    label: str = "arm"
    # stream patterns; streams that match none are left out
    streams: tuple[str, ...] = ("*",)
    # only segments with since <= starts_at < until
    since: datetime | None = None
    until: datetime | None = None
    same: tuple[str, ...] = ("stream",)
    # segments whose starts differ by no more than this start at the same moment
    tolerance_seconds: float = 0.1
    cluster: str = "stream"
    block_seconds: float = 600.0
    # left out at the end of each block, so that blocks are independent
    gap_seconds: float = 60.0
    # left out at the start of each switchback block
    wash_in_seconds: float = 30.0
    planned_clusters: int = 40
    # a cluster counts once it has this many pairs (sessions: segments), and later ones are ignored;
    # 0 = it counts from its first pair on, with all of them
    segments_per_cluster: int = 0
    # accepted probability of declaring a wrong winner (type I error)
    alpha: float = 0.05
    # the smallest gain that matters, points of 0..100, or in the unit of the reference measure
    delta_min: float = 0.0
    # the largest loss that does not matter (non-inferiority and equivalence margin), in the same unit
    margin: float = 1.25
    # the most that a rare cluster may lie away from the mean, points of 0..100: a winner and a "not worse" hold even if
    # such clusters exist and none was seen yet (bounded-loss bound, from 20 planned clusters on)
    largest_loss: float = 10.0
    guardrails: tuple[Guardrail, ...] = ()
    # covariates, known before enhancement: "input_score", "bitrate_kbps", "height", "label:NAME" (a number)
    covariates: tuple[str, ...] = ()
    # their means over all traffic; without them a paired result is not adjusted, see docs/experiments.md
    covariate_means: Mapping[str, float] = field(default_factory=dict, hash=False)
    # the arm that is the unenhanced source: not compared, its score is the covariate "input_score"
    input_arm: str = ""
    # signal -> largest difference of the arms' means (0..1) that needs no human look
    look_limits: Mapping[str, float] = field(default_factory=lambda: dict(_SIGNAL_DIFFERENCE_LIMITS), hash=False)
    # attributes to slice by, for exploration: "rendition", "height", "label:NAME"
    slices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_arms(self)
        _check_numbers(self)
        _check_keys(self)

    @property
    def treatments(self) -> tuple[Arm, ...]:
        """The arms that are compared with the control, in the order of the definition."""
        return tuple(arm for arm in self.arms if arm.name not in (self.control, self.input_arm))

    @property
    def is_fixed_horizon(self) -> bool:
        """Whether it is analysed once, at its planned clusters, which are too few for a confidence sequence."""
        return self.planned_clusters < MIN_SEQUENTIAL_CLUSTERS

    def arm_of(self, outcome: Outcome) -> str | None:
        """The name of the arm that an outcome belongs to, or None. The first arm that matches counts."""
        rendition = outcome.segment.rendition
        if not any(fnmatchcase(rendition.stream_id, pattern) for pattern in self.streams):
            return None
        label = outcome.segment.all_labels.get(self.label, "")
        for arm in self.arms:
            matches = fnmatchcase(rendition.name, arm.rendition) and fnmatchcase(rendition.stream_id, arm.stream)
            if matches and arm.label in ("", label):
                return arm.name
        return None


def assign_arm(experiment: Experiment, unit: str, *, at: datetime | None = None) -> str:
    """The arm of a session, stream or block: a hash of `unit` and the experiment's name, in proportion to the shares.

    The same unit always gets the same arm, so a router that calls this needs to store nothing. `at` is the moment at
    which the unit begins; only `share_changes` depend on it.
    """
    digest = sha256(f"{experiment.name}\n{unit}".encode(errors="replace")).digest()
    arms = [arm for arm in experiment.arms if arm.name != experiment.input_arm]
    remaining_share = int.from_bytes(digest[:8], "big") / 2**64 * sum(arm.share_at(at) for arm in arms)
    for arm in arms:
        remaining_share -= arm.share_at(at)
        if remaining_share < 0:
            return arm.name
    return arms[-1].name


def _check_arms(experiment: Experiment) -> None:
    names = [arm.name for arm in experiment.arms]
    if len(set(names)) != len(names):
        raise ValueError(f"two arms have the same name: {', '.join(names)}")
    if experiment.control not in names:
        raise ValueError(f"control {experiment.control!r} is none of the arms: {', '.join(names)}")
    if experiment.input_arm and (experiment.input_arm not in names or experiment.input_arm == experiment.control):
        raise ValueError(f"input_arm {experiment.input_arm!r} must be an arm and not the control")
    if not experiment.treatments:
        raise ValueError("nothing to compare: an experiment needs the control and at least one arm more")
    if not 1 <= len(set(experiment.scorers)) == len(experiment.scorers) <= 2:
        raise ValueError(f"scorers: needs one or two different scorers, got {', '.join(experiment.scorers) or 'none'}")
    if len(experiment.scorers) > 1 and any(name.startswith(REFERENCE_PREFIX) for name in experiment.scorers):
        raise ValueError(
            "scorers: a reference measure must be the only one, because margin and delta_min are on its scale; make "
            "the other one a guardrail"
        )


def _check_numbers(experiment: Experiment) -> None:
    for name, low, high in (
        ("alpha", 1e-6, 0.5),
        ("planned_clusters", 2, 10**7),
        ("segments_per_cluster", 0, 10**7),
        ("delta_min", 0.0, 100.0),
        ("margin", 1e-6, 100.0),
        ("largest_loss", 1e-6, 100.0),
        ("tolerance_seconds", 0.0, 60.0),
        ("block_seconds", 1.0, 1e7),
        ("gap_seconds", 0.0, 1e7),
        ("wash_in_seconds", 0.0, 1e7),
    ):
        value = getattr(experiment, name)
        if not low <= value <= high:
            raise ValueError(f"{name}: {value:g} is not between {low:g} and {high:g}")
    if (
        experiment.gap_seconds + experiment.wash_in_seconds * (experiment.design == "switchback")
        >= experiment.block_seconds
    ):
        raise ValueError("gap_seconds and wash_in_seconds together are not shorter than block_seconds")
    for moment in (experiment.since, experiment.until):
        if moment is not None and moment.utcoffset() != timedelta(0):
            raise ValueError(f"since and until must be aware UTC, got {moment!r}")
    if experiment.since is not None and experiment.until is not None and experiment.since >= experiment.until:
        raise ValueError("since must be before until")


def _check_keys(experiment: Experiment) -> None:
    """Refuse unknown keys; any `label:NAME` is allowed, because labels are known only from segments."""
    for name, keys, allowed in (
        ("same", experiment.same, ("stream", "rendition", "height")),
        ("cluster", (experiment.cluster,), ("stream", "block")),
        ("covariates", experiment.covariates, ("input_score", "bitrate_kbps", "height")),
        ("covariate_means", tuple(experiment.covariate_means), experiment.covariates),
        ("slices", experiment.slices, ("rendition", "height")),
        ("look_limits", tuple(experiment.look_limits), tuple(SIGNALS)),
    ):
        allows_labels = name not in ("covariate_means", "look_limits")
        for key in keys:
            if key not in allowed and not (allows_labels and key.startswith("label:") and len(key) > len("label:")):
                options = ", ".join([*allowed, *(["label:NAME"] if allows_labels else [])])
                raise ValueError(f"{name}: {key!r} is none of: {options}")
    if "input_score" in experiment.covariates and not (experiment.input_arm and experiment.design == "paired"):
        raise ValueError('covariates: "input_score" needs design = "paired" and input_arm, the arm that is the source')
    if len({guardrail.name for guardrail in experiment.guardrails}) != len(experiment.guardrails):
        raise ValueError("two guardrails have the same name")
    if experiment.design == "switchback" and experiment.cluster != "block":
        raise ValueError('design = "switchback" needs cluster = "block"')
