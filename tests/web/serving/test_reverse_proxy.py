"""The pages behind a real nginx with the file of config/proxy: sign-in, roles, forged headers, live events."""

import html
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.conftest import need
from tests.ports import free_port
from tests.web.serving import running
from tests.web.stored_history import StoredHistory
from vqmon.settings.sections import WebAuth, WebSettings

PROXIES = {"nginx": running.nginx_command, "caddy": running.caddy_command}
AUTH = WebAuth(
    user_header="X-Forwarded-User",
    groups_header="X-Forwarded-Groups",
    viewers=("qa",),
    voters=("panel",),
)


@pytest.fixture(scope="module", params=[pytest.param(name, marks=pytest.mark.nginx) for name in PROXIES])
def proxy(request: pytest.FixtureRequest, filled: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a proxy in front of the pages."""
    name = request.param
    need(
        name,
        present=shutil.which(name, path="/usr/sbin:/usr/bin:/bin") is not None,
        remedy=f"install Debian's `{name}`",
    )
    web = WebSettings(auth=AUTH, trusted_proxies=("127.0.0.1",), allow_votes=True)
    port, folder = free_port(), tmp_path_factory.mktemp(name)
    with ExitStack() as stack:
        pages = stack.enter_context(running.running_pages(filled, web))
        sign_in = stack.enter_context(running.running_sign_in())
        command = PROXIES[name](folder, port=port, pages=pages, sign_in=sign_in)
        yield stack.enter_context(running.running_proxy(command, port))


def test_who_is_not_signed_in_signs_in_and_comes_back(proxy: str) -> None:
    """Headers that claim a user change nothing; the page that was asked for is remembered with its query."""
    forged = {"X-Forwarded-User": "eve", "X-Forwarded-Groups": "qa", "X_Forwarded_User": "eve"}
    reply = httpx.get(f"{proxy}/compare?a=x&b=y", headers=forged)
    assert reply.text == "sign in for /compare?a=x&b=y"


def test_groups_decide_what_a_user_may_do(proxy: str) -> None:
    """The page names the user and the role; headers of the client add no group; another site writes nothing."""
    with httpx.Client(base_url=proxy, headers={"X-Forwarded-Groups": "panel"}) as client:
        client.headers["Cookie"] = "session=ada@example.com:qa,other"
        assert "Signed in as ada@example.com (viewer)" in client.get("/").text
        assert client.get("/api/v1/alerts").status_code == 200
        client.headers["Cookie"] = "session=bob@example.com:panel"
        assert "Signed in as bob@example.com (voter)" in client.get("/").text
        votes = f"{proxy}/experiments/none/none/review"
        form = {"choice": "left"}
        assert client.post(votes, data=form, headers={"Origin": proxy}).status_code == 409
        assert client.post(votes, data=form, headers={"Origin": "https://evil.example"}).status_code == 403
        client.headers["Cookie"] = "session=eve@example.com:sales"
        refused = client.get("/")
        assert (refused.status_code, "eve@example.com may not read" in refused.text) == (403, True)


@pytest.mark.nginx
def test_everything_works_below_a_path(history: StoredHistory, tmp_path: Path) -> None:
    """Every link of every page that is reached by links leads to a page; so do live events, data and redirects."""
    need("nginx", present=shutil.which("nginx", path="/usr/sbin") is not None, remedy="install Debian's `nginx-light`")
    web = WebSettings(auth=AUTH, trusted_proxies=("127.0.0.1",), root_path="/tv/vqmon")
    port = free_port()
    with ExitStack() as stack:
        pages = stack.enter_context(running.running_pages(history.path, web))
        sign_in = stack.enter_context(running.running_sign_in())
        command = running.nginx_command(tmp_path, port=port, pages=pages, sign_in=sign_in, root_path="/tv/vqmon")
        url = stack.enter_context(running.running_proxy(command, port))
        client = stack.enter_context(httpx.Client(base_url=url, headers={"Cookie": "session=ada:qa"}))
        assert client.get("/tv/vqmon").headers["location"] == f"{url}/tv/vqmon/"
        assert client.get("/tv/vqmon/alerts/").headers["location"] == f"{url}/tv/vqmon/alerts"
        seen = crawl(client, "/tv/vqmon/")
        assert {path.split("/")[3].split("?")[0] for path in seen} >= {
            "",
            "streams",
            "segments",
            "alerts",
            "api",
            "static",
        }
        page = client.get("/tv/vqmon/api/v1/renditions?limit=1").json()
        assert client.get(page["next"]).status_code == 200
        assert client.get("/tv/vqmon/api/v1/openapi.json").json()["servers"] == [{"url": "/tv/vqmon"}]
        with client.stream("GET", "/tv/vqmon/live") as reply:
            assert next(reply.iter_text()).startswith("retry: ")


def crawl(client: httpx.Client, start: str) -> set[str]:
    """Follow the links of pages, one of each kind; every one is answered 200."""
    waiting, seen, kinds = [start], set(), set()
    while waiting:
        path = waiting.pop(0)
        kind = re.sub(r"[0-9a-f]{32}|\d+|\?.*|(?<=streams/).*", "", path)
        if path in seen or kind in kinds:
            continue
        seen.add(path)
        kinds.add(kind)
        reply = client.get(path)
        assert reply.status_code == 200, f"{path}: {reply.status_code} {reply.text[:200]}"
        if reply.headers["content-type"].startswith("text/html"):
            links = re.findall(r'(?:href|src|action|hx-get|data-url)="([^"#]+)"', reply.text)
            waiting += [html.unescape(link) for link in links]
    return seen


def test_live_events_come_through_at_once_and_metrics_do_not(proxy: str) -> None:
    """The proxy passes on each event."""
    with httpx.Client(base_url=proxy, headers={"Cookie": "session=ada:qa"}) as client:
        with client.stream("GET", "/live") as reply:
            assert next(reply.iter_text()).startswith("retry: ")
        assert client.get("/metrics").status_code == 404
