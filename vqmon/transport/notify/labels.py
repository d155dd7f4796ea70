"""Labels and annotations of alerts: labels identify an alert and never change, annotations may."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from vqmon.core.types import SIGNALS, Alert, LevelShift

LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_SERVICE = "vqmon"
_MAX_MOVED_SIGNALS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelConfig:
    """How this deployment labels and links its alerts."""

    # added to every alert
    labels: Mapping[str, str] = field(default_factory=dict)
    # labels of streams and segments that are copied to alerts: few values each, constant within an alert
    copied: Sequence[str] = ()
    # base URL of the pages, as people reach them; "" = no links
    public_url: str = ""
    # address of the page of runbooks, which has an anchor per alert name; "" = no links
    runbook_url: str = ""

    def __post_init__(self) -> None:
        for name in self.labels:
            if not LABEL_NAME.fullmatch(name):
                raise ValueError(f"label {name!r}: only letters, digits and _, and no digit first")


def _alert_name(rule: str) -> str:
    """The name of a rule's alerts in Alertmanager.

    >>> _alert_name("low-score")
    'VqmonLowScore'
    """
    return "Vqmon" + "".join(part.capitalize() for part in re.split(r"[^A-Za-z0-9]+", rule))


def alert_labels(alert: Alert, config: LabelConfig) -> dict[str, str]:
    """The labels that identify an alert; `alert` is as it was when it was queued.

    They contain no measured value, time or segment id: the same condition on the same series has the same labels.
    """
    copied = {_label_name(name): alert.labels.get(name, "") for name in config.copied}
    metric = alert.series.removeprefix(f"{alert.stream_id}/{alert.rendition}/")
    own = {
        "alertname": _alert_name(alert.rule),
        "severity": alert.severity,
        "stream": alert.stream_id,
        "rendition": alert.rendition,
        "rule": alert.rule,
        "signal" if metric in SIGNALS else "scorer": metric,
        "cause": alert.cause,
    }
    labels = {"service": _SERVICE, **copied, **config.labels, **own}
    # Alertmanager drops empty labels; the identity must not depend on that.
    return {name: _valid_text(value) for name, value in labels.items() if value}


def alert_annotations(alert: Alert, config: LabelConfig) -> dict[str, str]:
    """The current details of an alert; receivers show those that they got last."""
    evidence = alert.evidence
    annotations = {
        "summary": f"{alert.stream_id} {alert.rendition}: {alert.summary}",
        "reading": evidence.reading,
        "value": "" if evidence.value is None else f"{evidence.value:.4g}",
        "threshold": "" if evidence.threshold is None else f"{evidence.threshold:.4g}",
        "began_at": alert.began_at.isoformat(timespec="seconds"),
        "alert_id": alert.id,
        "runbook_url": f"{config.runbook_url}#{_alert_name(alert.rule).lower()}" if config.runbook_url else "",
        "moved": "; ".join(
            f"{shift.name} {shift.before:.3g} -> {shift.after:.3g}" for shift in alert.moved[:_MAX_MOVED_SIGNALS]
        ),
        **(_change_annotations(alert.change) if alert.change else {}),
    }
    return {name: _valid_text(value) for name, value in annotations.items() if value}


def alert_url(alert: Alert, config: LabelConfig) -> str:
    """The URL of the alert's page, "" without `public_url`."""
    return f"{config.public_url.rstrip('/')}/alerts/{alert.id}" if config.public_url else ""


def _change_annotations(change: LevelShift) -> dict[str, str]:
    return {
        "changed_at": change.at.isoformat(timespec="seconds"),
        "change": f"{change.before:.4g} -> {change.after:.4g} ({change.low:+.3g} to {change.high:+.3g}, 95 %)",
        "drop": f"{change.after - change.before:+.4g}",
    }


def _label_name(name: str) -> str:
    """Turn a name into a valid Prometheus label name: letters, digits and _, and no digit first."""
    cleaned = re.sub(r"\W", "_", name, flags=re.ASCII)
    return cleaned if LABEL_NAME.fullmatch(cleaned) else f"_{cleaned}"


def _valid_text(value: str) -> str:
    """Replace lone surrogates, which names in an unknown encoding contain and UTF-8 cannot encode."""
    return value.encode(errors="replace").decode()
