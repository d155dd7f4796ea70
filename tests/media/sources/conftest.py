"""Fixtures of the tests of sources."""

from collections.abc import AsyncIterator

import pytest

from tests.media.loopback import Server, serving


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with serving() as server:
        yield server
