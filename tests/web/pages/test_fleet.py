"""The fleet page as a browser without JavaScript receives it."""

import re
from pathlib import Path

import httpx
import pytest

from tests.web import seed
from vqmon.transport.history.history import open_history
from vqmon.web.app import create_app


async def text(client: httpx.AsyncClient, path: str, *, status: int = 200) -> str:
    reply = await client.get(path)
    assert reply.status_code == status, reply.text[:500]
    return reply.text


async def test_fleet_shows_every_rendition_worst_first(client: httpx.AsyncClient) -> None:
    """All sixteen renditions are there, and a failing one stands before a good one."""
    page = await text(client, "/")
    assert page.count('class="name row-link"') == 16
    assert page.index(">cinema-4k<") < page.index(">weather<")
    assert "16 renditions of 8 streams: 1 failing, 1 degraded, 2 unscored, 1 stale, 11 good." in page


async def test_every_state_has_a_shape_and_a_word(client: httpx.AsyncClient) -> None:
    """A state is shown by a shape and a word, not by its colour alone."""
    page = await text(client, "/")
    for state in ("failing", "degraded", "unscored", "stale", "good"):
        assert re.search(
            rf'<span class="badge {state}"[^>]*><svg[^>]*><use href="#{state}"/></svg>{state}</span>', page
        )


async def test_filter_and_state_narrow_the_fleet(client: httpx.AsyncClient) -> None:
    """The address filters by words and by state, and keeps what was typed."""
    page = await text(client, "/?q=KIDS+480p&state=unscored")
    assert page.count('class="name row-link"') == 1
    assert 'value="KIDS 480p"' in page
    assert "Nothing matches the filter" in await text(client, "/?q=nosuchstream")


@pytest.mark.parametrize(("order", "first"), [("asc", "cinema-4k"), ("desc", "news/hd")])
async def test_fleet_can_be_sorted_by_score(client: httpx.AsyncClient, order: str, first: str) -> None:
    """Sorting by score works both ways and says so to those who listen."""
    page = await text(client, f"/?sort=score&order={order}")
    scored = [name for name in re.findall(r'class="name row-link"[^>]*>([^<]+)<', page) if name != "kids"]
    assert scored[0] == first
    assert f'aria-sort="{order}ending"' in page


@pytest.mark.parametrize(
    "query", ["sort=%00", "page=99999", "page=-1", "state=x", "order=1", "page=²", "q=" + "x" * 5000]
)
async def test_invalid_query_parameters_are_ignored(client: httpx.AsyncClient, query: str) -> None:
    """An invalid value counts as not given."""
    await text(client, f"/?{query}")


async def test_an_empty_history_explains_how_to_start(tmp_path: Path) -> None:
    """Before the first segment the page says what to run."""
    with open_history(tmp_path / "empty.db", "write") as store:
        app = create_app(store.queries, now=lambda: seed.NOW)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
            assert "vqmon watch URL" in await text(client, "/")
            assert "No alert is open." in await text(client, "/alerts")
            assert (await client.get("/api/streams.csv")).text == "stream_id,rendition\r\n"
