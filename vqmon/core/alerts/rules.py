"""Alert rules: a condition with its severity and the renditions that it is about; the registry of condition kinds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from vqmon.core.alerts.annotations import Mask
from vqmon.core.alerts.conditions.audio import Audio
from vqmon.core.alerts.conditions.base import Condition, check_choice, check_range
from vqmon.core.alerts.conditions.captions import Captions
from vqmon.core.alerts.conditions.collapse import Collapse
from vqmon.core.alerts.conditions.floor import Floor
from vqmon.core.alerts.conditions.group import Group
from vqmon.core.alerts.conditions.missing import Missing
from vqmon.core.alerts.conditions.no_score import NoScore
from vqmon.core.alerts.conditions.reference import ReferenceLimit
from vqmon.core.alerts.conditions.regression import Regression
from vqmon.core.alerts.conditions.signal import Signal
from vqmon.core.alerts.conditions.subtitles import Subtitles
from vqmon.core.types import Rendition, Severity

CONDITIONS: Mapping[str, type[Condition]] = {
    condition.kind: condition
    for condition in (
        Floor,
        Signal,
        Collapse,
        NoScore,
        Missing,
        Regression,
        Group,
        ReferenceLimit,
        Audio,
        Captions,
        Subtitles,
    )
}
"""`kind` in the rules file -> condition."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """The renditions that a rule is about: streams and renditions by globs, and labels that must all match."""

    stream: tuple[str, ...] = ("*",)
    rendition: tuple[str, ...] = ("*",)
    # label -> glob; labels of the segment override those of the rendition
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)

    def matches_rendition(self, rendition: Rendition) -> bool:
        """Whether the names of stream and rendition match."""
        return self.matches_names(rendition.stream_id, rendition.name)

    def matches_names(self, stream_id: str, rendition: str) -> bool:
        """Whether these names of stream and rendition match."""
        return any(fnmatchcase(stream_id, glob) for glob in self.stream) and any(
            fnmatchcase(rendition, glob) for glob in self.rendition
        )

    def matches_labels(self, labels: Mapping[str, str]) -> bool:
        """Whether all labels are there and match."""
        if not self.labels:
            return True
        return all(name in labels and fnmatchcase(labels[name], glob) for name, glob in self.labels.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertRule:
    """A condition, the severity of its alerts, and the renditions that it is about."""

    name: str
    severity: Severity
    condition: Condition
    match: Match = Match()
    # an alert does not resolve before it has been open for so long
    min_open_seconds: float = 0.0
    # times that the rule ignores
    masks: tuple[Mask, ...] = ()
    # whether it also ignores segments within ad breaks, which have the label AD_BREAK_LABEL
    mask_ad_breaks: bool = False

    def __post_init__(self) -> None:
        if not self.name or "|" in self.name:
            raise ValueError(f"a rule needs a name without '|', got {self.name!r}")
        check_choice(self, "severity", ("page", "ticket"))
        check_range(self, "min_open_seconds", low=0)
        if self.mask_ad_breaks and isinstance(self.condition, Group):
            raise ValueError(f"mask_ad_breaks: not for rules of the kind {self.condition.kind}")

    def masks_for(self, rendition: Rendition) -> tuple[Mask, ...]:
        """The masks of the rule that lie over a rendition."""
        return tuple(mask for mask in self.masks if mask.matches(rendition.stream_id, rendition.name))
