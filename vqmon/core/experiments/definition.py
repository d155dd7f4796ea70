"""What an experiment is: its arms, its question, and how it is to be read."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from hashlib import sha256
from typing import Literal

from vqmon.core.types import SIGNALS, Outcome

Design = Literal["paired", "unpaired", "switchback"]
"""The same source segment in every arm; each session in one arm; one live encoder that changes arm by the block."""

WorseDirection = Literal["higher", "lower"]

MIN_SEQUENTIAL_CLUSTERS = 20
"""No any-time reading before so many clusters: the sequence is asymptotic (8.0 % errors at 5 clusters, 3.8 % at 20)."""

SIGNAL_DIFFERENCE_LIMITS: Mapping[str, float] = {"over_sharpness": 0.03, "flicker": 0.03, "noise": 0.01}
"""Arms whose mean signals differ by more are shown to a person: scorers are known to be fooled by these."""

_GUARDRAIL_METRICS = ("score", "p5", "min", "signal", "label", "bitrate_kbps", "unscored")
"""What a guardrail may be about: `score:lite`, `p5:lite`, `min:lite`, `signal:flicker`, `label:latency_seconds`, ..."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One of the encodings compared: told by its label, and by stream and rendition names (`*` and `?` match)."""

    name: str
    # the value of the experiment's label on segment or rendition; "" = whatever
    label: str = ""
    stream: str = "*"
    rendition: str = "*"
    # planned share of the sessions, relative to the other arms; for the sample-ratio test
    share: float = 1.0

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("an arm needs a name")
        if not (self.label or self.rendition != "*" or self.stream != "*"):
            raise ValueError(f"arm {self.name!r}: needs a label, or a stream or rendition pattern, to be told by")
        if not (math.isfinite(self.share) and self.share > 0):
            raise ValueError(f"arm {self.name!r}: share must be more than 0, got {self.share}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Guardrail:
    """What must not become worse by `margin` or more; tested for non-inferiority."""

    name: str
    # e.g. "signal:flicker", "p5:lite", "label:latency_seconds", "unscored", "bitrate_kbps"
    of: str
    # in the unit of `of`: points of 0..100, signal 0..1, share of segments 0..1, kbit/s, or the label's own
    margin: float
    worse: WorseDirection = "higher"

    def __post_init__(self) -> None:
        kind, _, name = self.of.partition(":")
        if kind not in _GUARDRAIL_METRICS or (kind in ("unscored", "bitrate_kbps")) == bool(name):
            raise ValueError(
                f"guardrail {self.name!r}: of {self.of!r} is none of {', '.join(_GUARDRAIL_METRICS)} (`kind:name`)"
            )
        if kind == "signal" and name not in SIGNALS:
            raise ValueError(f"guardrail {self.name!r}: no signal {name!r}; known: {', '.join(sorted(SIGNALS))}")
        if not (math.isfinite(self.margin) and self.margin > 0):
            raise ValueError(f"guardrail {self.name!r}: margin must be more than 0, got {self.margin}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """A named comparison of arms, with everything that must be decided before the first look.

    `same` says which segments show the same source: of equal `stream`, `rendition`, `height` and `label:NAME`, and of
    equal start on the media timeline. `cluster` is the unit of analysis: `stream`, `label:NAME`, or `block` for
    `block_seconds` of one live stream each.
    """

    name: str
    arms: tuple[Arm, ...]
    control: str
    question: str = ""
    # name or name@version; one or two. A win that only one of two sees is called metric-specific
    scorers: tuple[str, ...] = ("lite",)
    design: Design = "paired"
    # key of the label that tells the arm
    label: str = "arm"
    # only streams whose name matches one of these
    streams: tuple[str, ...] = ("*",)
    # segments that start within since <= start < until
    since: datetime | None = None
    until: datetime | None = None
    same: tuple[str, ...] = ("stream",)
    # starts on the media timeline that differ by no more are the same
    tolerance_seconds: float = 0.1
    cluster: str = "stream"
    block_seconds: float = 600.0
    # left out at the end of each block, so that blocks do not hang together
    gap_seconds: float = 60.0
    # left out at the start of each block of a switchback
    wash_in_seconds: float = 30.0
    planned_clusters: int = 40
    # a cluster enters the answer with so many pairs (sessions: segments) and later ones are not used; 0 = all, at once
    segments_per_cluster: int = 0
    # share of wrong winners that is accepted
    alpha: float = 0.05
    # points of 0..100: the smallest gain that is worth anything
    delta_min: float = 0.0
    # points of 0..100: a loss that does not matter
    margin: float = 1.25
    guardrails: tuple[Guardrail, ...] = ()
    # known before enhancement: "input_score", "bitrate_kbps", "height", "label:NAME" (a number)
    covariates: tuple[str, ...] = ()
    # their means over all traffic; without one a paired answer stays unadjusted, see docs/experiments.md
    covariate_means: Mapping[str, float] = field(default_factory=dict, hash=False)
    # this arm is not compared: its score is the covariate "input_score"
    input_arm: str = ""
    # signal -> difference of the arms' means (0..1) from which a person must look
    look_limits: Mapping[str, float] = field(default_factory=lambda: dict(SIGNAL_DIFFERENCE_LIMITS), hash=False)
    # exploratory: "rendition", "height", "label:NAME"
    slices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_arms(self)
        _check_numbers(self)
        _check_keys(self)

    @property
    def treatments(self) -> tuple[Arm, ...]:
        """The arms that are held against the control, in order."""
        return tuple(arm for arm in self.arms if arm.name not in (self.control, self.input_arm))

    @property
    def is_fixed_horizon(self) -> bool:
        """Too few clusters for a sequence: one reading, at the planned number."""
        return self.planned_clusters < MIN_SEQUENTIAL_CLUSTERS

    def arm_of(self, outcome: Outcome) -> str | None:
        """The arm an outcome belongs to; None when it is of none."""
        rendition = outcome.segment.rendition
        if not any(fnmatchcase(rendition.stream_id, pattern) for pattern in self.streams):
            return None
        label = outcome.segment.labels.get(self.label, rendition.labels.get(self.label, ""))
        for arm in self.arms:
            fits = fnmatchcase(rendition.name, arm.rendition) and fnmatchcase(rendition.stream_id, arm.stream)
            if fits and arm.label in ("", label):
                return arm.name
        return None


def assign_arm(experiment: Experiment, unit: str) -> str:
    """The arm that a session, stream or block falls into: the same every time, by shares, salted with the name.

    Whoever routes sessions can call this, so that assignment needs no memory.
    """
    digest = sha256(f"{experiment.name}\n{unit}".encode(errors="replace")).digest()
    arms = [arm for arm in experiment.arms if arm.name != experiment.input_arm]
    place = int.from_bytes(digest[:8], "big") / 2**64 * sum(arm.share for arm in arms)
    for arm in arms:
        place -= arm.share
        if place < 0:
            return arm.name
    return arms[-1].name


def _check_arms(it: Experiment) -> None:
    names = [arm.name for arm in it.arms]
    if len(set(names)) != len(names):
        raise ValueError(f"two arms have the same name: {', '.join(names)}")
    if it.control not in names:
        raise ValueError(f"control {it.control!r} is none of the arms: {', '.join(names)}")
    if it.input_arm and (it.input_arm not in names or it.input_arm == it.control):
        raise ValueError(f"input_arm {it.input_arm!r} must be an arm and not the control")
    if not it.treatments:
        raise ValueError("nothing to compare: an experiment needs a control and at least one arm more")
    if not 1 <= len(set(it.scorers)) == len(it.scorers) <= 2:
        raise ValueError(f"scorers: one or two different ones, got {', '.join(it.scorers) or 'none'}")


def _check_numbers(it: Experiment) -> None:
    for name, low, high in (
        ("alpha", 1e-6, 0.5),
        ("planned_clusters", 2, 10**7),
        ("segments_per_cluster", 0, 10**7),
        ("delta_min", 0.0, 100.0),
        ("margin", 1e-6, 100.0),
        ("tolerance_seconds", 0.0, 60.0),
        ("block_seconds", 1.0, 1e7),
        ("gap_seconds", 0.0, 1e7),
        ("wash_in_seconds", 0.0, 1e7),
    ):
        value = getattr(it, name)
        if not low <= value <= high:
            raise ValueError(f"{name}: {value:g} is not between {low:g} and {high:g}")
    if it.gap_seconds + it.wash_in_seconds * (it.design == "switchback") >= it.block_seconds:
        raise ValueError("gap_seconds and wash_in_seconds leave nothing of block_seconds")
    for moment in (it.since, it.until):
        if moment is not None and moment.utcoffset() != timedelta(0):
            raise ValueError(f"since and until must be aware UTC, got {moment!r}")
    if it.since is not None and it.until is not None and it.since >= it.until:
        raise ValueError("since must be before until")


def _check_keys(it: Experiment) -> None:
    """Names of labels cannot be checked; everything else can."""
    for name, given, known in (
        ("same", it.same, ("stream", "rendition", "height")),
        ("cluster", (it.cluster,), ("stream", "block")),
        ("covariates", it.covariates, ("input_score", "bitrate_kbps", "height")),
        ("covariate_means", tuple(it.covariate_means), it.covariates),
        ("slices", it.slices, ("rendition", "height")),
        ("look_limits", tuple(it.look_limits), tuple(SIGNALS)),
    ):
        allows_labels = name not in ("covariate_means", "look_limits")
        for key in given:
            if key not in known and not (allows_labels and key.startswith("label:") and len(key) > len("label:")):
                words = ", ".join([*known, *(["label:NAME"] if allows_labels else [])])
                raise ValueError(f"{name}: {key!r} is none of: {words}")
    if "input_score" in it.covariates and not (it.input_arm and it.design == "paired"):
        raise ValueError('covariates: "input_score" needs design = "paired" and input_arm, the arm that is the source')
    if len({rail.name for rail in it.guardrails}) != len(it.guardrails):
        raise ValueError("two guardrails have the same name")
    if it.design == "switchback" and it.cluster != "block":
        raise ValueError('design = "switchback" needs cluster = "block"')
