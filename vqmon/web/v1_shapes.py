"""The shapes of the answers of version 1 of the REST interface; moments are ISO 8601 in UTC."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from vqmon.core.experiments.results import Comparison
from vqmon.web.model.alignment import Summary


@dataclass(frozen=True, slots=True, kw_only=True)
class RenditionItem:
    """One rendition as it stands now; scores are 0..100."""

    stream_id: str
    rendition: str
    state: str
    why: str
    scores: dict[str, float]
    reason: str | None
    unscored_share: float
    last_event_id: str
    last_starts_at: datetime
    last_observed_at: datetime
    open_alerts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamItem:
    """One stream by its worst rendition, and the state of each."""

    stream_id: str
    state: str
    why: str
    open_alerts: int
    last_observed_at: datetime
    renditions: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeItem:
    """One outcome in short: scores 0..100 by scorer, the highest frame value of each signal 0..1."""

    event_id: str
    stream_id: str
    rendition: str
    starts_at: datetime
    reason: str | None
    scores: dict[str, float]
    signals: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentItem:
    """One experiment with the verdict on each arm, if there is an answer yet."""

    name: str
    question: str
    verdicts: dict[str, str]
    made_at: datetime | None
    is_running: bool
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentAnswer:
    """The whole answer of an experiment, null while there is none."""

    name: str
    made_at: datetime | None
    is_running: bool
    comparison: Comparison | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PairItem:
    """The same moment in both; ids are empty where a pair stands for many segments."""

    at: datetime
    a: float
    b: float
    difference: float
    a_event_id: str
    b_event_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RenditionsCompared:
    """Two renditions side by side; null numbers when no moment has a score in both."""

    a: str
    b: str
    scorer: str
    begins_at: datetime
    ends_at: datetime
    summary: Summary | None
    alone_a: int
    alone_b: int
    unscored_a: int
    unscored_b: int
    pairs: Sequence[PairItem]
