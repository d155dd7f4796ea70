"""Where the answers of version 1 of the REST interface come from."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from starlette.datastructures import QueryParams

from vqmon.core.experiments.definition import Experiment
from vqmon.core.experiments.results import Comparison
from vqmon.core.timeline import TimelinePoint
from vqmon.core.types import Alert, Outcome
from vqmon.web.addresses import EVENT_ID
from vqmon.web.api.framework import ApiError, Page, Values, next_url, page_of
from vqmon.web.model.alignment import Summary, summary_of
from vqmon.web.model.renditions import SORTS, Row, matches
from vqmon.web.pages.compare import compared_of, key_of
from vqmon.web.pages.fleet import StreamRow, folded
from vqmon.web.site import Site


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


MAX_ALERTS = 10_000


def streams(site: Site, values: Values) -> Page[StreamItem]:
    rows = [_stream(it) for it in folded(_matching(site, values))]
    return page_of(rows, "/streams", values)


def _stream(it: StreamRow) -> StreamItem:
    return StreamItem(
        stream_id=it.worst.stream_id,
        state=it.worst.state,
        why=it.worst.why,
        open_alerts=it.worst.open_alerts,
        last_observed_at=it.worst.last_at,
        renditions={step.name: step.state for step in it.steps},
    )


def renditions(site: Site, values: Values) -> Page[RenditionItem]:
    rows = sorted(_matching(site, values), key=SORTS[values["sort"] or "name"])
    return page_of([_rendition(row) for row in rows], "/renditions", values)


def _matching(site: Site, values: Values) -> list[Row]:
    words, state = values["q"] or "", values["state"]
    return [row for row in site.standing.rows() if matches(row, words=words, state=state)]


def _rendition(row: Row) -> RenditionItem:
    return RenditionItem(
        stream_id=row.stream_id,
        rendition=row.rendition,
        state=row.state,
        why=row.why,
        scores=dict(row.scores),
        reason=row.reason,
        unscored_share=round(row.unscored_share, 4),
        last_event_id=row.last_url.rsplit("/", 1)[-1],
        last_starts_at=row.last_starts_at,
        last_observed_at=row.last_at,
        open_alerts=row.open_alerts,
    )


def outcomes(site: Site, values: Values) -> Page[OutcomeItem]:
    """The newest first; the next part ends where this one begins."""
    since = values["since"] or (values["until"] or site.now()) - timedelta(days=1)
    until = values["until"] or site.now() + timedelta(days=1)
    limit = values["limit"]
    while True:
        found = site.history.points(
            values["stream"], begins_at=since, ends_at=until, limit=limit + 1, rendition=values["rendition"]
        )
        if len(found) <= limit:
            return Page(items=[_outcome(it) for it in reversed(found)], next=None)
        # A moment that several renditions share is never cut in two.
        whole = [it for it in found if it.starts_at > found[0].starts_at]
        if whole:
            until = found[0].starts_at + timedelta(microseconds=1)
            address = next_url("/outcomes", values, since=since, until=until)
            return Page(items=[_outcome(it) for it in reversed(whole)], next=address)
        limit *= 2


def _outcome(it: TimelinePoint) -> OutcomeItem:
    return OutcomeItem(
        event_id=it.event_id,
        stream_id=it.stream_id,
        rendition=it.rendition,
        starts_at=it.starts_at,
        reason=it.reason,
        scores=dict(it.scores),
        signals=dict(it.signals),
    )


def event(site: Site, values: Values) -> Outcome:
    found = site.history.outcome(values["event_id"]) if EVENT_ID.fullmatch(values["event_id"]) else None
    if found is None:
        raise ApiError(404, "There is no such outcome.", remedy="It may be older than what the history keeps.")
    return found


def alerts(site: Site, values: Values) -> Page[Alert]:
    found = site.history.alerts(
        open_only=values["state"] == "open", stream_id=values["stream"], since=values["since"], limit=MAX_ALERTS
    )
    kept = [it for it in found if values["state"] in (None, it.state)]
    return page_of(kept, "/alerts", values)


def alert(site: Site, values: Values) -> Alert:
    found = site.history.alert(values["alert_id"]) if EVENT_ID.fullmatch(values["alert_id"]) else None
    if found is None:
        raise ApiError(404, "There is no such alert.", remedy="`/api/v1/alerts` lists those that there are.")
    return found


def experiments(site: Site, values: Values) -> Page[ExperimentItem]:
    return page_of([_experiment(site, it) for it in site.answers.experiments()], "/experiments", values)


def _experiment(site: Site, it: Experiment) -> ExperimentItem:
    answer = site.answers.answer(it.name)
    found = answer.comparison.answers if answer.comparison else ()
    return ExperimentItem(
        name=it.name,
        question=it.question,
        verdicts={one.arm: one.verdict.kind for one in found},
        made_at=answer.made_at,
        is_running=answer.is_running,
        problem=answer.problem,
    )


def answer(site: Site, values: Values) -> ExperimentAnswer:
    name = values["name"]
    if name not in {it.name for it in site.answers.experiments()}:
        raise ApiError(
            404, f"There is no experiment {name!r}.", remedy="`/api/v1/experiments` lists those that there are."
        )
    answer = site.answers.answer(name)
    return ExperimentAnswer(
        name=name, made_at=answer.made_at, is_running=answer.is_running, comparison=answer.comparison
    )


def comparison(site: Site, values: Values) -> RenditionsCompared:
    query: dict[str, Any] = {key: value for key, value in values.items() if isinstance(value, str)}
    for name, value in (("from", values["since"]), ("to", values["until"])):
        query |= {name: value.isoformat()} if value else {}
    it = compared_of(site, QueryParams(query))
    if it is None:
        remedy = "Write each as STREAM/RENDITION; `/api/v1/renditions` lists those that there are."
        raise ApiError(404, "One of the two renditions has not been seen.", remedy=remedy)
    return RenditionsCompared(
        a=key_of(it.a),
        b=key_of(it.b),
        scorer=it.scorer,
        begins_at=it.range.begins_at,
        ends_at=it.range.ends_at,
        summary=summary_of(it.aligned.pairs),
        alone_a=it.aligned.alone_a,
        alone_b=it.aligned.alone_b,
        unscored_a=it.aligned.unscored_a,
        unscored_b=it.aligned.unscored_b,
        pairs=[
            PairItem(
                at=pair.at, a=pair.a, b=pair.b, difference=pair.difference, a_event_id=pair.a_id, b_event_id=pair.b_id
            )
            for pair in it.aligned.pairs
        ],
    )
