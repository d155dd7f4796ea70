"""The responses of version 1 of the REST API: their types, and how they are computed from the history."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from starlette.datastructures import QueryParams

from vqmon.core.alerts.reactions.input_switching import DecisionRecord
from vqmon.core.experiments.definition import Experiment
from vqmon.core.experiments.results import Comparison
from vqmon.core.timeline import TimelinePoint
from vqmon.core.types import Alert, Outcome
from vqmon.web.api.framework import ApiError, Page, ParameterValues, next_url, paginate
from vqmon.web.model.alignment import DifferenceSummary, summarize_differences
from vqmon.web.model.renditions import SORT_KEYS, RenditionRow, matches_filter
from vqmon.web.pages.compare import compare_renditions
from vqmon.web.pages.fleet import StreamRow, group_by_stream
from vqmon.web.site import Site
from vqmon.web.urls import EVENT_ID_PATTERN


@dataclass(frozen=True, slots=True, kw_only=True)
class RenditionItem:
    """The current state of a rendition; scores are 0..100."""

    stream_id: str
    rendition: str
    # a state of the fleet page
    state: str
    # what makes it so
    why: str
    # of the newest segment, by scorer; empty when it is unscored
    scores: dict[str, float]
    # why the newest segment is unscored
    reason: str | None
    # of the newest segments, 0..1
    unscored_share: float
    # of the newest outcome
    last_event_id: str
    # on the stream's timeline
    last_starts_at: datetime
    # by the clock of the observer
    last_observed_at: datetime
    # number of them
    open_alerts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamItem:
    """A stream: the state of its worst rendition, and the state of each rendition by name."""

    stream_id: str
    # of its worst rendition
    state: str
    # what makes it so
    why: str
    # number of them, of all renditions
    open_alerts: int
    # of any rendition
    last_observed_at: datetime
    # name -> state
    renditions: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeItem:
    """An outcome in short: scores 0..100 by scorer, the highest frame value 0..1 of each signal, reference measures."""

    event_id: str
    stream_id: str
    rendition: str
    # on the stream's timeline
    starts_at: datetime
    # why it is unscored; null when it is scored
    reason: str | None
    # by scorer, 0..100
    scores: dict[str, float]
    # highest frame value 0..1, by signal
    signals: dict[str, float]
    # on the measure's own scale
    references: dict[str, float]
    # of the segment and its rendition
    labels: dict[str, str]
    # the label `arm`, null without one
    arm: str | None
    # position among the writes of the history: `since` of the request for what comes after
    number: int
    # scorer that gave no score for the segment -> reason
    scorer_failures: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentItem:
    """An experiment with the verdict on each arm; there are none until the first result."""

    name: str
    # as the experiments file has it
    question: str
    # arm -> verdict
    verdicts: dict[str, str]
    # when the result was computed; null before the first one
    made_at: datetime | None
    # whether a result is being computed
    is_running: bool
    # why there is no result; "" otherwise
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentAnswer:
    """The whole result of an experiment; `comparison` is null until there is one."""

    name: str
    # when the result was computed; null before the first one
    made_at: datetime | None
    # whether a result is being computed
    is_running: bool
    # as `vqmon compare --json` prints it
    comparison: Comparison | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PairItem:
    """The scores of two renditions at one moment; the ids are empty where a pair stands for many segments."""

    at: datetime
    a: float
    b: float
    difference: float
    a_event_id: str
    b_event_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RenditionsCompared:
    """Two renditions aligned by media time; `summary` is null when there is no moment at which both have a score."""

    # STREAM/RENDITION
    a: str
    # STREAM/RENDITION
    b: str
    # name@version
    scorer: str
    # of the range
    begins_at: datetime
    # of the range
    ends_at: datetime
    # of the differences b - a
    summary: DifferenceSummary | None
    # segments of a without one of b at their moment
    alone_a: int
    # and of b without one of a
    alone_b: int
    # unscored segments of a in the range
    unscored_a: int
    # and of b
    unscored_b: int
    # in order of time
    pairs: Sequence[PairItem]


_MAX_ALERTS = 10_000
_MAX_DECISIONS = 10_000


# ---- streams and renditions


def list_streams(site: Site, values: ParameterValues) -> Page[StreamItem]:
    items = [_stream_item(row) for row in group_by_stream(_matching_rows(site, values))]
    return paginate(items, "/streams", values)


def _stream_item(row: StreamRow) -> StreamItem:
    return StreamItem(
        stream_id=row.summary.stream_id,
        state=row.summary.state,
        why=row.summary.why,
        open_alerts=row.summary.open_alerts,
        last_observed_at=row.summary.last_observed_at,
        renditions={rendition.name: rendition.state for rendition in row.ladder},
    )


def list_renditions(site: Site, values: ParameterValues) -> Page[RenditionItem]:
    rows = sorted(_matching_rows(site, values), key=SORT_KEYS[values["sort"] or "name"])
    return paginate([_rendition_item(row) for row in rows], "/renditions", values)


def _matching_rows(site: Site, values: ParameterValues) -> list[RenditionRow]:
    search_text, state = values["q"] or "", values["state"]
    return [row for row in site.fleet.rows() if matches_filter(row, search_text=search_text, state=state)]


def _rendition_item(row: RenditionRow) -> RenditionItem:
    return RenditionItem(
        stream_id=row.stream_id,
        rendition=row.rendition,
        state=row.state,
        why=row.why,
        scores=dict(row.scores),
        reason=row.reason,
        unscored_share=round(row.unscored_share, 4),
        last_event_id=row.last_event_id,
        last_starts_at=row.last_starts_at,
        last_observed_at=row.last_observed_at,
        open_alerts=row.open_alerts,
    )


# ---- outcomes and alerts


def list_outcomes(site: Site, values: ParameterValues) -> Page[OutcomeItem]:
    """Outcomes of a stream, newest first; the next page ends before the first moment of this one.

    With a number as `since`, outcomes of all streams in the order in which they were written.
    """
    if isinstance(values["since"], int):
        return _list_written_outcomes(site, values)
    if not values["stream"]:
        remedy = "Name a stream, or give since=NUMBER (0 = from the beginning) for all streams."
        raise ApiError(400, "The parameter 'stream' is missing.", remedy=remedy)
    since = values["since"] or (values["until"] or site.now()) - timedelta(days=1)
    until = values["until"] or site.now() + timedelta(days=1)
    limit = values["limit"]
    while True:
        points = site.history.points(
            values["stream"], begins_at=since, ends_at=until, limit=limit + 1, rendition=values["rendition"]
        )
        if len(points) <= limit:
            return Page(items=_outcome_items(reversed(points), values["label"]), next=None)
        # All outcomes of one moment stay on one page, since the next page is found by its moment.
        oldest_at = points[0].starts_at
        complete = [point for point in points if point.starts_at > oldest_at]
        if complete:
            url = next_url("/outcomes", values, since=since, until=oldest_at + timedelta(microseconds=1))
            return Page(items=_outcome_items(reversed(complete), values["label"]), next=url)
        limit *= 2


def _list_written_outcomes(site: Site, values: ParameterValues) -> Page[OutcomeItem]:
    """What was written after a number; `next` is null when nothing more is stored yet."""
    if values["until"] is not None:
        remedy = "Leave it out: a list by number is in the order of writing, not of time."
        raise ApiError(400, "The parameter 'until' does not go with since=NUMBER.", remedy=remedy)
    limit = values["limit"]
    points = site.history.points_written_after(
        values["since"], limit=limit, stream_id=values["stream"] or "", rendition=values["rendition"] or ""
    )
    url = next_url("/outcomes", values, since=points[-1].number) if len(points) == limit else None
    return Page(items=_outcome_items(points, values["label"]), next=url)


def _outcome_items(points: Iterable[TimelinePoint], label: tuple[str, str] | None) -> Sequence[OutcomeItem]:
    return [_outcome_item(point) for point in points if label is None or point.labels.get(label[0]) == label[1]]


def _outcome_item(point: TimelinePoint) -> OutcomeItem:
    return OutcomeItem(
        event_id=point.event_id,
        stream_id=point.stream_id,
        rendition=point.rendition,
        starts_at=point.starts_at,
        reason=point.reason,
        scores=dict(point.scores),
        signals=dict(point.signals),
        references=dict(point.references),
        labels=dict(point.labels),
        arm=point.labels.get("arm"),
        number=point.number,
        scorer_failures=dict(point.scorer_failures),
    )


def get_outcome(site: Site, values: ParameterValues) -> Outcome:
    event_id = values["event_id"]
    outcome = site.history.outcome(event_id) if EVENT_ID_PATTERN.fullmatch(event_id) else None
    if outcome is None:
        raise ApiError(404, "There is no such outcome.", remedy="It may be older than the history's retention.")
    return outcome


def list_alerts(site: Site, values: ParameterValues) -> Page[Alert]:
    state = values["state"]
    alerts = site.history.alerts(
        open_only=state == "open", stream_id=values["stream"], since=values["since"], limit=_MAX_ALERTS
    )
    return paginate([alert for alert in alerts if state in (None, alert.state)], "/alerts", values)


def list_input_decisions(site: Site, values: ParameterValues) -> Page[DecisionRecord]:
    records = site.history.input_decisions(stream_id=values["stream"], limit=_MAX_DECISIONS)
    return paginate(records, "/input-decisions", values)


def get_alert(site: Site, values: ParameterValues) -> Alert:
    alert_id = values["alert_id"]
    alert = site.history.alert(alert_id) if EVENT_ID_PATTERN.fullmatch(alert_id) else None
    if alert is None:
        raise ApiError(404, "There is no such alert.", remedy="`/api/v1/alerts` lists all alerts.")
    return alert


# ---- experiments and comparison


def list_experiments(site: Site, values: ParameterValues) -> Page[ExperimentItem]:
    items = [_experiment_item(site, experiment) for experiment in site.experiment_results.experiments()]
    return paginate(items, "/experiments", values)


def _experiment_item(site: Site, experiment: Experiment) -> ExperimentItem:
    result = site.experiment_results.result(experiment.name)
    arm_results = result.comparison.answers if result.comparison else ()
    return ExperimentItem(
        name=experiment.name,
        question=experiment.question,
        verdicts={arm_result.arm: arm_result.verdict.kind for arm_result in arm_results},
        made_at=result.made_at,
        is_running=result.is_running,
        problem=result.problem,
    )


def get_experiment(site: Site, values: ParameterValues) -> ExperimentAnswer:
    name = values["name"]
    if name not in {experiment.name for experiment in site.experiment_results.experiments()}:
        remedy = "`/api/v1/experiments` lists all experiments."
        raise ApiError(404, f"There is no experiment {name!r}.", remedy=remedy)
    result = site.experiment_results.result(name)
    return ExperimentAnswer(
        name=name, made_at=result.made_at, is_running=result.is_running, comparison=result.comparison
    )


def get_comparison(site: Site, values: ParameterValues) -> RenditionsCompared:
    query: dict[str, Any] = {name: value for name, value in values.items() if isinstance(value, str)}
    for name, value in (("from", values["since"]), ("to", values["until"])):
        query |= {name: value.isoformat()} if value else {}
    comparison = compare_renditions(site, QueryParams(query))
    if comparison is None:
        remedy = "Write each as STREAM/RENDITION; `/api/v1/renditions` lists all renditions."
        raise ApiError(404, "The history has no outcome of one of the two renditions.", remedy=remedy)
    alignment = comparison.alignment
    return RenditionsCompared(
        a=comparison.a_key,
        b=comparison.b_key,
        scorer=comparison.scorer,
        begins_at=comparison.range.begins_at,
        ends_at=comparison.range.ends_at,
        summary=summarize_differences(alignment.pairs),
        alone_a=alignment.unpaired_a,
        alone_b=alignment.unpaired_b,
        unscored_a=alignment.unscored_a,
        unscored_b=alignment.unscored_b,
        pairs=[
            PairItem(
                at=pair.at, a=pair.a, b=pair.b, difference=pair.difference, a_event_id=pair.a_id, b_event_id=pair.b_id
            )
            for pair in alignment.pairs
        ],
    )
