"""The page that compares two renditions."""

import csv
import io

import httpx
import pytest


async def test_the_page_says_which_rendition_is_ahead(client: httpx.AsyncClient) -> None:
    """A sentence, two drawings, the pairs where each is ahead most, and the same as a table."""
    page = (await client.get("/compare?a=sports one/1080p&b=sports one/480p")).text
    assert "points ahead of" in page
    assert page.count('class="field"') == 2
    assert page.count('<tr><th scope="row"><a class="row-link"') == 16
    assert page.count("/pairs/") == 16 + 90


async def test_two_streams_are_compared_as_csv_and_json(client: httpx.AsyncClient) -> None:
    """Pairs of different streams as CSV and JSON, and in version 1."""
    query = "a=weather/480p&b=news/hd/1080p"
    rows = list(csv.DictReader(io.StringIO((await client.get(f"/api/compare.csv?{query}")).text)))
    comparison = (await client.get(f"/api/compare?{query}")).json()
    item = (await client.get(f"/api/v1/comparison?{query}")).json()
    assert len(rows) == len(comparison["pairs"]) == len(item["pairs"]) == item["summary"]["count"] == 90
    assert float(rows[0]["difference"]) == pytest.approx(float(rows[0]["b"]) - float(rows[0]["a"]), abs=1e-4)


async def test_the_newest_segments_can_be_aligned(client: httpx.AsyncClient) -> None:
    """A stream that fell silent has no moment in common, until its newest meets the other's newest."""
    query = "a=weather/480p&b=Übertragung/Süd/1080p&last=15m"
    alone = (await client.get(f"/api/v1/comparison?{query}")).json()
    together = (await client.get(f"/api/v1/comparison?{query}&align=ends")).json()
    assert len(alone["pairs"]) == 0
    page = (await client.get(f"/compare?{query}")).text
    assert "What keeps the segments from pairing" in page
    assert "start at other moments" in page
    assert len(together["pairs"]) == 90


@pytest.mark.parametrize("query", ["", "?a=weather/480p", "?a=none&b=weather/480p"])
async def test_an_unknown_rendition_is_named(client: httpx.AsyncClient, query: str) -> None:
    """The page keeps the form; the JSON response is a 404."""
    page = await client.get(f"/compare{query}")
    assert page.status_code == 200
    assert ("The history has no rendition “none”." in page.text) == ("none" in query)
    assert (await client.get(f"/api/compare{query}")).status_code == 404
