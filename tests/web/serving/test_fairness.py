"""Requests of one client do not make those of others wait."""

import anyio

from vqmon.web.serving.fairness import ClientTurns


async def test_a_client_has_a_few_places_and_others_have_theirs() -> None:
    """Its other requests wait for one of its own; unknown clients do not wait."""
    turns, end = ClientTurns(per_client=2), anyio.Event()
    inside: list[str] = []

    async def request(client: str) -> None:
        async with turns.turn(client):
            inside.append(client)
            await end.wait()

    async with anyio.create_task_group() as group:
        for client in ("a",) * 5 + ("b",) + ("",) * 3:
            group.start_soon(request, client)
        await anyio.wait_all_tasks_blocked()
        assert sorted(inside) == ["", "", "", "a", "a", "b"]
        end.set()
    assert inside.count("a") == 5
    assert turns._limiters == {}


async def test_a_request_that_is_given_up_leaves_its_place() -> None:
    """Waiting or inside."""
    turns = ClientTurns(per_client=1)
    async with anyio.create_task_group() as group:

        async def request() -> None:
            async with turns.turn("a"):
                await anyio.sleep_forever()

        group.start_soon(request)
        group.start_soon(request)
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    assert turns._limiters == {}
    with anyio.fail_after(5):
        async with turns.turn("a"):
            pass
