"""Pages below a path: what requests lose, links and redirects get."""

import re
from pathlib import Path

import httpx
import pytest
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import Receive, Scope, Send

from vqmon.web.serving.root_path import RootPath, with_root_path

TEMPLATES = Path(__file__).parents[3] / "vqmon" / "web" / "templates"


async def respond(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the path, or redirect to the query."""
    target = scope["query_string"].decode()
    response = RedirectResponse(target) if target else PlainTextResponse(scope["path"])
    await response(scope, receive, send)


@pytest.mark.parametrize(
    ("path", "text"),
    [("/tv/alerts", "/alerts"), ("/alerts", "/alerts"), ("/tv/", "/"), ("/tvs/x", "/tvs/x"), ("/tv/tv/x", "/tv/x")],
)
async def test_requests_lose_the_path_once(path: str, text: str) -> None:
    """Those that a proxy has taken it off already are served too."""
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(RootPath(respond, root_path="/tv")), base_url="http://pages.lan"
    ) as client:
        assert (await client.get(path)).text == text


@pytest.mark.parametrize(
    ("target", "location"),
    [
        ("/alerts", "/tv/alerts"),
        ("http://pages.lan/a?b=c", "http://pages.lan/tv/a?b=c"),
        ("https://id.example/a", "https://id.example/a"),
    ],
)
async def test_redirects_of_this_site_get_it(target: str, location: str) -> None:
    """Others lead where they led."""
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(RootPath(respond, root_path="/tv")), base_url="http://pages.lan"
    ) as client:
        assert (await client.get(f"/tv/x?{target}")).headers["location"] == location
        assert (await client.get("/tv")).headers["location"] == "/tv/"


def test_every_url_of_the_templates_is_in_an_attribute_that_gets_it() -> None:
    """An attribute that the pattern does not know would lead out of the path."""
    for template in TEMPLATES.glob("*.html"):
        text = template.read_text(encoding="utf-8").replace(' data-root-path="', " ")
        written = re.findall(r'([a-z-]+)="(?:/|\{\{[^}]*(?:url|_path))', text)
        assert with_root_path("".join(f'{name}="/' for name in written), "X").count("X") == len(written), template
