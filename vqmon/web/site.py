"""What all endpoints share: the `Site` and its data sources, threads for blocking code, templates and CSV files."""

import csv
import io
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.to_thread
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from vqmon.core.alerts.annotations import DeployMarker
from vqmon.core.alerts.reactions.input_switching import InputRule
from vqmon.core.scores import score_band
from vqmon.telemetry.metrics import Meters
from vqmon.web.charts.svg import format_number, format_signed
from vqmon.web.model.fleet_state import FleetState
from vqmon.web.ports import ExperimentResults, HistoryReader, ReviewStore
from vqmon.web.serving.access import user_of_request
from vqmon.web.serving.fairness import ClientTurns
from vqmon.web.serving.root_path import with_root_path
from vqmon.web.urls import stream_path

STATIC = Path(__file__).parent / "static"
_NAVIGATION = (("/", "Fleet"), ("/alerts", "Alerts"), ("/experiments", "Experiments"), ("/compare", "Compare"))
"""Path and label of the pages that the header of every page links to."""

_INPUTS = ("/inputs", "Inputs")
"""The same of the page that is linked where there are hooks."""

_MAX_HISTORY_THREADS = 4
"""How many requests query the history at the same time."""

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Everything that the endpoints of one application share."""

    history: HistoryReader
    # cached for all requests
    fleet: FleetState
    experiment_results: ExperimentResults
    # of the hooks that decide about inputs
    input_rules: Sequence[InputRule]
    reviews: ReviewStore
    # whether people may vote on the review pages; with sign-in only those who have the role
    allows_votes: bool
    # announces a deployment to the alert rules; None = this site takes none; raises VqmonError
    announce: Callable[[DeployMarker], object] | None
    meters: Meters
    now: Callable[[], datetime]
    templates: Environment
    # path below which all pages are, without a slash at its end; "" = none
    root_path: str
    # seconds between two polls of the history, per open page
    poll_seconds: float
    # True once the server shuts down: live event streams end then
    is_stopping: Callable[[], bool]
    # bounds the concurrent queries of the history
    thread_limiter: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(_MAX_HISTORY_THREADS))
    # a client has half of these threads at most
    client_turns: ClientTurns = field(default_factory=lambda: ClientTurns(per_client=_MAX_HISTORY_THREADS // 2))

    async def run_in_thread(self, function: Callable[..., _Result], *arguments: object) -> _Result:
        """Run a blocking function in one of few threads."""
        return await anyio.to_thread.run_sync(function, *arguments, limiter=self.thread_limiter)

    def render_page(self, template: str, request: Request, *, status: int = 200, **context: object) -> HTMLResponse:
        """Render a template with `context` and what `base.html` needs."""
        common = {
            "here": request.url.path,
            "self_url": str(request.url.replace(scheme="", netloc="")),
            "user": user_of_request(request),
            "tip": self.history.tip(),
            "open_alerts": len(self.fleet.open_alerts()),
            "now": self.now(),
            "root_path": self.root_path,
            "nav": (*_NAVIGATION[:2], _INPUTS, *_NAVIGATION[2:]) if self.input_rules else _NAVIGATION,
        }
        html = self.templates.get_template(template).render(**common | context)
        return HTMLResponse(with_root_path(html, self.root_path), status)


def site_of_request(request: Request) -> Site:
    """The site of the application that received this request."""
    site = request.app.state.site
    assert isinstance(site, Site)
    return site


def threaded_endpoint(respond: Callable[[Site, Request], Response]) -> Callable[[Request], Awaitable[Response]]:
    """An asynchronous endpoint that runs a blocking function in a thread."""

    async def endpoint(request: Request) -> Response:
        site = site_of_request(request)
        async with site.client_turns.turn(request.client.host if request.client else ""):
            return await site.run_in_thread(respond, site, request)

    return endpoint


# ---- templates


def open_templates(title: str) -> Environment:
    """The template environment: HTML is escaped, unknown names are errors, and the filters below are available."""
    templates = Environment(
        loader=PackageLoader("vqmon.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.globals.update(site=title, static=_static_file_urls().__getitem__)
    templates.filters.update(
        n1=lambda value: f"{value:.1f}",
        n2=lambda value: f"{value:.2f}",
        n3=lambda value: f"{value:.3f}",
        signed=format_signed,
        number=format_number,
        three_digits=lambda value: "–" if value is None else format_number(float(f"{value:.3g}")),
        e_value=lambda value: f"{value:,.2g}" if value < 10 else f"{min(value, 1e9):,.0f}",
        percent=lambda share: f"{100 * share:.0f} %",
        iso=format_iso,
        date_time=format_date_time,
        clock=lambda at: f"{at.astimezone(UTC):%H:%M:%S}",
        day=lambda at: f"{at.astimezone(UTC):%d %b %Y}",
        age=_format_age,
        duration=format_duration,
        band=score_band,
        stream_path=stream_path,
        spaced=lambda name: name.replace("_", " "),
        code=_code_markup,
    )
    return templates


def format_iso(at: datetime) -> str:
    """
    >>> format_iso(datetime(2026, 11, 20, 12, tzinfo=UTC))
    '2026-11-20T12:00:00.000Z'
    """
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def format_date_time(at: datetime) -> str:
    """
    >>> format_date_time(datetime(2026, 11, 20, 12, tzinfo=UTC))
    '20 Nov 2026, 12:00:00'
    """
    return f"{at.astimezone(UTC):%d %b %Y, %H:%M:%S}"


def _format_age(length: timedelta) -> str:
    """A length of time in one unit; `app.js` formats ages in the same way.

    >>> _format_age(timedelta(seconds=59)), _format_age(timedelta(minutes=90)), _format_age(timedelta(days=3))
    ('59 s', '1 h', '3 d')
    """
    seconds = max(0, round(length.total_seconds()))
    for limit, unit_seconds, unit in ((60, 1, "s"), (3600, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds // unit_seconds} {unit}"
    return f"{seconds // 86_400} d"


def format_duration(length: timedelta) -> str:
    """A length of time in at most two units.

    >>> [format_duration(timedelta(seconds=seconds)) for seconds in (75, 7200, 4.4)]
    ['1 min 15 s', '2 h 0 min', '4 s']
    """
    minutes, seconds = divmod(round(max(0.0, length.total_seconds())), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


def _code_markup(text: str) -> Markup:
    """Text between backticks becomes a <code> element.

    >>> str(_code_markup("set `a<b` now"))
    'set <code>a&lt;b</code> now'
    """
    parts = text.split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if index % 2 else escape(part) for index, part in enumerate(parts)
    )


def _static_file_urls() -> dict[str, str]:
    """The URL of each static file; it contains a hash of the content, so that browsers may cache the file for ever."""
    files = (file for file in STATIC.rglob("*") if file.suffix in (".js", ".css", ".svg"))
    contents = ((file.relative_to(STATIC).as_posix(), file.read_bytes()) for file in files)
    return {name: f"/static/{name}?v={sha256(content).hexdigest()[:12]}" for name, content in contents}


# ---- CSV


def csv_response(name: str, columns: Sequence[str], rows: Iterable[Iterable[object]]) -> Response:
    """A CSV file to download, named after `name`; text that a spreadsheet would run as a formula is quoted with '."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(columns)
    writer.writerows([_without_formula(cell) for cell in row] for row in rows)
    safe_name = "".join(sign if sign.isascii() and (sign.isalnum() or sign in "-_.") else "-" for sign in name)
    headers = {"Content-Disposition": f'attachment; filename="vqmon-{safe_name}.csv"'}
    return Response(out.getvalue(), media_type="text/csv; charset=utf-8", headers=headers)


def _without_formula(cell: object) -> object:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell
