"""An empty history in both databases."""

from collections.abc import Iterator

import pytest

from vqmon.transport.history.backends.location import HistoryLocation
from vqmon.transport.history.history import History, open_history


@pytest.fixture
def history(place: HistoryLocation) -> Iterator[History]:
    """An empty history, open for writing."""
    with open_history(place, "write") as history:
        yield history
