"""What every page leans on: the history, the clock, the templates, and how an answer is made in a thread."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
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

from vqmon.web.addresses import stream_path
from vqmon.web.charts.svg import short, signed
from vqmon.web.model.explanations import band
from vqmon.web.model.fleet_state import Standing
from vqmon.web.ports import Answers, History, Reviews

STATIC = Path(__file__).parent / "static"
NAVIGATION = (("/", "Fleet"), ("/alerts", "Alerts"), ("/experiments", "Experiments"), ("/compare", "Compare"))
"""The pages that the head of every page leads to."""

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One set of pages over one history."""

    history: History
    # the fleet as it stands, asked once for all
    standing: Standing
    answers: Answers
    reviews: Reviews
    # whether people may vote here
    allows_votes: bool
    now: Callable[[], datetime]
    templates: Environment
    # seconds between two looks for changes, per open page
    poll_seconds: float
    # whether the server is about to end, so that open pages let go
    is_stopping: Callable[[], bool]
    # how many questions to the history may run at once
    limiter: anyio.CapacityLimiter

    async def ask(self, question: Callable[..., Answer], *arguments: object) -> Answer:
        """Run something that blocks in one of few threads."""
        return await anyio.to_thread.run_sync(question, *arguments, limiter=self.limiter)

    def page(self, name: str, request: Request, *, status: int = 200, **facts: object) -> HTMLResponse:
        """Render a template."""
        common = {
            "here": request.url.path,
            "self_url": str(request.url.replace(scheme="", netloc="")),
            "tip": self.history.tip(),
            "open_alerts": len(self.standing.open_alerts()),
            "now": self.now(),
        }
        return HTMLResponse(self.templates.get_template(name).render(**common | facts), status)


def site_of(request: Request) -> Site:
    """The site that this request was made to."""
    site = request.app.state.site
    assert isinstance(site, Site)
    return site


def in_thread(make: Callable[[Site, Request], Response]) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint from a function that may block."""

    async def endpoint(request: Request) -> Response:
        site = site_of(request)
        return await site.ask(make, site, request)

    return endpoint


# ---- templates


def open_templates(title: str) -> Environment:
    """The templates with everything escaped, an unknown name an error, and the filters below."""
    templates = Environment(
        loader=PackageLoader("vqmon.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.globals.update(site=title, nav=NAVIGATION, static=_static_urls().__getitem__)
    templates.filters.update(
        n1=lambda value: f"{value:.1f}",
        n2=lambda value: f"{value:.2f}",
        n3=lambda value: f"{value:.3f}",
        signed=signed,
        short=short,
        short3=lambda value: "–" if value is None else short(float(f"{value:.3g}")),
        big=lambda value: f"{value:,.2g}" if value < 10 else f"{min(value, 1e9):,.0f}",
        percent=lambda share: f"{100 * share:.0f} %",
        iso=iso,
        full=full,
        clock=lambda at: f"{at.astimezone(UTC):%H:%M:%S}",
        day=lambda at: f"{at.astimezone(UTC):%d %b %Y}",
        age=age,
        span=span,
        band=band,
        stream=stream_path,
        words=lambda name: name.replace("_", " "),
        ticks=_ticks,
    )
    return templates


def iso(at: datetime) -> str:
    """
    >>> iso(datetime(2026, 11, 20, 12, tzinfo=UTC))
    '2026-11-20T12:00:00.000Z'
    """
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def full(at: datetime) -> str:
    """Day and time for people."""
    return f"{at.astimezone(UTC):%d %b %Y, %H:%M:%S}"


def age(length: timedelta) -> str:
    """How long ago, in one unit; `app.js` says it in the same words.

    >>> age(timedelta(seconds=59)), age(timedelta(minutes=90)), age(timedelta(days=3))
    ('59 s', '1 h', '3 d')
    """
    seconds = max(0, round(length.total_seconds()))
    for limit, unit_seconds, unit in ((60, 1, "s"), (3600, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds // unit_seconds} {unit}"
    return f"{seconds // 86_400} d"


def span(length: timedelta) -> str:
    """How long something lasted, in at most two units.

    >>> span(timedelta(seconds=75)), span(timedelta(hours=2)), span(timedelta(seconds=4.4))
    ('1 min 15 s', '2 h 0 min', '4 s')
    """
    minutes, seconds = divmod(round(max(0.0, length.total_seconds())), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


def _ticks(text: str) -> Markup:
    """What stands between backticks becomes code."""
    parts = text.split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if number % 2 else escape(part) for number, part in enumerate(parts)
    )


def _static_urls() -> dict[str, str]:
    """The address of each file beside the templates; it changes with the content, so it may be kept for ever."""
    files = (file for file in STATIC.rglob("*") if file.suffix in (".js", ".css", ".svg"))
    names = ((file.relative_to(STATIC).as_posix(), file.read_bytes()) for file in files)
    return {name: f"/static/{name}?v={sha256(content).hexdigest()[:12]}" for name, content in names}
