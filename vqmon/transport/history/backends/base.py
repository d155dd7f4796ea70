"""The interface of a history's database, the same for SQLite and PostgreSQL, so that one set of SQL serves both."""

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, Protocol

from vqmon.errors import StoreUnreachableError
from vqmon.retry import Backoff, Retries
from vqmon.telemetry.logs import log_event

log = logging.getLogger("vqmon.history")

_BACKOFF = Backoff(first_seconds=0.2, last_seconds=5.0)


def retry_until_reachable(
    write: Callable[[], None], *, timeout_seconds: float, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Retry an idempotent write until the database is reachable.

    Raises the last StoreUnreachableError when the delays add up to `timeout_seconds`.
    """
    waited_seconds, retries = 0.0, Retries(_BACKOFF)
    while True:
        try:
            write()
        except StoreUnreachableError as error:
            if waited_seconds >= timeout_seconds:
                raise
            if not retries.failures:
                log.warning(**log_event("history.unreachable", error=error, patience_seconds=timeout_seconds))
        else:
            if retries.failures:
                log.warning(**log_event("history.reachable", seconds=waited_seconds))
            return
        seconds = retries.next_delay_seconds()
        sleep(seconds)
        waited_seconds += seconds


OpenMode = Literal["write", "read", "record", "annotate"]
"""How a history is opened.

`write`: the only writer. `read`: no writes. `record`: one of several writers, where the database allows that.
`annotate`: adds markers, ends and decisions beside a writer, nothing else.
"""


class StatementResult(Protocol):
    """The result of one SQL statement, as in DB-API 2.0."""

    @property
    def rowcount(self) -> int: ...
    def fetchone(self) -> Any: ...
    def fetchall(self) -> list[Any]: ...


class Transaction(Protocol):
    """An open transaction; parameters replace the `?` of a statement."""

    def execute(self, sql: str, parameters: Sequence[Any] = (), /) -> StatementResult: ...
    def executemany(self, sql: str, parameters: Iterable[Sequence[Any]], /) -> object: ...

    def insert_if_new(self, table: str, rows: Sequence[Sequence[Any]], /) -> bool:
        """Insert whole rows; when one of them is already stored, insert none and return False."""
        ...


class Database(Protocol):
    """An open database; safe to use from several threads."""

    def query(self, sql: str, *values: Any) -> list[Any]:
        """Run one SELECT and return all its rows."""
        ...

    def transaction(self) -> AbstractContextManager[Transaction]:
        """Begin a transaction that commits all or nothing; one runs at a time."""
        ...

    def checkpoint(self) -> None:
        """Move the write-ahead log into the database file, where there is one."""
        ...

    def check(self) -> None:
        """Read all of the database; raises StoreError when it is damaged."""
        ...

    def reopen(self) -> None:
        """Open the database anew after an error; raises StoreError when it is still not in order."""
        ...

    def close(self) -> None: ...
