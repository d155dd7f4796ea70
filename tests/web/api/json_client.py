"""Requests to the API as its tests make them: one answer, and all items of a list."""

from typing import Any

import httpx

from vqmon.web.api.framework import PREFIX


async def get(client: httpx.AsyncClient, path: str, *, status: int = 200) -> Any:
    """The JSON answer to a request, which must have this status."""
    reply = await client.get(PREFIX + path)
    assert reply.status_code == status, reply.text[:300]
    assert reply.headers["content-type"] == "application/json"
    return reply.json()


async def every(client: httpx.AsyncClient, path: str) -> list[dict[str, Any]]:
    """All items of a list, part by part."""
    items: list[dict[str, Any]] = []
    address: str | None = path
    while address is not None:
        part = await get(client, address.removeprefix(PREFIX))
        items += part["items"]
        address = part["next"]
        assert len(items) < 2000
    return items
