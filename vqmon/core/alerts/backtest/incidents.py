"""Alerts held against what is known to have happened: found or not, how soon, how often for nothing."""

import csv
import io
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any

from vqmon.core.types import Alert
from vqmon.errors import SettingsError

AFTER = timedelta(minutes=2)
"""An alert may open so long after an incident is over and still mean it: segments and recovery take their time."""

BEFORE = timedelta(seconds=30)
"""And so long before: the first bad segment may have begun earlier than the moment that was noted."""

DAY_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """Something that was wrong, as a person noted it; stream and rendition are globs."""

    stream: str
    began: datetime
    ended: datetime
    rendition: str = "*"

    def __post_init__(self) -> None:
        if self.ended <= self.began:
            raise ValueError("ended must be after began")

    def explains(self, alert: Alert) -> bool:
        """Whether an alert may be about it; those of groups may be about any stream."""
        if not self.began - BEFORE <= alert.opened_at <= self.ended + AFTER:
            return False
        if alert.rendition == "group":
            return True
        return fnmatchcase(alert.stream_id, self.stream) and fnmatchcase(alert.rendition, self.rendition)


@dataclass(frozen=True, slots=True, kw_only=True)
class Appraisal:
    """What a set of rules, or one rule, was worth; alerts that are muted do not count."""

    alerts: int
    # alerts that no incident explains
    false: int
    stream_days: float
    incidents: int
    found: int
    # seconds from the beginning of each found incident to its first alert, in order
    delays: tuple[float, ...]
    # incidents with more than one alert of the same rule and series
    flapped: int

    @property
    def false_per_stream_day(self) -> float:
        return self.false / self.stream_days if self.stream_days else 0.0

    def delay(self, share: float) -> float | None:
        """The delay that this share of the found incidents does not exceed."""
        if not self.delays:
            return None
        return self.delays[min(int(share * len(self.delays)), len(self.delays) - 1)]


def appraise(alerts: Iterable[Alert], incidents: Sequence[Incident], *, stream_days: float) -> Appraisal:
    """Hold alerts against incidents; `stream_days` is how long all renditions together were watched."""
    told = sorted((it for it in alerts if not it.muted_by), key=lambda it: it.opened_at)
    of_incident: list[list[Alert]] = [[] for _ in incidents]
    false = 0
    for alert in told:
        places = [n for n, incident in enumerate(incidents) if incident.explains(alert)]
        false += not places
        for n in places:
            of_incident[n].append(alert)
    delays = sorted(
        max((found[0].opened_at - incident.began).total_seconds(), 0.0)
        for incident, found in zip(incidents, of_incident, strict=True)
        if found
    )
    flapped = sum(len(found) > len({(it.rule, it.series) for it in found}) for found in of_incident)
    return Appraisal(
        alerts=len(told),
        false=false,
        stream_days=stream_days,
        incidents=len(incidents),
        found=len(delays),
        delays=tuple(delays),
        flapped=flapped,
    )


def parse_incidents(text: str, *, origin: str) -> tuple[Incident, ...]:
    """Incidents from CSV with a header line, or from TOML tables `[[incidents]]`; times without a zone are UTC.

    Keys are stream, began, ended and, where wanted, rendition. Raises SettingsError naming the place.
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
    return tuple(_incident(row, f"{origin}: incident {number}") for number, row in enumerate(rows, 1))


def _incident(row: Mapping[str, Any], where: str) -> Incident:
    for key in ("stream", "began", "ended"):
        if not row.get(key):
            raise SettingsError(f"{where}: {key}: is missing; needed are stream, began, ended (and rendition)")
    try:
        return Incident(
            stream=str(row["stream"]),
            rendition=str(row.get("rendition") or "*"),
            began=_moment(row["began"]),
            ended=_moment(row["ended"]),
        )
    except ValueError as error:
        raise SettingsError(f"{where}: {error}") from error


def _moment(value: object) -> datetime:
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    return moment.replace(tzinfo=UTC) if moment.utcoffset() is None else moment.astimezone(UTC)
