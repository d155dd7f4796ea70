"""A history in one SQLite file: connections, transactions, and the file's own marks."""

import fcntl
import logging
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from vqmon.errors import NoHistoryError, StoreError
from vqmon.transport.history.backends import schema
from vqmon.transport.history.backends.base import Mode, Rows


@contextmanager
def only_writer(path: Path) -> Iterator[None]:
    """Hold the lock `PATH.lock`, which the end of the process frees in any case; StoreError when another holds it."""
    if not path.absolute().parent.is_dir():
        raise StoreError(f"{path}: the folder does not exist; create it or name another file")
    lock = beside(path, ".lock")
    try:
        held = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise StoreError(
            f"{lock}: cannot be opened: {error.strerror}; {_user()} needs to write in its folder"
        ) from error
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StoreError(f"another vqmon writes {path}; stop it, or name another file") from error
        except OSError as error:
            raise StoreError(f"{lock}: cannot be locked: {error.strerror}") from error
        yield
    finally:
        # The file stays: taking it away would let a third one lock a new file of the same name.
        os.close(held)


def check_readable(path: Path) -> None:
    """Raise SettingsError when there is no history, StoreError when this user may not read it."""
    try:
        is_there = path.is_file()
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}; {_user()} needs permission to enter its folder") from error
    if not is_there:
        raise NoHistoryError(f"{path}: no history yet; run `vqmon run` or `vqmon watch URL` first, or give --history")
    if not os.access(path, os.R_OK):
        raise StoreError(f"{path}: {_user()} needs permission to read it")
    folder = path.resolve().parent
    if os.access(folder, os.W_OK) or not beside(path, "-wal").exists():
        return
    # What is not yet in the file itself is found by way of both, and this user cannot make them.
    for part in (beside(path, "-wal"), beside(path, "-shm")):
        if not os.access(part, os.R_OK):
            raise StoreError(f"{path}: {_user()} needs permission to read {part}, or to write in {folder}")


def frozen_at(path: Path) -> tuple[int, int] | None:
    """When and how large the file was last written, where readers cannot make a log and no writer has one; else None.

    SQLite reads such a file only when told that nobody changes it: look again whether that still holds.
    """
    if os.access(path.resolve().parent, os.W_OK) or beside(path, "-wal").exists():
        return None
    status = path.stat()
    return status.st_mtime_ns, status.st_size


def beside(path: Path, ending: str) -> Path:
    """The file of the same name with something after it, where SQLite puts it: beside what a link leads to."""
    real = path.resolve()
    return real.with_name(real.name + ending)


def _user() -> str:
    return f"user {os.geteuid()}"


log = logging.getLogger("vqmon.history")

BUSY_SECONDS = 5.0
"""How long a writer waits for another one."""

PAGE_BYTES = 8192
"""An event that is written alone takes one and a half kB: larger pages hold those with less waste."""

CACHE_KIB = 65_536
CHECKPOINT_SECONDS = 5.0
"""How often a busy writer's log goes into the file, from a thread of its own: no transaction waits for the disk."""

CHECKPOINT_PAGES = 65_536
"""A log of 256 MiB means that the thread does not keep up: then a transaction does it."""

QUIET_COMMITS = 100
"""A history of fewer transactions has no such thread."""


