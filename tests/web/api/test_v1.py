"""Lists of version 1 of the REST API."""

import httpx

from tests.transport.history.deliveries.test_decision_log import records as decision_records
from tests.web.api.json_client import every, get
from tests.web.stored_history import StoredHistory


async def test_following_next_returns_every_item_once(client: httpx.AsyncClient, history: StoredHistory) -> None:
    """Following `next` gives every item once: renditions, streams, outcomes that share their moments."""
    renditions = await every(client, "/renditions?limit=5&q=p")
    assert len({(rendition["stream_id"], rendition["rendition"]) for rendition in renditions}) == len(renditions) == 16
    assert len(await every(client, "/streams?limit=3")) == 8
    for limit in (1, 7, 100):
        ids = [outcome["event_id"] for outcome in await every(client, f"/outcomes?stream=weather&limit={limit}")]
        assert len(ids) == len(set(ids)) == len(history.outcomes("weather"))


async def test_filters_narrow_the_lists(client: httpx.AsyncClient) -> None:
    """State, words, stream and time narrow the lists."""
    assert {rendition["state"] for rendition in (await get(client, "/renditions?state=unscored"))["items"]} == {
        "unscored"
    }
    assert len((await get(client, "/streams?q=kids"))["items"]) == 1
    opened = (await get(client, "/alerts?state=open"))["items"]
    resolved = (await get(client, "/alerts?state=resolved&stream=sports one"))["items"]
    assert {alert["state"] for alert in opened} == {"open"}
    assert len(resolved) == 1
    within = "since=2026-11-20T14:29:00Z&until=2026-11-20T14:29:20+00:00"
    assert len((await get(client, f"/outcomes?stream=weather&rendition=480p&{within}"))["items"]) == 5


async def test_decisions_about_inputs_are_listed_newest_first(
    client: httpx.AsyncClient, history: StoredHistory
) -> None:
    """With what became of each, for one stream or all, page by page."""
    history.store.decisions.record(decision_records())
    decisions = await every(client, "/input-decisions?limit=4&stream=news-1")
    assert [each["decision"]["kind"] for each in decisions] == ["hold", "return", "hold", "switch", "hold"]
    assert decisions[3]["decision"]["reason"] == "score_low"
    assert decisions[3]["delivery"] == "waiting"
    assert len(await every(client, "/input-decisions?limit=2")) == 6
