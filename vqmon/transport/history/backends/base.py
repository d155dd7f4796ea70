"""What a history needs of a database, so that one set of SQL serves SQLite and PostgreSQL."""

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, Protocol

from vqmon.errors import StoreUnreachableError
from vqmon.telemetry.logs import event

log = logging.getLogger("vqmon.history")

FIRST_SECONDS = 0.2
LAST_SECONDS = 5.0


def repeated(write: Callable[[], None], *, for_seconds: float, pause: Callable[[float], None] = time.sleep) -> None:
    """Run what may be run twice until the server takes it; the last StoreUnreachableError after `for_seconds`."""
    waited, seconds = 0.0, FIRST_SECONDS
    while True:
        try:
            write()
        except StoreUnreachableError as error:
            if waited >= for_seconds:
                raise
            if not waited:
                log.warning(**event("history.unreachable", error=error, patience_seconds=for_seconds))
        else:
            if waited:
                log.warning(**event("history.reachable", seconds=waited))
            return
        pause(seconds)
        waited += seconds
        seconds = min(seconds * 2, LAST_SECONDS)


Mode = Literal["write", "read", "record", "mark"]
"""Write alone; only read; write beside others that do the same, where the database allows it; or add markers only."""


class Rows(Protocol):
    """What a statement gave."""

    @property
    def rowcount(self) -> int: ...
    def fetchone(self) -> Any: ...
    def fetchall(self) -> list[Any]: ...


class Connection(Protocol):
    """A connection within a transaction; values take the place of `?`."""

    def execute(self, sql: str, parameters: Sequence[Any] = (), /) -> Rows: ...
    def executemany(self, sql: str, parameters: Iterable[Sequence[Any]], /) -> object: ...

    def insert_new(self, table: str, rows: Sequence[Sequence[Any]], /) -> bool:
        """Insert whole rows; False when one of them is there already, and then none of them was inserted."""
        ...


class Database(Protocol):
    """One place of a history, open; safe to use from several threads."""

    def ask(self, sql: str, *values: Any) -> list[Any]:
        """Run one SELECT and give all its rows."""
        ...

    def transaction(self) -> AbstractContextManager[Connection]:
        """All or nothing; one at a time."""
        ...

    def checkpoint(self) -> None:
        """Let go of what only a log still needs."""
        ...

    def close(self) -> None: ...
