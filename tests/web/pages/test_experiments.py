"""The pages of experiments as a reader without JavaScript gets them, and their files."""

import csv
import io
import re
from dataclasses import replace

import httpx
import pytest

from tests.web import experiment_results, seed
from tests.web.stored_history import StoredHistory
from vqmon.web.api.downloads import EXPERIMENT_TABLES
from vqmon.web.app import create_app
from vqmon.web.urls import experiment_path

PAGE = experiment_path(experiment_results.EXPERIMENT.name)


async def text(client: httpx.AsyncClient, path: str, *, status: int = 200) -> str:
    reply = await client.get(path)
    assert reply.status_code == status, reply.text[:500]
    return reply.text


async def test_the_list_has_the_verdict_of_every_arm(client: httpx.AsyncClient) -> None:
    """Each arm has its verdict in plain words; what has no answer yet says that it is being worked out."""
    page = await text(client, "/experiments")
    assert "sr-v2 is better than sr-v1: +1.94 points" in page
    assert "cannot be told apart yet" in page
    assert page.count("being computed") >= 1
    assert 'aria-current="page">Experiments' in page


async def test_the_verdict_comes_first(client: httpx.AsyncClient) -> None:
    """Verdict, reasons and next step stand before any number or drawing."""
    page = await text(client, PAGE)
    order = [
        "sr-v2 is better than",
        "All guardrails hold",
        "<b>Next:</b>",
        "Confidence interval over time",
        "Difference by content",
    ]
    assert [page.index(text_part) for text_part in order] == sorted(page.index(text_part) for text_part in order)


async def test_every_part_of_the_result_is_on_the_page(client: httpx.AsyncClient) -> None:
    """Margins, distribution, cost, checks with remedies, guardrails, votes, misleading signals, pairs, gaps, slices."""
    page = await text(client, PAGE)
    for text_part in (
        "smallest gain of interest +0.50",
        "margin −1.25",
        "no difference",
        "Distribution and cost of the arms",
        "38.8 points per extra Mb/s",
        "Look at the packager of <code>sr-v2</code>.",
        "Guardrails",
        "The votes are not conclusive yet.",
        "over sharpness",
        "exceeded",
        "Where sr-v2 loses most",
        "14 without sr-v2, 3 without sr-v1.",
        "sports",
        "too few",
        "Fixed before the experiment began",
    ):
        assert text_part in page, text_part


async def test_the_worst_pair_shows_where_quality_is_lost(client: httpx.AsyncClient, history: StoredHistory) -> None:
    """By the heat maps of both sides; without any the page says why."""
    assert "No heat map: " in await text(client, PAGE)
    heat_map = seed.half_lost("detail", frames=4, lost=(2,))
    control, arm = seed.next_event("weather", "480p", 60.0), seed.next_event("weather", "1080p", 20.0)
    events = (control, replace(arm, heat_maps=(heat_map,)))
    pictures = [(float(number), seed.picture(number)) for number in range(4)]
    history.store.publish(events, thumbnails={event.id: pictures for event in events})
    comparison = experiment_results.comparison(history.seeded)
    better, *others = comparison.answers
    worst, *pairs = better.pairs
    pair = replace(worst, control_event_id=control.id, arm_event_id=arm.id)
    answers = (replace(better, pairs=(pair, *pairs)), *others)
    app = create_app(
        history.store.queries,
        now=lambda: seed.NOW,
        experiment_results=experiment_results.FixedResults(replace(comparison, answers=answers)),
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as with_maps:
        page = await text(with_maps, PAGE)
    assert re.findall(r'class="heat (m\d)".*?aria-label="Heat map (\w+) at (\S+) s', page) == [("m0", "detail", "2.00")]
    assert 'name="map" value="m0" checked' in page
    assert "No heat map: " not in page


async def test_the_query_selects_arm_and_scorer(client: httpx.AsyncClient) -> None:
    """Unknown names select the first arm and scorer."""
    assert "about 30 contents more" in await text(client, f"{PAGE}?arm=sr-v2-fast")
    assert "by q-align@1 as the data came in" in await text(client, f"{PAGE}?scorer=q-align@1")
    assert "sr-v2 is better" in await text(client, f"{PAGE}?arm=none&scorer=none")


async def test_a_result_that_is_being_computed(client: httpx.AsyncClient) -> None:
    """The page opens at once and reloads by itself."""
    page = await text(client, "/experiments/ladder")
    assert "The result is being computed." in page
    assert 'hx-trigger="every 1s"' in page
    assert "There is no experiment of that name" in await text(client, "/experiments/none", status=404)


@pytest.mark.parametrize("kind", EXPERIMENT_TABLES)
async def test_every_table_is_a_csv_file(client: httpx.AsyncClient, kind: str) -> None:
    """One line per line of the answer."""
    reply = await client.get(f"/api{PAGE}/{kind}.csv?arm=sr-v2")
    rows = list(csv.DictReader(io.StringIO(reply.text)))
    counts = {"interval": 34, "clusters": 34, "slices": 2, "arms": 3, "guardrails": 2, "missing": 1, "checks": 2}
    assert len(rows) == counts.get(kind, len(rows)) > 0
    assert (await client.get(f"/api{PAGE}/nothing.csv")).status_code == 404


async def test_every_link_of_the_page_works(client: httpx.AsyncClient) -> None:
    """No link of the page leads nowhere."""
    page = await text(client, PAGE)
    for path in set(re.findall(r'href="(/(?:api|pairs|experiments|segments)[^"]*)"', page)):
        assert (await client.get(path.replace("&amp;", "&"))).status_code == 200, path
