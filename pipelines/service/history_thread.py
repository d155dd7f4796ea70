"""A history and the only thread that writes to it, so that the event loop never waits for a database."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Protocol, TypeVar

from vqmon.errors import SettingsError, StoreError, StoreRefusedError
from vqmon.transport.history.backends.base import OpenMode
from vqmon.transport.history.backends.location import HistoryLocation
from vqmon.transport.history.history import History, open_history

Result = TypeVar("Result")


class HistoryThread:
    """Runs calls on a history one after the other, in one thread."""

    def __init__(
        self, history: History | None, executor: ThreadPoolExecutor, *, open_anew: Callable[[], History] | None = None
    ) -> None:
        """`open_anew` opens the history when there is none yet; it raises StoreError."""
        self._history = history
        self._executor = executor
        self._open_anew = open_anew
        self._problem = ""

    @property
    def history(self) -> History:
        """The history; raises StoreError when it could not be opened yet."""
        if self._history is None:
            raise StoreError(self._problem)
        return self._history

    @property
    def is_open(self) -> bool:
        """Whether there is a history to call."""
        return self._history is not None

    @property
    def problem(self) -> str:
        """Why the history could not be opened at the last attempt; empty when it is open."""
        return "" if self.is_open else self._problem

    def open(self) -> None:
        """Open the history unless it is open; raises StoreError. It closes with the thread."""
        if self._history is None and self._open_anew is not None:
            try:
                self._history = self._open_anew()
            except (StoreError, SettingsError) as error:
                self._problem = str(error)
                raise StoreError(self._problem) from error

    async def run(self, call: Callable[[], Result]) -> Result:
        """Run a call in the thread and return its result."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, call)

    def submit(self, call: Callable[[], Result]) -> "Future[Result]":
        """Queue a call; nobody needs to wait for it."""
        return self._executor.submit(call)


class OpenThread(Protocol):
    """How a daemon opens its history: `open_history_thread`, or `start_history_thread`."""

    def __call__(
        self, location: HistoryLocation, *, mode: OpenMode, evidence_max_bytes: int
    ) -> AbstractContextManager[HistoryThread]: ...


@contextmanager
def open_history_thread(
    location: HistoryLocation, *, mode: OpenMode, evidence_max_bytes: int = 200_000
) -> Iterator[HistoryThread]:
    """Open the history at a location together with its thread; both close with the context. Raises StoreError."""
    with (
        ThreadPoolExecutor(1, "history") as executor,
        open_history(location, mode=mode, evidence_max_bytes=evidence_max_bytes) as history,
    ):
        yield HistoryThread(history, executor)


@contextmanager
def start_history_thread(
    location: HistoryLocation, *, mode: OpenMode, evidence_max_bytes: int = 200_000
) -> Iterator[HistoryThread]:
    """The same, but a history that cannot be opened now is no error: `HistoryThread.open` tries again.

    Raises StoreRefusedError and SettingsError, as waiting does not help then.
    """
    # the thread ends before what it opened is closed
    with ExitStack() as stack, ThreadPoolExecutor(1, "history") as executor:

        def open_anew() -> History:
            return stack.enter_context(open_history(location, mode=mode, evidence_max_bytes=evidence_max_bytes))

        thread = HistoryThread(None, executor, open_anew=open_anew)
        try:
            thread.open()
        except StoreError as error:
            # `problem` says what waiting may mend
            if isinstance(error.__cause__, StoreRefusedError | SettingsError):
                raise error.__cause__ from None
        yield thread
