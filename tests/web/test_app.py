"""Routes, error pages, security headers and host names of the application."""

import hashlib
import re

import httpx
import pytest

from tests.web import seed
from tests.web.stored_history import StoredHistory
from vqmon.web.app import SECURITY_HEADERS, create_app
from vqmon.web.site import STATIC


async def text(client: httpx.AsyncClient, path: str, *, status: int = 200) -> str:
    reply = await client.get(path)
    assert reply.status_code == status, reply.text[:500]
    return reply.text


VENDOR = STATIC / "vendor"


EVERY = ["/", "/alerts", "/streams/news/hd", "/nothing", "/api/streams", "/healthz", "/static/app.js"]


MANY = "9" * 5000


@pytest.mark.parametrize(
    "path",
    [
        "/segments/none",
        f"/segments/{'0' * 32}",
        "/alerts/none",
        "/streams/none",
        "/streams/~!!",
        "/nothing",
        "/alerts/../x",
    ],
)
async def test_an_unknown_path_is_a_404_page_with_a_way_back(client: httpx.AsyncClient, path: str) -> None:
    """A wrong address gives a page with a way back."""
    assert "Back to the fleet" in await text(client, path, status=404)


@pytest.mark.parametrize("path", EVERY)
async def test_every_response_has_the_security_headers(client: httpx.AsyncClient, path: str) -> None:
    """Errors and static files included."""
    reply = await client.get(path)
    assert {name: reply.headers.get(name) for name in SECURITY_HEADERS} == SECURITY_HEADERS


@pytest.mark.parametrize("path", ["/", "/alerts", "/streams/archive%20%3Cb%3Ebold%3C/b%3E"])
async def test_pages_have_no_inline_code(client: httpx.AsyncClient, path: str) -> None:
    """No inline script, style or handler, and nothing from another host."""
    page = (await client.get(path)).text
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=|javascript:", page)
    assert not re.search(r'(src|href)="(https?:)?//', page)


async def test_links_do_not_follow_the_host_header(client: httpx.AsyncClient) -> None:
    """A forged host name does not come back in the page."""
    page = (await client.get("/?q=x", headers={"Host": "evil.example"})).text
    assert "evil.example" not in page


@pytest.mark.parametrize("query", ["?q=%3Cscript%3Ealert(1)%3C/script%3E", "?q=%22%3E%3Cimg%20src=x%3E"])
async def test_text_from_the_query_is_escaped(client: httpx.AsyncClient, query: str) -> None:
    """The filter shows what was typed as text."""
    page = (await client.get(f"/{query}")).text
    assert "<script>alert" not in page
    assert "<img src=x" not in page


@pytest.mark.parametrize(
    ("address", "status"),
    [
        (f"/?page={MANY}", 200),
        ("/?page=%D9%A3", 200),
        (f"/segments/x/frames/{MANY}.jpg", 404),
        ("/streams/news/hd?from=9999-12-31T23:59:58Z&to=9999-12-31T23:59:59Z", 200),
        ("/streams/news/hd?from=0001-01-01T00:00:00Z&to=0001-01-01T00:00:01Z", 200),
        ("/api/v1/outcomes?stream=news/hd&until=0001-01-01T00:00:00Z", 400),
        ("/api/v1/outcomes?stream=news/hd&since=9999-12-31T23:59:59Z", 400),
    ],
)
async def test_extreme_numbers_and_moments_are_no_server_errors(
    client: httpx.AsyncClient, address: str, status: int
) -> None:
    """More digits than Python reads, and years at the ends of its calendar, are no error of ours."""
    assert (await client.get(address)).status_code == status


async def test_versioned_static_files_are_cached_for_ever(client: httpx.AsyncClient) -> None:
    """A file whose address names its content is kept for ever, any other is asked for again."""
    page = (await client.get("/")).text
    dated = re.search(r"/static/app\.js\?v=\w+", page)
    assert dated
    assert "immutable" in (await client.get(dated[0])).headers["cache-control"]
    assert (await client.get("/static/app.js")).headers["cache-control"] == "no-store"
    assert (await client.get("/static/../app.py")).status_code == 404


async def test_a_first_visit_loads_less_than_200_kB(client: httpx.AsyncClient) -> None:
    """The heaviest page with all its files stays under 200 kB as sent."""
    total = 0
    page = await client.get("/streams/cinema-4k")
    files = re.findall(r'(?:src|href)="(/static/[^"]+)"', page.text)
    for path in ["/streams/cinema-4k", *dict.fromkeys(files)]:
        async with client.stream("GET", path, headers={"Accept-Encoding": "gzip"}) as reply:
            total += sum([len(part) async for part in reply.aiter_raw()])
    assert total < 200_000


@pytest.mark.parametrize("line", [x for x in (VENDOR / "VENDORED.md").read_text().splitlines() if x.startswith("| `")])
def test_vendored_files_have_the_listed_checksums(line: str) -> None:
    """Each file from others has the sum that is written beside it."""
    name, _, _, digest = (cell.strip(" `") for cell in line.strip("|").split("|"))
    assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == digest


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8080", 200),
        ("127.0.0.1", 200),
        ("[::1]:8080", 200),
        ("vqmon.example", 200),
        ("a.lan", 200),
        ("evil.example", 400),
        ("localhost.evil.example", 400),
    ],
)
async def test_only_allowed_host_names_are_served(history: StoredHistory, host: str, status: int) -> None:
    """Another name that leads here gets nothing but the safe headers, and the answers to probes and Prometheus."""
    app = create_app(history.store.queries, now=lambda: seed.NOW, allowed_hosts=["vqmon.example", "*.lan"])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        reply = await client.get("/api/streams", headers={"Host": host})
        probes = [(await client.get(path, headers={"Host": host})).status_code for path in ("/readyz", "/metrics")]
    assert reply.status_code == status
    assert reply.headers["X-Frame-Options"] == "DENY"
    assert probes == [200, 200]