class SqliteDatabase:
    """One connection per thread, opened when first needed: SQLite's own isolation then holds between threads."""

    def __init__(self, path: Path, mode: Mode) -> None:
        self.path = path
        self._is_reader = mode == "read"
        self._of_thread = threading.local()
        self._all: list[sqlite3.Connection] = []
        self._commits = 0
        self._checkpoints: _Checkpoints | None = None
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise

    def ask(self, sql: str, *values: Any) -> list[Any]:
        """Run one statement and give all its rows."""
        with self._translated():
            return self._get().execute(sql, values).fetchall()

    @contextmanager
    def transaction(self) -> Iterator["_Transaction"]:
        """All or nothing."""
        with self._translated():
            connection = self._get()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield _Transaction(connection)
            except BaseException:
                # A full disk has already rolled it back.
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")
        self._commits += 1
        if self._commits == QUIET_COMMITS:
            self._checkpoints = _Checkpoints(self._open(is_frozen=False))

    def checkpoint(self) -> None:
        """Write the log back into the file and empty it; does what it can while others read."""
        self.ask("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        if self._checkpoints is not None:
            self._checkpoints.close()
        while self._all:
            self._all.pop().close()

    def _get(self) -> sqlite3.Connection:
        known: sqlite3.Connection | None = getattr(self._of_thread, "connection", None)
        if known is not None and (frozen := self._of_thread.frozen_at) and frozen != frozen_at(self.path):
            # A writer has come since.
            self._all.remove(known)
            known.close()
            known = None
        if known is None:
            frozen = self._of_thread.frozen_at = frozen_at(self.path) if self._is_reader else None
            known = self._of_thread.connection = self._open(is_frozen=frozen is not None)
            self._all.append(known)
        return known

    def _open(self, *, is_frozen: bool) -> sqlite3.Connection:
        query = "mode=rwc" if not self._is_reader else "mode=ro&immutable=1" if is_frozen else "mode=ro"
        connection = sqlite3.connect(
            f"{self.path.absolute().as_uri()}?{query}",
            uri=True,
            timeout=BUSY_SECONDS,
            isolation_level=None,
            # Closed by the thread that closes the history.
            check_same_thread=False,
            cached_statements=256,
        )
        # In WAL mode NORMAL loses nothing when the process dies; only a power cut can take the last transactions.
        connection.execute("PRAGMA synchronous = NORMAL")
        if not self._is_reader:
            connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
            connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        return connection

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StoreError(f"{self.path}: {error}") from error

    def _prepare(self) -> None:
        """See that the file is a history of this version; make or migrate the tables when writing."""
        version = self.ask("PRAGMA user_version")[0][0]
        application = self.ask("PRAGMA application_id")[0][0]
        is_empty = not self.ask("SELECT 1 FROM sqlite_master LIMIT 1")
        if application != schema.APPLICATION_ID and not is_empty:
            raise StoreError(f"{self.path}: is an SQLite file, but no history of vqmon; name another file")
        schema.check_version(version, str(self.path))
        if self._is_reader:
            if version < schema.VERSION:
                raise StoreError(f"{self.path}: no history yet, or one of an older vqmon; start the daemon once")
            return
        if version < schema.VERSION:
            self.ask(f"PRAGMA page_size = {PAGE_BYTES}")
            self.ask("PRAGMA journal_mode = WAL")
            with self.transaction() as connection:
                _migrate(connection)


def _migrate(connection: "_Transaction") -> None:
    # Asked again, as another process may have been first.
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    for statement in schema.upgrade(version):
        connection.execute(statement)
    if version == 0:
        connection.execute("INSERT INTO identity VALUES (?)", (uuid4().hex,))
    connection.execute(f"PRAGMA user_version = {schema.VERSION}")
    connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")


class _Checkpoints:
    """Writes the log back into the file every so often, beside whoever writes and reads."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="checkpoints", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
        self._connection.close()

    def _run(self) -> None:
        while not self._ended.wait(CHECKPOINT_SECONDS):
            try:
                self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
            except sqlite3.Error as error:
                # What is wrong with the disk, the next transaction says.
                log.debug("no checkpoint: %s", error)


class _Transaction:
    """SQLite as a `database.Connection`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def execute(self, sql: str, parameters: Sequence[Any] = (), /) -> Rows:
        return self._connection.execute(sql, parameters)

    def executemany(self, sql: str, parameters: Iterable[Sequence[Any]], /) -> object:
        return self._connection.executemany(sql, parameters)

    def insert_new(self, table: str, rows: Sequence[Sequence[Any]], /) -> bool:
        if not rows:
            return True
        insert = f"INSERT INTO {table} VALUES ({', '.join('?' * len(rows[0]))})"
        if len(rows) == 1:
            return self._connection.execute(f"{insert} ON CONFLICT DO NOTHING", rows[0]).rowcount == 1
        self._connection.execute("SAVEPOINT new_rows")
        try:
            self._connection.executemany(insert, rows)
        except sqlite3.IntegrityError:
            self._connection.execute("ROLLBACK TO new_rows")
            return False
        finally:
            if self._connection.in_transaction:
                self._connection.execute("RELEASE new_rows")
        return True
