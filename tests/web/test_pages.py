"""The pages as a reader without JavaScript gets them."""

import re
from pathlib import Path

import httpx
import pytest

from tests.web import seed
from tests.web.kept import Kept
from vqmon.core.types import QualityEvent, SegmentFailure
from vqmon.transport.history.history import open_history
from vqmon.web.app import create_app
from vqmon.web.urls import stream_path

SCORED, UNSCORED = QualityEvent, SegmentFailure


def newest(history: Kept, kind: type, stream_id: str | None = None) -> str:
    return [it for it in history.outcomes(stream_id) if isinstance(it, kind)][-1].id


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


async def test_every_state_has_shape_word_and_class(client: httpx.AsyncClient) -> None:
    """A state is told by a shape and a word, not by its colour alone."""
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
async def test_sort_by_score(client: httpx.AsyncClient, order: str, first: str) -> None:
    """Sorting by score works both ways and says so to those who listen."""
    page = await text(client, f"/?sort=score&order={order}")
    scored = [name for name in re.findall(r'class="name row-link"[^>]*>([^<]+)<', page) if name != "kids"]
    assert scored[0] == first
    assert f'aria-sort="{order}ending"' in page


@pytest.mark.parametrize(
    "query", ["sort=%00", "page=99999", "page=-1", "state=x", "order=1", "page=²", "q=" + "x" * 5000]
)
async def test_nonsense_in_the_address_is_not_an_error(client: httpx.AsyncClient, query: str) -> None:
    """What an address says wrongly counts as not said."""
    await text(client, f"/?{query}")


async def test_an_empty_history_says_how_to_begin(tmp_path: Path) -> None:
    """Before the first segment the page says what to run."""
    with open_history(tmp_path / "empty.db", "write") as store:
        app = create_app(store.queries, now=lambda: seed.NOW)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
            assert "vqmon watch URL" in await text(client, "/")
            assert "No alert is open." in await text(client, "/alerts")
            assert (await client.get("/api/streams.csv")).text == "stream_id,rendition\r\n"


@pytest.mark.parametrize("stream_id", seed.NAMES)
async def test_stream_page_of_any_id(client: httpx.AsyncClient, stream_id: str) -> None:
    """Slashes, spaces, umlauts and markup in an id neither break the address nor the page."""
    page = await text(client, stream_path(stream_id))
    assert "<b>bold</b>" not in page
    assert "Latest segments" in page


async def test_stream_page_holds_the_numbers_of_its_chart(client: httpx.AsyncClient) -> None:
    """The table behind the chart has a line per moment, a caption sentence and a file to download."""
    page = await text(client, "/streams/sports%20one")
    assert re.search(r"180 segments, scored by lite@1: 1080p from \d+ to \d+, mean \d+; 480p", page)
    assert page.count('<tr><th scope="row"><time') == 90
    assert "points.csv?last=recent&amp;scorer=lite%401" in page


async def test_stream_range_by_address(client: httpx.AsyncClient) -> None:
    """From and to choose a stretch; what is outside is not in the table."""
    page = await text(client, "/streams/weather?from=2026-11-20T14:29:00Z&to=2026-11-20T14:29:20Z")
    assert "10 segments, scored" in page
    assert "There is no segment in this time" in await text(client, "/streams/weather?from=2020-01-01&to=2020-01-02")


async def test_a_stream_that_ended_is_shown_where_it_ended(client: httpx.AsyncClient) -> None:
    """A short range of a stream that fell silent ends at its newest segment, not at an empty now."""
    page = await text(client, f"{stream_path('Übertragung/Süd')}?last=15m")
    assert "There is no segment in this time" not in page


async def test_segment_shows_frames_signals_and_provenance(client: httpx.AsyncClient, history: Kept) -> None:
    """A verdict is told down to its frames, and no query string of an address is shown."""
    page = await text(client, f"/segments/{newest(history, SCORED, 'cinema-4k')}")
    assert page.count("/frames/") == 8
    for words in ("5th percentile of frames", "bt709/limited", "sha256 5f5f", "onnxruntime", "banding"):
        assert words in page
    assert "token=secret" not in page


async def test_unscored_segment_says_why_and_what_to_do(client: httpx.AsyncClient, history: Kept) -> None:
    """A failure is told in plain words, with the stage it came to and a remedy."""
    page = await text(client, f"/segments/{newest(history, UNSCORED)}")
    for words in ("The server says that the segment does not exist.", "What you can do", "not reached", "HTTP 404"):
        assert words in page


async def test_segment_leads_to_its_neighbours(client: httpx.AsyncClient, history: Kept) -> None:
    """Previous and next are the neighbours of the same rendition; the newest has no next."""
    line = [it.id for it in history.outcomes("weather", "480p")]
    page = await text(client, f"/segments/{line[-2]}")
    assert f'rel="prev" href="/segments/{line[-3]}"' in page
    assert f'rel="next" href="/segments/{line[-1]}"' in page
    assert 'id="next"' not in await text(client, f"/segments/{line[-1]}")


async def test_alerts_open_then_resolved(client: httpx.AsyncClient) -> None:
    """Open alerts come first; each tells rule, severity and how long."""
    page = await text(client, "/alerts")
    assert page.index("music &amp; talk") < page.index("Resolved") < page.index("sports one")
    assert page.count("badge failing") == 1
    only = await text(client, "/alerts?stream=cinema-4k")
    assert "sports one" not in only


async def test_alert_shows_evidence(client: httpx.AsyncClient, history: Kept) -> None:
    """An alert shows when, the reading, the curve around it, the worst frames and the segment that triggered it."""
    alert = next(it for it in history.store.queries.alerts() if it.stream_id == "cinema-4k")
    page = await text(client, f"/alerts/{alert.id}")
    assert page.count(f'<a href="/alerts/{alert.id}/frames/') == 2
    assert f'href="/segments/{alert.evidence.event_id}"' in page
    assert 'class="rule limit"' in page


@pytest.mark.parametrize(
    "path",
    [
        "/segments/none",
        f"/segments/{'0' * 32}",
        "/alerts/none",
        "/streams/none",
        "/streams/~!!",
        "/nothing",
        "/alerts/../x",
    ],
)
async def test_what_is_not_there_is_a_friendly_404(client: httpx.AsyncClient, path: str) -> None:
    """A wrong address gives a page with a way back."""
    assert "Back to the fleet" in await text(client, path, status=404)


async def test_healthz(client: httpx.AsyncClient) -> None:
    """The health check says that the history can be read."""
    assert (await text(client, "/healthz")).startswith("history at ")
