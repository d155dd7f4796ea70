"""Waiting that a stop ends at once."""

import asyncio
from collections.abc import Awaitable, Callable

Wait = Callable[[asyncio.Event, float], Awaitable[None]]
"""Returns after so many seconds, or as soon as the event is set."""


async def wait_or_stop(stop: asyncio.Event, seconds: float) -> None:
    """Wait so long, or until the stop; other tasks get their turn even when there is nothing to wait for."""
    try:
        async with asyncio.timeout(max(0.0, seconds)):
            await stop.wait()
    except TimeoutError:
        pass
