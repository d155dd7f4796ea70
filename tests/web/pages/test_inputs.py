"""The page of decisions about inputs."""

import html
import re

import httpx

from tests.web import input_decisions, seed
from tests.web.stored_history import StoredHistory
from vqmon.web.app import create_app


async def rows_of(client: httpx.AsyncClient, path: str = "/inputs") -> tuple[dict[str, str], list[str]]:
    """Stream -> its row of the table of inputs in use, and the rows of the table of decisions, as plain text."""
    reply = await client.get(path)
    assert reply.status_code == 200, reply.text[:500]
    groups, decisions = reply.text.split('id="decisions-title"')
    plain = [_plain(row) for row in re.findall(r'<tr role="row">\s*<th role="rowheader".*?</tr>', groups, re.DOTALL)]
    names = [row.split(" held:")[0].split(" backup")[0].split(" primary")[0].split(" would be")[0] for row in plain]
    return dict(zip(names, plain, strict=True)), [
        _plain(row) for row in re.findall(r'<tr role="row">\s*<th role="rowheader".*?</tr>', decisions, re.DOTALL)
    ]


def _plain(markup: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", markup)).split())


async def test_each_stream_is_on_the_input_of_its_last_change(
    client: httpx.AsyncClient, history: StoredHistory
) -> None:
    """Streams that were never switched are on the primary; a hook that sends does not go on from dry runs."""
    groups, _ = await rows_of(client)
    assert {name: " primary " in f" {row} " for name, row in groups.items()} == {
        name: True for name in ("cinema-4k", "sports one", "news/hd", "kids")
    }
    input_decisions.write(history)
    groups, _ = await rows_of(client)
    assert re.match(r"news/hd backup expired \d+\.\d \d+\.\d weather 6 min matrix", groups["news/hd"])
    assert re.match(r"sports one primary \d+\.\d \d+\.\d weather 10 min matrix", groups["sports one"])
    assert groups["kids"] == "kids would be backup dry run not found – 5 min trial dry run"
    assert "backup" in groups["cinema-4k"]
    # what did not reach its receiver comes first
    assert list(groups)[-1] == "sports one"


async def test_a_hold_is_shown_while_its_change_is_due(client: httpx.AsyncClient, history: StoredHistory) -> None:
    """The return of cinema-4k is held; once its score is low, nothing is due that could be held."""
    input_decisions.write(history)
    history.write(seed.next_event("cinema-4k", "1080p", 70.0), seed.next_event("cinema-4k", "480p", 10.0))
    groups, _ = await rows_of(client)
    assert "held: score 61.0" in groups["cinema-4k"]
    low = [seed.next_event("cinema-4k", name, 10.0, after=2) for name in ("1080p", "480p")]
    history.write(*low)
    groups, _ = await rows_of(client)
    assert "held" not in groups["cinema-4k"]


async def test_decisions_are_listed_with_reason_and_delivery(client: httpx.AsyncClient, history: StoredHistory) -> None:
    """The newest first; what is left of a hook that the settings do not have says so."""
    input_decisions.write(history)
    _, decisions = await rows_of(client)
    assert len(decisions) == 8
    assert decisions[0].startswith("removed old · not in these settings switch to backup")
    assert any("expired HTTP 503 from switcher.example" in row for row in decisions)
    assert any("dry run" in row for row in decisions)
    assert any("minimum hold · backup 84.2 superseded" in row for row in decisions)
    _, decisions = await rows_of(client, "/inputs?stream=kids")
    assert [row.split()[0] for row in decisions] == ["kids"]


async def test_a_decision_that_waits_beyond_its_end_is_shown_as_expired(history: StoredHistory) -> None:
    """Nothing may send it any more, whether or not a process has recorded that."""
    records = input_decisions.write(history)
    app = create_app(history.store.queries, now=lambda: records[-1].decision.expires_at)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        _, decisions = await rows_of(client)
    assert " expired " in decisions[0]


async def test_navigation_has_the_page_where_there_are_hooks(client: httpx.AsyncClient, history: StoredHistory) -> None:
    """Without a hook the page can still be opened, and says what is missing."""
    assert 'href="/inputs"' in (await client.get("/")).text
    app = create_app(history.store.queries, now=lambda: seed.NOW)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as without:
        assert 'href="/inputs"' not in (await without.get("/")).text
        assert "have no hook" in (await without.get("/inputs")).text
