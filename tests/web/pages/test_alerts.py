"""The list of alerts and the page of one alert."""

import csv
import io
import re
from dataclasses import replace

import httpx

from tests.web import incidents, seed
from tests.web.stored_history import StoredHistory
from vqmon.core.types import QualityEvent


async def text(client: httpx.AsyncClient, path: str) -> str:
    reply = await client.get(path)
    assert reply.status_code == 200, reply.text[:500]
    return reply.text


async def test_alert_shows_change_cause_and_companions(client: httpx.AsyncClient, history: StoredHistory) -> None:
    """When, by how much, within which interval; where it comes from; what moved with it; the deploy before it."""
    regression, _ = incidents.write_regression(history)
    page = await text(client, f"/alerts/{regression.id}")
    for text_part in (
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
        assert text_part in page, text_part
    for css_class in ("changed", "opened", "deploy", "level", "held"):
        assert re.search(rf'class="(rule )?{css_class}"', page), css_class


async def test_worst_frames_are_paired_with_frames_from_before(
    client: httpx.AsyncClient, history: StoredHistory
) -> None:
    """Before is the last scored segment before the change; both pictures are there."""
    regression, _ = incidents.write_regression(history)
    page = await text(client, f"/alerts/{regression.id}")
    urls = re.findall(r'<figure class="(?:left|right)"><span class="picture"><img src="([^"]+)"', page)
    assert len(urls) == 4
    before = history.store.queries.outcome(urls[0].split("/")[2])
    assert isinstance(before, QualityEvent)
    assert regression.change
    assert before.segment.starts_at < regression.change.at
    assert before.scores[0].value > 60
    for url in urls:
        assert (await client.get(url)).content.startswith(b"\xff\xd8\xff")


async def test_a_muted_alert_links_to_the_alert_that_explains_it(
    client: httpx.AsyncClient, history: StoredHistory
) -> None:
    """The page says that no notification was sent, and why."""
    regression, muted = incidents.write_regression(history)
    page = await text(client, f"/alerts/{muted.id}")
    assert f'href="/alerts/{regression.id}"' in page
    assert "No notification was sent" in page
    assert "· muted" in await text(client, "/alerts")


async def test_alerts_csv_has_the_change(client: httpx.AsyncClient, history: StoredHistory) -> None:
    """What the page says can be had as a file."""
    regression, _ = incidents.write_regression(history)
    rows = list(csv.DictReader(io.StringIO((await client.get("/api/alerts.csv")).text)))
    row = next(row for row in rows if row["id"] == regression.id)
    assert (row["cause"], row["change"], row["changed_at"]) == ("encoder", "-51.7", "2026-11-20T14:26:52.000Z")
    assert row["moved"] == "blockiness 0.01 to 0.63; q-align@1 71 to 44"


async def test_open_alerts_are_listed_before_resolved_ones(client: httpx.AsyncClient) -> None:
    """Open alerts come first; each tells rule, severity and how long."""
    page = await text(client, "/alerts")
    assert page.index("music &amp; talk") < page.index("Resolved") < page.index("sports one")
    assert page.count("badge failing") == 1
    only = await text(client, "/alerts?stream=cinema-4k")
    assert "sports one" not in only


async def test_alert_shows_where_its_worst_frames_lose_quality(
    client: httpx.AsyncClient, history: StoredHistory
) -> None:
    """Stored with the evidence, over the worst frame alone; also without a stored picture."""
    event = replace(
        seed.next_event("weather", "480p", 20.0), heat_maps=(seed.half_lost("detail", frames=4, lost=(2,)),)
    )
    alert = seed.alert(event, rule="score-floor", severity="ticket", began_at=event.segment.starts_at, resolved_at=None)
    assert alert.evidence.worst_times_seconds == (2.0, 0.0)
    history.write(event, alert)
    page = await text(client, f"/alerts/{alert.id}")
    assert page.count('<svg class="heat m0"') == 1
    assert "Heat map detail at 2.00 s: mostly left; mean 0.35" in page
    assert "no picture stored" in page
    assert 'name="map" value="m0" checked' in page


async def test_alert_shows_its_evidence(client: httpx.AsyncClient, history: StoredHistory) -> None:
    """An alert shows when, the reading, the curve around it, the worst frames and the segment that triggered it."""
    alert = next(alert for alert in history.store.queries.alerts() if alert.stream_id == "cinema-4k")
    page = await text(client, f"/alerts/{alert.id}")
    assert page.count(f'<a href="/alerts/{alert.id}/frames/') == 2
    assert f'href="/segments/{alert.evidence.event_id}"' in page
    assert 'class="rule limit"' in page
    # one length of time on the whole page, and each moment once
    assert page.count("<dt>Began</dt>") == 1
    assert not re.search(r"\blasted\b|\blater\b", page)
