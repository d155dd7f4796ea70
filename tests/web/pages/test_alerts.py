"""An alert as an incident, and the stream page with what the rules know."""

import csv
import io
import re
from dataclasses import replace

import httpx
import pytest

from tests.web import incidents, seed
from tests.web.kept import Kept
from vqmon.core.alerts.regression.cusum import Tuning, parts, step, usual_now
from vqmon.core.alerts.state import AlertState
from vqmon.core.scores import Promotion
from vqmon.core.types import QualityEvent
from vqmon.web.charts.control_charts import cusum_values, monitored_series


async def text(client: httpx.AsyncClient, path: str) -> str:
    reply = await client.get(path)
    assert reply.status_code == 200, reply.text[:500]
    return reply.text


async def test_alert_tells_the_change_its_cause_and_what_moved(client: httpx.AsyncClient, history: Kept) -> None:
    """When, by how much, within which interval; where it comes from; what moved with it; the deploy before it."""
    regression, _ = incidents.write(history)
    page = await text(client, f"/alerts/{regression.id}")
    for words in (
        "Fell from 79.1 to 27.4 at 20 Nov 2026, 14:26:52: −51.70 points (−54.00 to −49.30).",
        "The encoder or enhancer",
        "blockiness",
        "+0.62",
        "q-align@1",
        "−27.00",
        "sr-v2 rollout",
        "the level changed at the vertical line before it",
        "Muted by this alert",
        "fell against 480p",
        "Before and after",
        "team",
    ):
        assert words in page, words
    for look in ("changed", "opened", "deploy", "level", "held"):
        assert re.search(rf'class="(rule )?{look}"', page), look


async def test_a_picture_from_before_stands_beside_the_worst(client: httpx.AsyncClient, history: Kept) -> None:
    """Before is the last scored segment before the change; both pictures are there."""
    regression, _ = incidents.write(history)
    page = await text(client, f"/alerts/{regression.id}")
    urls = re.findall(r'<figure class="(?:left|right)"><img src="([^"]+)"', page)
    assert len(urls) == 4
    before = history.store.queries.outcome(urls[0].split("/")[2])
    assert isinstance(before, QualityEvent)
    assert regression.change
    assert before.segment.starts_at < regression.change.at
    assert before.scores[0].value > 60
    for url in urls:
        assert (await client.get(url)).content.startswith(b"\xff\xd8\xff")


async def test_a_muted_alert_leads_to_what_explains_it(client: httpx.AsyncClient, history: Kept) -> None:
    """Nobody was told, and why."""
    regression, muted = incidents.write(history)
    page = await text(client, f"/alerts/{muted.id}")
    assert f'href="/alerts/{regression.id}"' in page
    assert "No notification was sent" in page
    assert "· muted" in await text(client, "/alerts")


async def test_alerts_csv_holds_the_change(client: httpx.AsyncClient, history: Kept) -> None:
    """What the page says can be had as a file."""
    regression, _ = incidents.write(history)
    rows = list(csv.DictReader(io.StringIO((await client.get("/api/alerts.csv")).text)))
    row = next(row for row in rows if row["id"] == regression.id)
    assert (row["cause"], row["change"], row["changed_at"]) == ("encoder", "-51.7", "2026-11-20T14:26:52.000Z")
    assert row["moved"] == "blockiness 0.01 to 0.63; q-align@1 71 to 44"


async def test_segment_shows_what_scorers_say_beside_the_score(client: httpx.AsyncClient, history: Kept) -> None:
    """Levels, disagreement, trials, and why a heavy scorer looked."""
    event = seed.fresh("weather", "480p", 61.0)
    first = event.scores[0]
    levels = replace(first, scorer="q-align@1", levels={"good": 0.7, "fair": 0.3}, entropy=0.38)
    history.write(
        replace(
            event,
            scores=(first, levels),
            shadow_scores=(replace(first, scorer="lite@2"),),
            disagreement=7.25,
            promotion=Promotion(reasons=("low",), left_out="budget"),
        )
    )
    page = await text(client, f"/segments/{event.id}")
    for words in ("7.2 points between", "good 70%, fair 30%; entropy 0.38", "lite@2, shadow", "used up"):
        assert words in page, words


async def test_stream_page_shows_what_the_rules_know(client: httpx.AsyncClient, history: Kept) -> None:
    """Phase, usual, band and evidence of each series; the deploy; and the same for the chart."""
    incidents.write(history)
    page = await text(client, "/streams/sports%20one")
    for words in ("Alert rule status", "1080p lite", "1080p lite − 480p", f"of {Tuning().h:g}", "Deploys"):
        assert words in page, words
    chart = (await client.get("/api/streams/sports%20one/points")).json()
    assert chart["markers"] == [{"at": incidents.MARKER.at.timestamp(), "name": "sr-v2 rollout"}]
    (band,) = chart["bands"]
    assert band["rendition"] == "1080p"
    assert 70 < band["low"] < band["usual"] < band["high"] < 90


async def test_a_stream_without_rules_shows_none(client: httpx.AsyncClient) -> None:
    """Nor does it know the series of a stream whose name begins like its own."""
    page = await text(client, "/streams/weather")
    assert "Alert rule status" not in page
    assert (await client.get("/api/streams/weather/points")).json()["bands"] == []


@pytest.mark.parametrize("stream_id", ["sports%", "sports_one", "SPORTS ONE", "sports"])
def test_states_are_those_of_the_stream_alone(history: Kept, stream_id: str) -> None:
    """A name with signs that mean something to a database, or like another's, finds nothing that is not its own."""
    incidents.write(history)
    assert len(history.store.queries.states_of_stream("sports one")) == 2
    assert history.store.queries.states_of_stream(stream_id) == {}


def test_series_of_rules_without_a_chart_are_left_out() -> None:
    """Only what has a usual is told of."""
    states = {"a": AlertState(rule="floor", series="s/r/lite", kind="floor")}
    assert monitored_series(states, "s", ["r"]) == []


def test_evidence_is_the_sum_that_the_rule_has(history: Kept) -> None:
    """With one usual for all the drawn sum is that of `core.cusum.step`, but for the first value: it follows none."""
    line = [it for it in history.outcomes(incidents.STREAM, "1080p") if isinstance(it, QualityEvent)]
    memory = incidents.state(line, "1080p").memory
    usual = usual_now(memory)
    assert usual is not None
    points = [
        point
        for point in history.store.queries.points(
            incidents.STREAM, begins_at=seed.NOW.replace(hour=0), ends_at=seed.NOW, limit=1000, rendition="1080p"
        )
        if point.scores[seed.SCORER] < 40
    ]
    drawn = cusum_values(points, seed.SCORER, usual)
    for point in points:
        at = point.starts_at.timestamp()
        memory = step(Tuning(), memory, point.scores[seed.SCORER], at=at, until=at + 4.0, impact=1.0)
    assert drawn[-1][1] == pytest.approx(parts(memory)[0].s, abs=3.0)
    assert drawn[-1][1] > Tuning().h
