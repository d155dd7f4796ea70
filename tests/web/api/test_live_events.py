"""Server-sent events of open pages."""

import asyncio
import json
from types import SimpleNamespace

import anyio
import httpx
import pytest
from starlette.requests import ClientDisconnect, Request
from starlette.responses import StreamingResponse

from tests.web import seed
from tests.web.stored_history import StoredHistory
from vqmon.core.timeline import HistoryChanges
from vqmon.errors import StoreError
from vqmon.web.api import live_events as live_module
from vqmon.web.app import create_app


async def open_live(history: StoredHistory, *, query: str = "", last_event_id: str | None = None) -> StreamingResponse:
    """Ask for `/live` and hand back the answer before it is sent."""
    app = create_app(history.store.queries, now=lambda: seed.NOW, poll_seconds=0.01)
    headers = [(b"last-event-id", last_event_id.encode())] if last_event_id else []
    scope = {"type": "http", "app": app, "path": "/live", "query_string": query.encode(), "headers": headers}
    reply = await live_module.live_events(Request(scope))
    assert isinstance(reply, StreamingResponse)
    return reply


async def events(reply: StreamingResponse, count: int) -> list[dict[str, str]]:
    """The first `count` events after the greeting; a comment has the key `comment`."""
    received: list[dict[str, str]] = []
    with anyio.fail_after(10):
        async for chunk in reply.body_iterator:
            lines = [line.partition(": ") for line in str(chunk).strip().splitlines()]
            received.append({name or "comment": value for name, _, value in lines})
            if len(received) > count:
                break
    await reply.body_iterator.aclose()  # type: ignore[attr-defined]
    assert received[0]["retry"] == "3000"
    return received[1:]


async def test_a_new_outcome_is_sent(history: StoredHistory) -> None:
    """The event carries the number of the write."""
    reply = await open_live(history)
    history.write(seed.next_event("news/hd", "480p", 33.0))
    (message,) = await events(reply, 1)
    assert message["event"] == "outcomes"
    assert message["id"] == str(history.store.queries.tip())
    (point,) = json.loads(message["data"])
    assert (point["stream_id"], point["rendition"], round(point["scores"][seed.SCORER])) == ("news/hd", "480p", 33)


async def test_a_reconnect_loses_no_event(history: StoredHistory) -> None:
    """Events continue after the last number received; the header overrides the query."""
    before = history.store.queries.tip()
    history.write(seed.next_event("news/hd", "480p", 33.0), seed.next_event("kids", "480p", 44.0))
    (message,) = await events(await open_live(history, last_event_id=str(before), query="after=0"), 1)
    assert [point["stream_id"] for point in json.loads(message["data"])] == ["news/hd", "kids"]


async def test_a_stream_page_receives_only_outcomes_of_its_stream(history: StoredHistory) -> None:
    """Outcomes of other streams are left out."""
    reply = await open_live(history, query=f"after={history.store.queries.tip()}&stream=kids")
    history.write(seed.next_event("news/hd", "480p", 33.0), seed.next_event("kids", "480p", 44.0))
    (message,) = await events(reply, 1)
    assert [point["stream_id"] for point in json.loads(message["data"])] == ["kids"]


async def test_an_alert_is_an_event_of_its_own_name(history: StoredHistory) -> None:
    """An alert is an event of its own."""
    reply = await open_live(history)
    event = seed.next_event("kids", "480p", 12.0)
    history.write(
        seed.alert(event, rule="score-floor", severity="page", began_at=event.segment.starts_at, resolved_at=None)
    )
    (message,) = await events(reply, 1)
    assert message["event"] == "alerts"
    assert json.loads(message["data"])[0]["state"] == "open"


async def test_a_page_that_missed_too_much_is_told_to_reload(history: StoredHistory) -> None:
    """A page that was away for long gets one event, not thousands of points."""
    (message,) = await events(await open_live(history, query="after=0"), 1)
    assert (message["event"], message["id"]) == ("behind", str(history.store.queries.tip()))


@pytest.mark.parametrize("number", ["-1", "x", "99999999", "²"])
async def test_an_invalid_event_number_starts_at_the_newest(history: StoredHistory, number: str) -> None:
    """A number from elsewhere, or from a history that was made anew, does no harm."""
    reply = await open_live(history, query=f"after={number}")
    history.write(seed.next_event("kids", "480p", 44.0))
    (message,) = await events(reply, 1)
    assert len(json.loads(message["data"])) == 1


class Unreadable:
    """A history whose file went away."""

    def tip(self) -> int:
        return 1

    def changes_since(self, tip: int, *, limit: int) -> HistoryChanges:
        raise StoreError("gone")

    def renditions(self, *, trend: int) -> list[object]:
        raise StoreError("gone")


async def test_an_unreadable_history_ends_the_stream_and_is_a_503(history: StoredHistory) -> None:
    """A live answer ends quietly, so that the page comes back; a page is a 503 that says why."""
    reply = await open_live(StoredHistory(history.seeded, SimpleNamespace(queries=Unreadable())))  # type: ignore[arg-type]
    assert await events(reply, 1) == []
    app = create_app(Unreadable(), now=lambda: seed.NOW)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        page = await client.get("/")
    assert (page.status_code, page.text) == (503, "The history cannot be read: gone\n")


async def test_streams_at_the_same_number_share_a_query(history: StoredHistory) -> None:
    """Many open pages ask the history as often as one; a page that is behind asks for itself."""
    asked: list[int] = []

    class Counting:
        def changes_since(self, tip: int, *, limit: int) -> HistoryChanges:
            asked.append(tip)
            return HistoryChanges(tip=tip, points=(), alerts=(), is_complete=True)

    site = SimpleNamespace(history=Counting(), poll_seconds=60.0)
    listeners = live_module.Listeners(total=100, per_client=100)
    await asyncio.gather(*(listeners.changes_after(site, 7) for _ in range(50)))  # type: ignore[arg-type]
    assert asked == [7]
    await listeners.changes_after(site, 5)  # type: ignore[arg-type]
    assert asked == [7, 5]


async def test_a_client_that_leaves_before_the_first_event_is_counted_no_longer(history: StoredHistory) -> None:
    """The stream is counted from the request to the end of the response."""
    reply = await open_live(history)
    listeners = reply._listeners  # type: ignore[attr-defined]
    assert listeners.count == 1

    async def gone(*message: object) -> None:
        raise OSError("the client is gone")

    with pytest.raises((OSError, ClientDisconnect)):
        await reply({"type": "http", "asgi": {"spec_version": "2.4"}}, gone, gone)
    assert listeners.count == 0


async def test_a_heartbeat_is_sent_when_nothing_happens(
    history: StoredHistory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When nothing happens a comment keeps the line open."""
    monkeypatch.setattr(live_module, "_HEARTBEAT_SECONDS", 0.03)
    (message,) = await events(await open_live(history), 1)
    assert message == {"comment": "heartbeat"}
