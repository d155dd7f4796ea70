"""The page of a stream as a browser without JavaScript receives it."""

import re
from dataclasses import replace
from urllib.parse import quote

import httpx
import pytest

from tests.web import incidents, seed
from tests.web.stored_history import StoredHistory
from vqmon.core.types import QualityEvent, ReferenceScore
from vqmon.web.pages import stream
from vqmon.web.urls import stream_path


def newest(history: StoredHistory, kind: type, stream_id: str | None = None) -> str:
    return [outcome for outcome in history.outcomes(stream_id) if isinstance(outcome, kind)][-1].id


async def text(client: httpx.AsyncClient, path: str) -> str:
    reply = await client.get(path)
    assert reply.status_code == 200, reply.text[:500]
    return reply.text


@pytest.mark.parametrize("stream_id", seed.NAMES)
async def test_any_stream_id_has_a_page(client: httpx.AsyncClient, stream_id: str) -> None:
    """Slashes, spaces, umlauts and markup in an id neither break the address nor the page."""
    page = await text(client, stream_path(stream_id))
    assert "<b>bold</b>" not in page
    assert "Latest segments" in page


async def test_stream_page_has_the_numbers_of_its_chart(client: httpx.AsyncClient) -> None:
    """The table behind the chart has a line per moment, a caption sentence and a file to download."""
    page = await text(client, "/streams/sports%20one")
    assert re.search(rf"180 segments, scored by {seed.SCORER}: 1080p from \d+ to \d+, mean \d+; 480p", page)
    assert page.count('<tr><th scope="row"><time') == 90
    assert f"points.csv?last=recent&amp;scorer={quote(seed.SCORER)}" in page


async def test_the_query_selects_the_time_range(client: httpx.AsyncClient) -> None:
    """From and to choose a stretch; what is outside is not in the table."""
    page = await text(client, "/streams/weather?from=2026-11-20T14:29:00Z&to=2026-11-20T14:29:20Z")
    assert "10 segments, scored" in page
    assert "There is no segment in this time" in await text(client, "/streams/weather?from=2020-01-01&to=2020-01-02")


async def test_a_stream_that_ended_is_shown_up_to_its_end(client: httpx.AsyncClient) -> None:
    """A short range of a stream that fell silent ends at its newest segment, not at an empty now."""
    page = await text(client, f"{stream_path('Übertragung/Süd')}?last=15m")
    assert "There is no segment in this time" not in page


async def test_stream_page_shows_the_status_of_alert_rules(client: httpx.AsyncClient, history: StoredHistory) -> None:
    """Phase, baseline, band, way to the limit and visible drops; the deploy; and the same in the chart data."""
    incidents.write_regression(history)
    page = await text(client, "/streams/sports%20one")
    for text_part in ("Alert rule status", "1080p lite − 480p", "Way to the limit", " points in ", "Deploys"):
        assert text_part in page, text_part
    chart = (await client.get("/api/streams/sports%20one/points")).json()
    assert chart["markers"] == [{"at": incidents.MARKER.at.timestamp(), "name": "sr-v2 rollout"}]
    (band,) = chart["bands"]
    assert band["rendition"] == "1080p"
    assert 70 < band["low"] < band["usual"] < band["high"] < 90


async def test_a_stream_without_rules_has_no_rule_status(client: httpx.AsyncClient) -> None:
    """Nor does it know the series of a stream whose name begins like its own."""
    page = await text(client, "/streams/weather")
    assert "Alert rule status" not in page
    assert (await client.get("/api/streams/weather/points")).json()["bands"] == []


async def test_a_long_range_is_drawn_from_buckets(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """A range with too many segments to read one by one loses no dip, and the caption says what a point is."""
    monkeypatch.setattr(stream, "MAX_POINTS", 50)
    monkeypatch.setattr(stream, "RECENT_POINTS", 50)
    chart = (await client.get("/api/streams/sports%20one/points?last=24h")).json()
    worst = min(value for value in chart["renditions"][0]["value"] if value is not None)
    assert chart["step_seconds"] == 24 * 3600 / 500
    assert 20 < worst < 40
    page = (await client.get("/streams/sports%20one?last=24h")).text
    assert f"180 segments, scored by {seed.SCORER}: mean" in page
    assert "Each point of the chart is the lowest score of 3 minutes." in page


async def test_stream_page_and_its_csv_have_the_reference_measures(
    client: httpx.AsyncClient, history: StoredHistory
) -> None:
    """A chart per measure, the values of the latest segments, and a column."""
    assert "Against the reference" not in await text(client, "/streams/weather")
    event = [outcome for outcome in history.outcomes("weather") if isinstance(outcome, QualityEvent)][-1]
    reference = ReferenceScore(measure="psnr", value=38.25, frame_values=(38.25,), unit="dB", higher_is_better=True)
    segment = replace(event.segment, sequence=event.segment.sequence + 1000)
    history.write(replace(event, id="f" * 32, segment=segment, references=(reference,)))
    page = await text(client, "/streams/weather")
    assert "Against the reference" in page
    assert "psnr 38.25" in page
    assert "reference_psnr" in (await client.get("/api/streams/weather/points.csv")).text
