"""The page that compares two segments frame by frame."""

import re

import httpx

from tests.web import experiment_results
from vqmon.web.urls import experiment_path

PAGE = experiment_path(experiment_results.EXPERIMENT.name)


async def text(client: httpx.AsyncClient, path: str, *, status: int = 200) -> str:
    reply = await client.get(path)
    assert reply.status_code == status, reply.text[:500]
    return reply.text


async def test_a_pair_is_shown_with_both_pictures(client: httpx.AsyncClient) -> None:
    """The pictures of the history stand side by side, with scores and signals of both."""
    page = await text(client, PAGE)
    pair = re.search(r'href="(/pairs/[^"?]+)', page)
    assert pair
    shown = await text(client, pair[1])
    assert shown.count('<div class="frames') == 4
    assert "lite@1" in shown
    picture = await client.get(f"{pair[1]}/a/0.jpg")
    assert picture.content.startswith(b"\xff\xd8\xff")
    for path in (f"{pair[1]}/b/9.jpg", "/pairs/x", f"/pairs/{'0' * 32}:{'0' * 32}"):
        assert (await client.get(path)).status_code == 404


async def test_the_back_link_leads_only_to_experiments_here(client: httpx.AsyncClient) -> None:
    """An address of elsewhere in the query is no way back."""
    pair = re.search(r'href="(/pairs/[^"?]+)', await text(client, PAGE))
    assert pair
    assert f'href="{PAGE}"' in await text(client, f"{pair[1]}?from={PAGE}")
    for bad in ("//evil.example", "/experiments/x//evil", "https://evil.example", "/experiments/\\evil"):
        assert "evil" not in re.sub(r'hx-get="[^"]*"', "", await text(client, f"{pair[1]}?from={bad}"))
