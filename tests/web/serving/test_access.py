"""Sign-in by headers of a proxy, roles, and writes from the pages of this site only."""

from collections.abc import Sequence

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from vqmon.web.serving.access import Access, SignIn, user_of_request
from vqmon.web.serving.proxies import ProxyHeaders, TrustedProxies

SIGN_IN = SignIn(
    user_header="X-User",
    groups_header="X-Groups",
    viewers=("qa", "video"),
    voters=("panel", "user:grace"),
    operators=("ops",),
)


async def respond(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the user and the role."""
    user = user_of_request(Request(scope))
    await PlainTextResponse(f"{user.name} {user.role}" if user else "nobody")(scope, receive, send)


def client(sign_in: SignIn | None = SIGN_IN, *, peer: str = "127.0.0.1") -> httpx.AsyncClient:
    app = ProxyHeaders(Access(respond, sign_in=sign_in), proxies=TrustedProxies(["127.0.0.1"]))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app, client=(peer, 4000)), base_url="http://pages.lan")


@pytest.mark.parametrize(
    ("headers", "status", "text"),
    [
        ([("X-User", "ada"), ("X-Groups", "qa")], 200, "ada viewer"),
        ([("X-User", "ada"), ("X-Groups", "all, panel")], 200, "ada voter"),
        ([("X-User", "ada"), ("X-Groups", "qa,panel,ops")], 200, "ada operator"),
        ([("X-User", "grace")], 200, "grace voter"),
        ([("X-User", "ada"), ("X-Groups", "sales")], 403, "web.auth.viewers"),
        ([("X-User", "eve"), ("X-Groups", "sales, user:grace")], 403, "web.auth.viewers"),
        ([("X-Groups", "ops")], 401, "named no user"),
        ([("X-User", " "), ("X-Groups", "ops")], 401, "named no user"),
        ([("X-User", "eve"), ("X-User", "ada"), ("X-Groups", "ops")], 401, "named no user"),
    ],
)
async def test_groups_have_roles(headers: Sequence[tuple[str, str]], status: int, text: str) -> None:
    """The highest role of a user's groups counts; two names are none."""
    async with client() as pages:
        reply = await pages.get("/", headers=list(headers))
    assert (reply.status_code, text in reply.text) == (status, True), reply.text


async def test_headers_of_another_peer_are_refused_and_without_sign_in_ignored() -> None:
    """The answer says that only proxies count, and who asked."""
    headers = {"X-User": "ada", "X-Groups": "ops", "X-Forwarded-For": "127.0.0.1"}
    async with client(peer="192.0.2.7") as pages:
        page, data = await pages.get("/", headers=headers), await pages.get("/api/v1/alerts", headers=headers)
        assert (await pages.get("/healthz")).text == "nobody"
    assert (page.status_code, data.status_code) == (403, 403)
    assert "only requests from web.trusted_proxies count, and this one is from 192.0.2.7" in page.text
    assert "docs/login.md" in data.json()["remedy"]
    async with client(None) as pages:
        assert (await pages.get("/", headers=headers)).text == "nobody"


@pytest.mark.parametrize(
    ("headers", "without_sign_in", "with_sign_in"),
    [
        ({}, 200, 403),
        ({"Origin": "http://pages.lan"}, 200, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200, 200),
        ({"Origin": "http://evil.example"}, 403, 403),
        ({"Origin": "null"}, 403, 403),
        ({"Origin": "http://["}, 403, 403),
        ({"Sec-Fetch-Site": "same-site", "Origin": "http://pages.lan"}, 403, 403),
        ({"Sec-Fetch-Site": "none"}, 403, 403),
    ],
)
async def test_other_sites_change_nothing(headers: dict[str, str], without_sign_in: int, with_sign_in: int) -> None:
    """A session of the proxy is enough to be abused by another site, so with sign-in the browser must state its own."""
    async with client(None) as pages:
        assert (await pages.post("/x", headers=headers)).status_code == without_sign_in
    async with client() as pages:
        user = {"X-User": "ada", "X-Groups": "ops"}
        assert (await pages.post("/x", headers=headers | user)).status_code == with_sign_in
        assert (await pages.get("/x", headers=headers | user)).status_code == 200
