"""The fleet: every stream or rendition with its state, filtered, sorted and cut into pages by the address."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from starlette.requests import Request
from starlette.responses import Response

from vqmon.web.addresses import count_of, with_query
from vqmon.web.model.explanations import STATES
from vqmon.web.model.renditions import (
    DESCENDING_FIRST,
    SORTS,
    WORST_FIRST,
    Row,
    matches,
    plural,
    sentence_of,
    shares_of,
)
from vqmon.web.site import Site


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One rendition of a stream's ladder: its name, its state and what a reader hears."""

    name: str
    state: str
    score: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamRow:
    """One stream in a table: its worst rendition, and all of them as steps."""

    worst: Row
    steps: Sequence[Step]


def folded(rows: Iterable[Row]) -> list[StreamRow]:
    """One row per stream, in the order in which the streams come."""
    by_stream: dict[str, list[Row]] = {}
    for row in rows:
        by_stream.setdefault(row.stream_id, []).append(row)
    return [_folded(rows) for rows in by_stream.values()]


def _folded(rows: Sequence[Row]) -> StreamRow:
    worst = min(rows, key=lambda row: (WORST_FIRST[row.state], 101.0 if row.score is None else row.score))
    whole = replace(
        worst,
        detail=plural(len(rows), "rendition"),
        unscored_share=sum(row.unscored_share for row in rows) / len(rows),
        last_at=max(row.last_at for row in rows),
        open_alerts=sum(row.open_alerts for row in rows),
    )
    ladder = sorted(rows, key=lambda row: (-(row.height or 0), row.rendition))
    return StreamRow(worst=whole, steps=[Step(name=it.rendition, state=it.state, score=it.score) for it in ladder])


PAGE_ROWS = 250
MANY_RENDITIONS = 100
"""A fleet with more is shown by stream unless the address says otherwise."""

VIEWS = ("stream", "rendition")

_COLUMNS = (
    ("name", "", False),
    ("state", "State", False),
    ("score", "Last score", False),
    ("", "Last segments", False),
    ("unscored", "Unscored", True),
    ("last", "Last segment", True),
    ("alerts", "Alerts", True),
)

Asked = dict[str, str | None]


def fleet(site: Site, request: Request) -> Response:
    """Answer `/`."""
    query = request.query_params
    everything = site.standing.rows()
    view = _view(query, everything)
    words = query.get("q", "")[:200].strip()
    state = query["state"] if query.get("state") in STATES else None
    sort, order = _sort(query)
    rows = [row for row in everything if matches(row, words=words, state=state)]
    found = sorted_rows(
        folded(rows) if view == "stream" else [StreamRow(worst=row, steps=()) for row in rows], sort, order
    )
    pages = max(1, -(-len(found) // PAGE_ROWS))
    page = min(pages, max(1, count_of(query.get("page")) or 1))
    asked: Asked = {"q": words, "state": state, "by": query.get("by") and view}
    asked |= {"sort": query.get("sort") and sort, "order": query.get("order") and order}
    return site.page(
        "fleet.html",
        request,
        rows=found[(page - 1) * PAGE_ROWS : page * PAGE_ROWS],
        found=len(found),
        total=len(everything),
        view=view,
        views=[
            {"key": key, "url": with_query("/", **{**asked, "by": key}), "is_current": key == view} for key in VIEWS
        ],
        sentence=sentence_of(everything),
        share=shares_of(everything),
        chips=_chips(everything, asked, state),
        columns=_columns(asked, sort, order, view),
        asked=asked,
        csv_url=with_query("/api/streams.csv", q=words, state=state),
        json_url=with_query("/api/v1/renditions", q=words, state=state),
        q=words,
        chosen_state=state,
        page=page,
        pages=pages,
        previous_url=with_query("/", **asked, page=page - 1) if page > 1 else None,
        next_url=with_query("/", **asked, page=page + 1) if page < pages else None,
    )


def sorted_rows(rows: Sequence[StreamRow], sort: str, order: str) -> list[StreamRow]:
    """The rows by a key of `looks.SORTS`; what has no score is last, whichever way."""
    done = sorted(rows, key=lambda row: SORTS[sort](row.worst), reverse=order == "desc")
    if sort == "score":
        done.sort(key=lambda row: row.worst.score is None)
    return done


def _view(query: Mapping[str, str], rows: Sequence[Row]) -> str:
    asked = query.get("by")
    if asked in VIEWS:
        return str(asked)
    return "stream" if len(rows) > MANY_RENDITIONS else "rendition"


def _sort(query: Mapping[str, str]) -> tuple[str, str]:
    sort = query["sort"] if query.get("sort") in SORTS else "state"
    return sort, query["order"] if query.get("order") in ("asc", "desc") else _first_order(sort)


def _first_order(sort: str) -> str:
    return "desc" if sort in DESCENDING_FIRST else "asc"


def _chips(rows: Sequence[Row], asked: Asked, chosen: str | None) -> list[dict[str, object]]:
    kept: Asked = {"q": asked["q"], "by": asked["by"]}
    chips: list[dict[str, object]] = [
        {"state": None, "label": "all", "count": len(rows), "url": with_query("/", **kept), "is_current": not chosen}
    ]
    for state, why in STATES.items():
        count = sum(row.state == state for row in rows)
        if count or state == chosen:
            url = with_query("/", **kept, state=state)
            is_current = state == chosen
            chips.append(
                {"state": state, "label": state, "count": count, "url": url, "is_current": is_current, "why": why}
            )
    return chips


def _columns(asked: Asked, sort: str, order: str, view: str) -> list[dict[str, object]]:
    columns: list[dict[str, object]] = []
    for key, label, is_number in _COLUMNS:
        is_sorted = key == sort
        turned = ("asc" if order == "desc" else "desc") if is_sorted else _first_order(key)
        url = with_query("/", **{**asked, "sort": key, "order": turned}) if key else None
        direction = {"asc": "ascending", "desc": "descending"}[order] if is_sorted else None
        named = label or view.capitalize()
        columns.append({"key": key, "label": named, "is_number": is_number, "url": url, "sorted": direction})
    return columns
