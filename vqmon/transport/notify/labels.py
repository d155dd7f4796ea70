"""What an alert is called and what is said of it: labels that never change, annotations that may."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from vqmon.core.types import SIGNALS, Alert, LevelShift

LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
SERVICE = "vqmon"
MAX_MOVED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Naming:
    """How this deployment names its alerts."""

    # added to every alert
    labels: Mapping[str, str] = field(default_factory=dict)
    # labels of streams and segments that become labels of alerts: few values each, and no change within an alert
    carried: Sequence[str] = ()
    # address of the pages, as people reach them; without it nothing is linked
    public_url: str = ""

    def __post_init__(self) -> None:
        for name in self.labels:
            if not LABEL_NAME.fullmatch(name):
                raise ValueError(f"label {name!r}: letters, digits and _ only, and no digit first")


def labels_of(alert: Alert, naming: Naming) -> dict[str, str]:
    """The labels that are the identity of an alert; `alert` is as it was when it came in.

    No number, time or id of a segment is among them: the same condition on the same series has the same labels.
    """
    carried = {_label_name(name): alert.labels.get(name, "") for name in naming.carried}
    what = alert.series.removeprefix(f"{alert.stream_id}/{alert.rendition}/")
    own = {
        "alertname": "Vqmon" + "".join(part.capitalize() for part in re.split(r"[^A-Za-z0-9]+", alert.rule)),
        "severity": alert.severity,
        "stream": alert.stream_id,
        "rendition": alert.rendition,
        "rule": alert.rule,
        "signal" if what in SIGNALS else "scorer": what,
        "cause": alert.cause,
    }
    labels = {"service": SERVICE, **carried, **naming.labels, **own}
    # Alertmanager drops empty ones; what identifies must not depend on that.
    return {name: _clean(value) for name, value in labels.items() if value}


def annotations_of(alert: Alert) -> dict[str, str]:
    """What is said of an alert now; receivers show the last that they were sent."""
    evidence = alert.evidence
    said = {
        "summary": f"{alert.stream_id} {alert.rendition}: {alert.summary}",
        "reading": evidence.reading,
        "value": "" if evidence.value is None else f"{evidence.value:.4g}",
        "threshold": "" if evidence.threshold is None else f"{evidence.threshold:.4g}",
        "began_at": alert.began_at.isoformat(timespec="seconds"),
        "alert_id": alert.id,
        "moved": "; ".join(f"{it.name} {it.before:.3g} -> {it.after:.3g}" for it in alert.moved[:MAX_MOVED]),
        **(_of_change(alert.change) if alert.change else {}),
    }
    return {name: _clean(value) for name, value in said.items() if value}


def link_of(alert: Alert, naming: Naming) -> str:
    """The page of an alert, "" when nobody said where the pages are."""
    return f"{naming.public_url.rstrip('/')}/alerts/{alert.id}" if naming.public_url else ""


def _of_change(change: LevelShift) -> dict[str, str]:
    return {
        "changed_at": change.at.isoformat(timespec="seconds"),
        "change": f"{change.before:.4g} -> {change.after:.4g} ({change.low:+.3g} to {change.high:+.3g}, 95 %)",
        "drop": f"{change.after - change.before:+.4g}",
    }


def _label_name(name: str) -> str:
    """A name that Prometheus knows: letters, digits and _, and no digit first."""
    cleaned = re.sub(r"\W", "_", name, flags=re.ASCII)
    return cleaned if LABEL_NAME.fullmatch(cleaned) else f"_{cleaned}"


def _clean(value: str) -> str:
    """Text that any receiver can read: names in unknown encodings lose what is no text."""
    return value.encode(errors="replace").decode()
