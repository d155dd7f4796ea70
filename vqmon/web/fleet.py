"""The fleet: every rendition with its state, filtered, sorted and cut into pages by the address."""

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response

from vqmon.web.addresses import with_query
from vqmon.web.curves import TREND_PLACES
from vqmon.web.explain import STATES
from vqmon.web.looks import DESCENDING_FIRST, SORTS, Row, matches, rows_of, sentence_of, shares_of
from vqmon.web.site import Site

PAGE_ROWS = 500

_COLUMNS = (
    ("name", "Rendition", False),
    ("state", "State", False),
    ("score", "Last score", False),
    ("", "Last segments", False),
    ("unscored", "Unscored", True),
    ("last", "Last segment", True),
    ("alerts", "Alerts", True),
)


def fleet(site: Site, request: Request) -> Response:
    """Answer `/`."""
    query = request.query_params
    everything = rows_of(
        site.history.renditions(trend=TREND_PLACES), site.history.alerts(open_only=True), now=site.now()
    )
    words = query.get("q", "")[:200].strip()
    state = query["state"] if query.get("state") in STATES else None
    sort = query["sort"] if query.get("sort") in SORTS else "state"
    order = query["order"] if query.get("order") in ("asc", "desc") else _first_order(sort)
    rows = [row for row in everything if matches(row, words=words, state=state)]
    rows.sort(key=SORTS[sort], reverse=order == "desc")
    if sort == "score":
        # What has no score is last, whichever way.
        rows.sort(key=lambda row: row.score is None)
    pages = max(1, -(-len(rows) // PAGE_ROWS))
    page = min(pages, max(1, int(query["page"]) if query.get("page", "").isdecimal() else 1))
    asked = {"q": words, "state": state, "sort": query.get("sort") and sort, "order": query.get("order") and order}
    return site.page(
        "fleet.html",
        request,
        rows=rows[(page - 1) * PAGE_ROWS : page * PAGE_ROWS],
        total=len(everything),
        sentence=sentence_of(everything),
        share=shares_of(everything),
        share_label=sentence_of(everything),
        chips=_chips(everything, words, state),
        columns=_columns(asked, sort, order),
        q=words,
        chosen_state=state,
        sort=asked["sort"],
        page=page,
        pages=pages,
        previous_url=with_query("/", **asked, page=page - 1) if page > 1 else None,
        next_url=with_query("/", **asked, page=page + 1) if page < pages else None,
    )


def _first_order(sort: str) -> str:
    return "desc" if sort in DESCENDING_FIRST else "asc"


def _chips(rows: Sequence[Row], words: str, chosen: str | None) -> list[dict[str, object]]:
    chips: list[dict[str, object]] = [
        {"state": None, "label": "all", "count": len(rows), "url": with_query("/", q=words), "is_current": not chosen}
    ]
    for state, why in STATES.items():
        count = sum(row.state == state for row in rows)
        if count or state == chosen:
            url = with_query("/", q=words, state=state)
            is_current = state == chosen
            chips.append(
                {"state": state, "label": state, "count": count, "url": url, "is_current": is_current, "why": why}
            )
    return chips


def _columns(asked: dict[str, str | None], sort: str, order: str) -> list[dict[str, object]]:
    columns: list[dict[str, object]] = []
    for key, label, is_number in _COLUMNS:
        is_sorted = key == sort
        turned = ("asc" if order == "desc" else "desc") if is_sorted else _first_order(key)
        url = with_query("/", **{**asked, "sort": key, "order": turned}) if key else None
        direction = {"asc": "ascending", "desc": "descending"}[order] if is_sorted else None
        columns.append({"key": key, "label": label, "is_number": is_number, "url": url, "sorted": direction})
    return columns
