"""The fleet page: every stream or rendition with its state, filtered, sorted and paginated by query parameters."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from starlette.requests import Request
from starlette.responses import Response

from vqmon.plurals import plural
from vqmon.web.model.explanations import STATE_DESCRIPTIONS
from vqmon.web.model.renditions import (
    DESCENDING_BY_DEFAULT,
    SORT_KEYS,
    STATE_RANKS,
    RenditionRow,
    fleet_sentence,
    matches_filter,
    state_shares,
)
from vqmon.web.site import Site
from vqmon.web.urls import parse_count, with_query

_ROWS_PER_PAGE = 250
_MAX_RENDITION_VIEW_ROWS = 100
"""With more renditions than this, a row stands for a stream unless the URL says otherwise."""

_VIEWS = ("stream", "rendition")

_COLUMNS = (
    ("name", "", False),
    ("state", "State", False),
    ("score", "Last score", False),
    ("", "Last segments", False),
    ("unscored", "Unscored", True),
    ("last", "Last segment", True),
    ("alerts", "Alerts", True),
)
"""Sort key ("" if there is none), label (of the first column: the view's name), and whether the column is numeric."""

_FleetQuery = dict[str, str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class LadderRendition:
    """One rendition within the row of its stream."""

    name: str
    state: str
    score: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamRow:
    """One row of the table: a stream with all its renditions, or a single rendition (then `ladder` is empty).

    `summary` is the worst rendition; for a stream, its counts and its age are those of the whole stream.
    """

    summary: RenditionRow
    ladder: Sequence[LadderRendition] = ()


def group_by_stream(rows: Iterable[RenditionRow]) -> list[StreamRow]:
    """One row per stream, in the order in which the streams first occur."""
    by_stream: dict[str, list[RenditionRow]] = {}
    for row in rows:
        by_stream.setdefault(row.stream_id, []).append(row)
    return [_stream_row(rows) for rows in by_stream.values()]


def _stream_row(rows: Sequence[RenditionRow]) -> StreamRow:
    worst = min(rows, key=lambda row: (STATE_RANKS[row.state], 101.0 if row.score is None else row.score))
    summary = replace(
        worst,
        detail=plural(len(rows), "rendition"),
        unscored_share=sum(row.unscored_share for row in rows) / len(rows),
        last_observed_at=max(row.last_observed_at for row in rows),
        open_alerts=sum(row.open_alerts for row in rows),
    )
    tallest_first = sorted(rows, key=lambda row: (-(row.height or 0), row.rendition))
    ladder = [LadderRendition(name=row.rendition, state=row.state, score=row.score) for row in tallest_first]
    return StreamRow(summary=summary, ladder=ladder)


def fleet_page(site: Site, request: Request) -> Response:
    """Answer `/`."""
    query = request.query_params
    all_rows = site.fleet.rows()
    view = _view(query, all_rows)
    search_text = query.get("q", "")[:200].strip()
    state = query["state"] if query.get("state") in STATE_DESCRIPTIONS else None
    sort, order = _sort_and_order(query)
    matching = [row for row in all_rows if matches_filter(row, search_text=search_text, state=state)]
    table = group_by_stream(matching) if view == "stream" else [StreamRow(summary=row) for row in matching]
    table = _sort_rows(table, sort, order)
    pages = max(1, -(-len(table) // _ROWS_PER_PAGE))
    page = min(pages, max(1, parse_count(query.get("page")) or 1))
    # Only what the URL itself says: links keep its defaults.
    current: _FleetQuery = {"q": search_text, "state": state, "by": query.get("by") and view}
    current |= {"sort": query.get("sort") and sort, "order": query.get("order") and order}
    return site.render_page(
        "fleet.html",
        request,
        rows=table[(page - 1) * _ROWS_PER_PAGE : page * _ROWS_PER_PAGE],
        matching=len(table),
        total=len(all_rows),
        view=view,
        views=[
            {"key": key, "url": with_query("/", **{**current, "by": key}), "is_current": key == view} for key in _VIEWS
        ],
        sentence=fleet_sentence(all_rows),
        shares=state_shares(all_rows),
        filters=_state_filters(all_rows, current, state),
        columns=_columns(current, sort=sort, order=order, view=view),
        current=current,
        csv_url=with_query("/api/streams.csv", q=search_text, state=state),
        json_url=with_query("/api/v1/renditions", q=search_text, state=state),
        q=search_text,
        page=page,
        pages=pages,
        previous_url=with_query("/", **current, page=page - 1) if page > 1 else None,
        next_url=with_query("/", **current, page=page + 1) if page < pages else None,
    )


def _sort_rows(rows: Sequence[StreamRow], sort: str, order: str) -> list[StreamRow]:
    """The rows ordered by a key of `SORT_KEYS`; rows without a score come last in either order of scores."""
    ordered = sorted(rows, key=lambda row: SORT_KEYS[sort](row.summary), reverse=order == "desc")
    if sort == "score":
        ordered.sort(key=lambda row: row.summary.score is None)
    return ordered


def _view(query: Mapping[str, str], rows: Sequence[RenditionRow]) -> str:
    view = query.get("by")
    if view in _VIEWS:
        return str(view)
    return "stream" if len(rows) > _MAX_RENDITION_VIEW_ROWS else "rendition"


def _sort_and_order(query: Mapping[str, str]) -> tuple[str, str]:
    sort = query["sort"] if query.get("sort") in SORT_KEYS else "state"
    return sort, query["order"] if query.get("order") in ("asc", "desc") else _default_order(sort)


def _default_order(sort: str) -> str:
    return "desc" if sort in DESCENDING_BY_DEFAULT else "asc"


def _state_filters(rows: Sequence[RenditionRow], current: _FleetQuery, selected: str | None) -> list[dict[str, object]]:
    """The links that show all rows or those of one state, with their counts."""
    query: _FleetQuery = {"q": current["q"], "by": current["by"]}
    everything = {"state": None, "label": "all", "count": len(rows), "url": with_query("/", **query)}
    filters: list[dict[str, object]] = [{**everything, "is_current": not selected}]
    for state, description in STATE_DESCRIPTIONS.items():
        count = sum(row.state == state for row in rows)
        if count or state == selected:
            filters.append(
                {
                    "state": state,
                    "label": state,
                    "count": count,
                    "url": with_query("/", **query, state=state),
                    "is_current": state == selected,
                    "description": description,
                }
            )
    return filters


def _columns(current: _FleetQuery, *, sort: str, order: str, view: str) -> list[dict[str, object]]:
    """The column headers; each links to the table sorted by it, the current one to the reverse order."""
    columns: list[dict[str, object]] = []
    for key, label, is_number in _COLUMNS:
        is_sorted = key == sort
        next_order = ("asc" if order == "desc" else "desc") if is_sorted else _default_order(key)
        columns.append(
            {
                "key": key,
                "label": label or view.capitalize(),
                "is_number": is_number,
                "url": with_query("/", **{**current, "sort": key, "order": next_order}) if key else None,
                "sorted": {"asc": "ascending", "desc": "descending"}[order] if is_sorted else None,
            }
        )
    return columns
