"""The page that compares two segments frame by frame."""

import re
from dataclasses import replace

import httpx

from tests.web import experiment_results, seed
from tests.web.stored_history import StoredHistory
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
    assert seed.SCORER in shown
    picture = await client.get(f"{pair[1]}/a/0.jpg")
    assert picture.content.startswith(b"\xff\xd8\xff")
    for path in (f"{pair[1]}/b/9.jpg", "/pairs/x", f"/pairs/{'0' * 32}:{'0' * 32}"):
        assert (await client.get(path)).status_code == 404


async def test_a_pair_has_the_heat_maps_of_both_sides(client: httpx.AsyncClient, history: StoredHistory) -> None:
    """Each over its own pictures; the choice is shared."""
    maps = seed.half_lost("ssim", frames=4, lost=(1,)), seed.half_lost("detail", frames=4, lost=(2, 3))
    events = [
        replace(seed.next_event("weather", name, 60.0), heat_maps=(heat_map,))
        for name, heat_map in zip(("480p", "1080p"), maps, strict=True)
    ]
    thumbnails = {
        event.id: [(float(number), seed.picture(number, softness=1)) for number in range(4)] for event in events
    }
    history.store.publish(events, thumbnails=thumbnails)
    page = await text(client, f"/pairs/{events[0].id}:{events[1].id}")
    sides = re.findall(r'<figure class="(left|right)">(.*?)</figure>', page, flags=re.S)
    shown = [(side, slot) for side, figure in sides for slot in re.findall(r'class="heat (m\d)"', figure)]
    assert shown == [("left", "m0"), ("right", "m1"), ("right", "m1")]


async def test_the_back_link_leads_only_to_experiments_here(client: httpx.AsyncClient) -> None:
    """An address of elsewhere in the query is no way back."""
    pair = re.search(r'href="(/pairs/[^"?]+)', await text(client, PAGE))
    assert pair
    assert f'href="{PAGE}"' in await text(client, f"{pair[1]}?from={PAGE}")
    for bad in ("//evil.example", "/experiments/x//evil", "https://evil.example", "/experiments/\\evil"):
        assert "evil" not in re.sub(r'hx-get="[^"]*"', "", await text(client, f"{pair[1]}?from={bad}"))
