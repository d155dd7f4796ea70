"""The form by which operators announce deployments."""

from typing import Any

import httpx
import pytest

from tests.web import seed
from tests.web.stored_history import StoredHistory
from vqmon.core.alerts.annotations import DeployMarker
from vqmon.errors import StoreError
from vqmon.web.app import create_app
from vqmon.web.serving.access import SignIn
from vqmon.web.serving.proxies import TrustedProxies
from vqmon.web.urls import stream_path

STREAM = "news/hd"
SIGN_IN = SignIn(user_header="X-User", voters=("*",), operators=("user:ops",))


def client(history: StoredHistory, user: str = "ops", **options: Any) -> httpx.AsyncClient:
    options = {"announce": history.store.add_marker, "sign_in": SIGN_IN, **options}
    proxies = TrustedProxies(["127.0.0.1"])
    app = create_app(history.store.queries, now=lambda: seed.NOW, proxies=proxies, **options)
    transport = httpx.ASGITransport(app, client=("127.0.0.1", 4000))
    headers = {"X-User": user, "Origin": "http://localhost"}
    return httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers)


async def test_an_operator_announces_a_deployment(history: StoredHistory) -> None:
    """It is for that stream alone, and its page shows it."""
    async with client(history) as pages:
        assert "Announce a deployment" in (await pages.get(stream_path(STREAM))).text
        form = {"stream": STREAM, "rendition": "480p", "name": " encoder [4.2] "}
        reply = await pages.post("/deployments", data=form)
    assert (reply.status_code, reply.headers["location"]) == (303, stream_path(STREAM))
    marker = history.store.queries.markers(limit=10)[-1]
    assert (marker.name, marker.at) == ("encoder [4.2]", seed.NOW)
    assert marker.matches(STREAM, "480p")
    assert not marker.matches(STREAM, "1080p")
    assert not marker.matches("kids", "480p")


@pytest.mark.parametrize(
    ("form", "status"),
    [
        ({"stream": "none", "name": "x"}, 404),
        ({"stream": STREAM, "rendition": "9p", "name": "x"}, 404),
        ({"stream": STREAM, "name": " "}, 400),
        ({"stream": STREAM, "name": "x" * 101}, 400),
        ({"stream": STREAM, "name": "a\nb"}, 400),
    ],
)
async def test_what_is_no_deployment_is_refused(history: StoredHistory, form: dict[str, str], status: int) -> None:
    """Of a stream that is not there, or without a name."""
    before = history.store.queries.markers(limit=10)
    async with client(history) as pages:
        assert (await pages.post("/deployments", data=form)).status_code == status
    assert history.store.queries.markers(limit=10) == before


async def test_nobody_else_announces_one(history: StoredHistory) -> None:
    """Neither a voter, nor anybody without sign-in, nor where the site takes none."""
    form = {"stream": STREAM, "name": "x"}
    for options in ({"user": "ada"}, {"sign_in": None}, {"announce": None}):
        async with client(history, **options) as pages:  # type: ignore[arg-type]
            assert "Announce a deployment" not in (await pages.get(stream_path(STREAM))).text
            assert (await pages.post("/deployments", data=form)).status_code == 403


async def test_a_history_that_takes_no_marker_is_said(history: StoredHistory) -> None:
    """The operator learns that nothing was announced."""

    def refuse(marker: DeployMarker) -> None:
        raise StoreError("the disk is full")

    async with client(history, announce=refuse) as pages:
        reply = await pages.post("/deployments", data={"stream": STREAM, "name": "x"})
    assert (reply.status_code, "not announced: the disk is full" in reply.text) == (503, True)
