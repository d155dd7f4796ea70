"""A history and the only thread that writes to it, so that the event loop never waits for a database."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from vqmon.transport.history.backends.base import OpenMode
from vqmon.transport.history.backends.location import HistoryLocation
from vqmon.transport.history.history import History, open_history

Result = TypeVar("Result")


class HistoryThread:
    """Runs calls on a history one after the other, in one thread."""

    def __init__(self, history: History, executor: ThreadPoolExecutor) -> None:
        self.history = history
        self._executor = executor

    async def run(self, call: Callable[[], Result]) -> Result:
        """Run a call in the thread and return its result."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, call)

    def submit(self, call: Callable[[], Result]) -> "Future[Result]":
        """Queue a call; nobody needs to wait for it."""
        return self._executor.submit(call)


@contextmanager
def open_history_thread(
    location: HistoryLocation, *, mode: OpenMode, evidence_max_bytes: int = 200_000
) -> Iterator[HistoryThread]:
    """Open the history at a location together with its thread; both close with the context."""
    with (
        ThreadPoolExecutor(1, "history") as executor,
        open_history(location, mode=mode, evidence_max_bytes=evidence_max_bytes) as history,
    ):
        yield HistoryThread(history, executor)
