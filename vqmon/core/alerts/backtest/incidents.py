"""Compares alerts with known incidents: how many were detected, how soon, and how many alerts were false."""

import csv
import io
import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any

from vqmon.core.types import Alert
from vqmon.errors import SettingsError

AFTER_INCIDENT = timedelta(minutes=2)
"""An alert may open so long after an incident has ended and still be caused by it: recovery takes its time."""

_BEFORE_INCIDENT = timedelta(seconds=30)
"""An alert may open so long before: the first bad segment may have begun before the recorded moment."""

DAY_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """A known fault, as a person recorded it; stream and rendition are globs."""

    stream: str
    began_at: datetime
    ended_at: datetime
    rendition: str = "*"

    def __post_init__(self) -> None:
        if self.ended_at <= self.began_at:
            raise ValueError("ended must be after began")

    def explains(self, alert: Alert) -> bool:
        """Whether an alert may be caused by the incident; that of a group may be, on any stream."""
        if not self.began_at - _BEFORE_INCIDENT <= alert.opened_at <= self.ended_at + AFTER_INCIDENT:
            return False
        if alert.rendition == "group":
            return True
        return fnmatchcase(alert.stream_id, self.stream) and fnmatchcase(alert.rendition, self.rendition)


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectionReport:
    """How well a set of rules, or one rule, detected known incidents.

    A muted alert is none that is sent, and so neither counted nor false; but where the one that mutes it is among the
    alerts, it detects its incident: a fault of a whole ladder is one ticket, and seen in every rendition.
    """

    alert_count: int
    # alerts that no incident explains
    false_count: int
    stream_days: float
    incident_count: int
    detected_count: int
    # from the beginning of each detected incident to its first alert, rising
    delays_seconds: tuple[float, ...]
    # incidents with more than one alert of the same rule and series
    flapping_count: int

    @property
    def false_per_stream_day(self) -> float:
        return self.false_count / self.stream_days if self.stream_days else 0.0

    def delay_quantile(self, share: float) -> float | None:
        """The delay in seconds that this share of the detected incidents does not exceed; None without any."""
        if not self.delays_seconds:
            return None
        return self.delays_seconds[min(int(share * len(self.delays_seconds)), len(self.delays_seconds) - 1)]


def evaluate_alerts(
    alerts: Collection[Alert], incidents: Sequence[Incident], *, stream_days: float, rule: str | None = None
) -> DetectionReport:
    """Compare alerts with incidents; `stream_days` is the time for which all renditions together were watched.

    With `rule` those of this rule; give all alerts nevertheless, as one of another rule may mute them.
    """
    sent_ids = {alert.id for alert in alerts if not alert.muted_by}
    alerts = [alert for alert in alerts if rule is None or alert.rule == rule]
    unmuted = sorted((alert for alert in alerts if not alert.muted_by), key=lambda alert: alert.opened_at)
    alerts_by_incident: list[list[Alert]] = [[] for _ in incidents]
    false_count = 0
    for alert in unmuted:
        causes = [number for number, incident in enumerate(incidents) if incident.explains(alert)]
        false_count += not causes
        for number in causes:
            alerts_by_incident[number].append(alert)
    seen = [*unmuted, *(alert for alert in alerts if alert.muted_by in sent_ids)]
    delays = sorted(
        min(moments)
        for incident in incidents
        if (
            moments := [
                max((alert.opened_at - incident.began_at).total_seconds(), 0.0)
                for alert in seen
                if incident.explains(alert)
            ]
        )
    )
    flapping_count = sum(
        len(caused) > len({(alert.rule, alert.series) for alert in caused}) for caused in alerts_by_incident
    )
    return DetectionReport(
        alert_count=len(unmuted),
        false_count=false_count,
        stream_days=stream_days,
        incident_count=len(incidents),
        detected_count=len(delays),
        delays_seconds=tuple(delays),
        flapping_count=flapping_count,
    )


def parse_incidents(text: str, *, origin: str) -> tuple[Incident, ...]:
    """Parse incidents from CSV with a header line, or from TOML tables `[[incidents]]` when `origin` ends in .toml.

    The keys are stream, began, ended and optionally rendition; times without a zone are UTC. Raises SettingsError
    naming the file, the incident and the key.
    """
    if origin.endswith(".toml"):
        try:
            rows = tomllib.loads(text).get("incidents", [])
        except tomllib.TOMLDecodeError as error:
            raise SettingsError(f"{origin}: {error}") from error
    else:
        rows = list(csv.DictReader(io.StringIO(text)))
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise SettingsError(f"{origin}: incidents must be tables like [[incidents]]")
    if not rows:
        needed = (
            "a table [[incidents]]" if origin.endswith(".toml") else "a line `stream,rendition,began,ended`, and one"
        )
        raise SettingsError(f"{origin}: no incident is in this file; it needs {needed} for each incident")
    return tuple(_incident(row, f"{origin}: incident {number}") for number, row in enumerate(rows, 1))


def _incident(row: Mapping[str, Any], where: str) -> Incident:
    for key in ("stream", "began", "ended"):
        if not row.get(key):
            raise SettingsError(f"{where}: {key}: is missing; needed are stream, began, ended (and rendition)")
    try:
        return Incident(
            stream=str(row["stream"]),
            rendition=str(row.get("rendition") or "*"),
            began_at=_datetime(row["began"], "began"),
            ended_at=_datetime(row["ended"], "ended"),
        )
    except ValueError as error:
        raise SettingsError(f"{where}: {error}") from error


def _datetime(value: object, key: str) -> datetime:
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    except ValueError:
        raise ValueError(f"{key}: must be a time like 2026-11-20T21:00:00Z, got {value!r}") from None
    return moment.replace(tzinfo=UTC) if moment.utcoffset() is None else moment.astimezone(UTC)
