"""An empty history in both databases."""

from collections.abc import Iterator

import pytest

from vqmon.transport.history.backends.location import HistoryLocation
from vqmon.transport.history.history import History, open_history


@pytest.fixture
def history(history_location: HistoryLocation) -> Iterator[History]:
    """An empty history, open for writing."""
    with open_history(history_location, "write") as history:
        yield history
