"""Takes turns among clients, so that the requests of one do not make those of others wait."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio


class ClientTurns:
    """Lets at most `per_client` requests of each client in at a time; its others wait behind them."""

    def __init__(self, *, per_client: int) -> None:
        self._per_client = per_client
        # by client that has requests: who waits or is in
        self._limiters: dict[str, anyio.CapacityLimiter] = {}
        self._counts: dict[str, int] = {}

    @asynccontextmanager
    async def turn(self, client: str) -> AsyncIterator[None]:
        """Wait for a place of this client; "" is one that is not known, and does not wait."""
        if not client:
            yield
            return
        limiter = self._limiters.setdefault(client, anyio.CapacityLimiter(self._per_client))
        self._counts[client] = self._counts.get(client, 0) + 1
        try:
            # each request is a borrower of its own
            request = object()
            await limiter.acquire_on_behalf_of(request)
            try:
                yield
            finally:
                limiter.release_on_behalf_of(request)
        finally:
            self._counts[client] -= 1
            if not self._counts[client]:
                del self._counts[client], self._limiters[client]
