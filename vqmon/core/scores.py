"""What scorers say about a segment, who they are, and why a dear one was or was not asked."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from vqmon.core.frames import Sampling


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One Scorer's verdict on one Segment; 0..100, higher is better, `native_*` on the scorer's own scale."""

    # name@version, or name.task@version of a scorer that can be asked several things
    scorer: str
    value: float
    native_value: float
    p5: float
    min: float
    pooling: str
    # one per sampled frame; a clip that is judged as a whole has its value at each of its frames
    frame_values: tuple[float, ...]
    # level word -> probability, for scorers that answer in words; the mean over frames
    levels: Mapping[str, float] = field(default_factory=dict, hash=False)
    # of the levels, the mean over frames: 0 = sure of one level, 1 = all alike
    entropy: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalSummary:
    """One signal over a segment: 0..1, higher means more of what its name says."""

    mean: float
    max: float
    frame_values: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScorerIdentity:
    """Which scorer exactly, and where it ran."""

    scorer: str
    sha256: str
    preprocessing: str
    calibration_version: int
    device: str
    licence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """What produced a verdict: enough to reproduce it."""

    scorers: tuple[ScorerIdentity, ...]
    sampling: Sampling
    # library name -> version; ffmpeg libraries included
    versions: Mapping[str, str]


PROMOTIONS: dict[str, str] = {
    "sample": "chosen by its key, so that every look at it chooses the same",
    "label": "one of its labels is always looked at",
    "low": "the cheap score is under the limit",
    "drop": "the cheap score fell under the median of the segments before it",
}
"""Why the heavy scorers look at a segment, beside the cheap ones."""

LEFT_OUT: dict[str, str] = {
    "budget": "the device-seconds of this hour are used up",
    "failed": "a heavy scorer failed; the cheap verdict stands alone",
    "timeout": "a heavy scorer was not done in time; the cheap verdict stands alone",
}
"""Why they did not look, though there was a reason to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Promotion:
    """Whether the heavy scorers looked at a segment too, and why; only said where heavy scorers are set."""

    # keys of PROMOTIONS; none = there was no reason to
    reasons: tuple[str, ...] = ()
    # a key of LEFT_OUT, empty when nothing was
    left_out: str = ""

    def __post_init__(self) -> None:
        if unknown := set(self.reasons) - set(PROMOTIONS):
            raise ValueError(f"unknown reasons {sorted(unknown)}")
        if self.left_out and (self.left_out not in LEFT_OUT or not self.reasons):
            raise ValueError(f"unknown or without a reason to look: {self.left_out!r}")
