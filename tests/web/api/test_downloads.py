"""JSON, CSV and JPEG responses without a version."""

import csv
import io

import httpx

from tests.web import seed
from tests.web.stored_history import StoredHistory
from vqmon.core.types import SIGNALS


def lines(reply: httpx.Response) -> list[dict[str, str]]:
    assert reply.headers["content-type"].startswith("text/csv")
    assert "attachment" in reply.headers["content-disposition"]
    return list(csv.DictReader(io.StringIO(reply.text)))


async def test_streams_are_the_same_as_json_and_csv(client: httpx.AsyncClient) -> None:
    """The fleet as a file has a line per rendition, with the state that the page shows."""
    rows = (await client.get("/api/streams")).json()["renditions"]
    table = lines(await client.get("/api/streams.csv"))
    assert [row["state"] for row in rows] == [line["state"] for line in table]
    assert len(rows) == 16
    assert len(lines(await client.get("/api/streams.csv?q=kids&state=unscored"))) == 2


async def test_points_have_the_data_of_the_chart(client: httpx.AsyncClient) -> None:
    """A line per rendition with times, values, ids and reasons of equal length, and the alerts as marks."""
    chart = (await client.get("/api/streams/kids/points?last=1h")).json()
    first = chart["renditions"][0]
    assert len({len(first[name]) for name in ("at", "value", "id", "reason")}) == 1
    assert [value is None for value in first["value"]] == [reason is not None for reason in first["reason"]]
    assert chart["longest_seconds"] == 3600
    alerts = (await client.get("/api/streams/cinema-4k/points")).json()["alerts"]
    assert alerts[0]["resolved_at"] is None


async def test_points_csv_has_every_outcome(client: httpx.AsyncClient) -> None:
    """Nothing is left out of the file, the unscored neither."""
    table = lines(await client.get("/api/streams/kids/points.csv"))
    assert len(table) == 180
    assert {line["reason"] for line in table} == {"", "not_found"}
    assert set(SIGNALS) < set(table[0])


async def test_the_frames_of_a_segment_are_json_and_csv(client: httpx.AsyncClient, history: StoredHistory) -> None:
    """The frames of a segment as JSON and CSV; a failure as its reason."""
    event = history.outcomes("weather")[-1]
    segment = (await client.get(f"/api/segments/{event.id}")).json()
    assert len(segment["frames"]) == len(lines(await client.get(f"/api/segments/{event.id}.csv"))) == 4
    failure = history.outcomes("kids")[-1]
    assert (await client.get(f"/api/segments/{failure.id}")).json()["reason"] == "not_found"


async def test_alerts_are_the_same_as_json_and_csv(client: httpx.AsyncClient) -> None:
    """The alerts as JSON and CSV."""
    alerts = (await client.get("/api/alerts")).json()["alerts"]
    assert [alert["id"] for alert in alerts] == [line["id"] for line in lines(await client.get("/api/alerts.csv"))]


async def test_an_unknown_api_path_is_a_json_404(client: httpx.AsyncClient) -> None:
    """A program that asks for nothing gets JSON, not a page."""
    reply = await client.get("/api/streams/none/points")
    assert reply.status_code == 404
    assert "error" in reply.json()


async def test_pictures_are_cached_for_ever(client: httpx.AsyncClient, history: StoredHistory) -> None:
    """A picture never changes, is never guessed to be something else, and is a 404 when it is gone."""
    event = history.outcomes("weather")[-1]
    reply = await client.get(f"/segments/{event.id}/frames/3.jpg")
    assert reply.content.startswith(b"\xff\xd8\xff")
    assert "immutable" in reply.headers["cache-control"]
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert (await client.get(f"/segments/{event.id}/frames/4.jpg")).status_code == 404
    other = seed.next_event("weather", "480p", 50.0)
    history.store.publish([other], thumbnails={other.id: [(0.0, b"<script>")]})
    assert (await client.get(f"/segments/{other.id}/frames/0.jpg")).status_code == 404


def test_the_seeded_history_is_reproducible() -> None:
    """Tests rely on its ids."""
    seeded = seed.fleet(streams=1, segments=3)
    assert [outcome.id for outcome in seeded.outcomes] == [
        outcome.id for outcome in seed.fleet(streams=1, segments=3).outcomes
    ]
