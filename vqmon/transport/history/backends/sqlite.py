"""A history in one SQLite file: the writer lock, connections, transactions and checkpoints."""

import fcntl
import logging
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from vqmon.errors import NoHistoryError, StoreError, StoreRefusedError
from vqmon.telemetry.logs import log_event
from vqmon.transport.history.backends import schema
from vqmon.transport.history.backends.base import OpenMode, StatementResult
from vqmon.transport.history.backends.views import SqliteDialect, make_views, views_digest

log = logging.getLogger("vqmon.history")

_BUSY_TIMEOUT_SECONDS = 5.0
"""How long a writer waits for another one."""

_PAGE_BYTES = 8192
"""An event that is written alone takes 1.5 kB; larger pages waste less space on such rows."""

_MAGIC = b"SQLite format 3\0"
_CACHE_KIB = 65_536
_CHECKPOINT_SECONDS = 5.0
"""Interval of the checkpoint thread of a busy writer, so that no transaction waits for the disk."""

_CHECKPOINT_PAGES = 65_536
"""A log of 256 MiB means that the checkpoint thread does not keep up: then a commit runs the checkpoint."""

_CHECKPOINT_THREAD_COMMITS = 100
"""Commits after which a writer gets a checkpoint thread."""


@contextmanager
def hold_writer_lock(path: Path) -> Iterator[None]:
    """Hold the lock `PATH.lock`, which the end of the process frees too; StoreRefusedError when another one has it."""
    if not path.absolute().parent.is_dir():
        raise StoreError(f"{path}: the folder does not exist; create it or name another file")
    lock = sidecar_file(path, ".lock")
    try:
        lock_fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise StoreError(
            f"{lock}: cannot be opened: {error.strerror}; {_user()} needs to write in its folder"
        ) from error
    try:
        try:
            fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StoreRefusedError(f"another vqmon writes {path}; stop it, or name another file") from error
        except OSError as error:
            raise StoreError(f"{lock}: cannot be locked: {error.strerror}") from error
        yield
    finally:
        # The file stays: if it were removed, another process could lock a new file of the same name.
        os.close(lock_fd)


def check_readable(path: Path) -> None:
    """Raise SettingsError when there is no history, StoreError when this user may not read it."""
    try:
        is_file = path.is_file()
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}; {_user()} needs permission to enter its folder") from error
    if not is_file:
        raise NoHistoryError(f"{path}: no history yet; run `vqmon run` or `vqmon watch URL` first, or give --history")
    if not os.access(path, os.R_OK):
        raise StoreError(f"{path}: {_user()} needs permission to read it")
    folder = path.resolve().parent
    if os.access(folder, os.W_OK) or not sidecar_file(path, "-wal").exists():
        return
    # SQLite reads the newest writes by way of both files, and this user cannot create them.
    for sidecar in (sidecar_file(path, "-wal"), sidecar_file(path, "-shm")):
        if not os.access(sidecar, os.R_OK):
            raise StoreError(f"{path}: {_user()} needs permission to read {sidecar}, or to write in {folder}")


_UNREADABLE_START = "its first page or list of tables is damaged, or it is no SQLite file; restore a backup"


def open_read_only(path: Path) -> sqlite3.Connection:
    """Open the file of a history of any version, also a damaged one; raises StoreError when it is none."""
    check_readable(path)
    query = "mode=ro" if _immutable_stamp(path) is None else "mode=ro&immutable=1"
    try:
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?{query}", uri=True, timeout=_BUSY_TIMEOUT_SECONDS, isolation_level=None
        )
        try:
            application = connection.execute("PRAGMA application_id").fetchone()[0]
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.Error:
            connection.close()
            raise
    except sqlite3.Error as error:
        raise StoreError(f"{path}: {sqlite_problem(error, otherwise=_UNREADABLE_START)}") from error
    if application != schema.APPLICATION_ID:
        connection.close()
        raise StoreError(f"{path}: is an SQLite file, but not a history of vqmon; name another file")
    return connection


def _immutable_stamp(path: Path) -> tuple[int, int] | None:
    """(modification time in ns, size) of a file that must be read as immutable; None for all others.

    A reader that can neither find nor create the write-ahead log can only open the file with SQLite's `immutable=1`.
    That is wrong as soon as a writer comes, so the stamp is compared before each query.
    """
    if os.access(path.resolve().parent, os.W_OK) or sidecar_file(path, "-wal").exists():
        return None
    status = path.stat()
    return status.st_mtime_ns, status.st_size


def _file_identity(path: Path) -> tuple[int, int] | None:
    """(device, inode) of a file; None when there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def sidecar_file(path: Path, suffix: str) -> Path:
    """The file that SQLite or vqmon keeps next to a database; next to the target of a symbolic link."""
    target = path.resolve()
    return target.with_name(target.name + suffix)


def _user() -> str:
    return f"user {os.geteuid()}"


class SqliteDatabase:
    """One connection per thread, opened when first needed, so that SQLite isolates threads from each other."""

    def __init__(self, path: Path, mode: OpenMode) -> None:
        self.path = path
        self._mode = mode
        self._is_reader = mode == "read"
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._commits = 0
        self._checkpoint_thread: _CheckpointThread | None = None
        # counts the openings of the file; a connection of an earlier one is replaced by its thread
        self._opening = 0
        # identities of the file and of its write-ahead log
        self._file: tuple[int, int] | None = None
        self._log: tuple[int, int] | None = None
        try:
            self._prepare()
            if mode == "write":
                self.check()
            self._note_files()
        except BaseException:
            self.close()
            raise

    def query(self, sql: str, *values: Any) -> list[Any]:
        """Run one statement and return all its rows."""
        with self._translated_errors():
            return self._connection().execute(sql, values).fetchall()

    @contextmanager
    def transaction(self) -> Iterator["_SqliteTransaction"]:
        """Begin a transaction that commits all or nothing."""
        with self._translated_errors():
            self._check_file()
            connection = self._connection()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield _SqliteTransaction(connection)
            except BaseException:
                # SQLite itself rolls back when the disk is full.
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")
        self._commits += 1
        if self._commits == _CHECKPOINT_THREAD_COMMITS:
            self._checkpoint_thread = _CheckpointThread(self._open(query="mode=rwc"))

    def check(self) -> None:
        """Read every page; raises StoreError when the file is damaged. About a second per gigabyte that is cached."""
        problems = [str(problem) for (problem,) in self.query("PRAGMA quick_check(3)")]
        if problems != ["ok"]:
            first_line = problems[0].strip().splitlines()[-1]
            raise StoreError(
                f"{self.path}: is damaged ({first_line}); restore a backup, or save what can be read:"
                f" vqmon history salvage {self.path} NEW"
            )

    def reopen(self) -> None:
        """Write to the file of this name, whatever became of it: one that was deleted is restored from what is open."""
        with self._translated_errors():
            self._check_header()
            if not self.path.exists():
                self._restore()
            elif self._file != _file_identity(self.path):
                self._remove_log()
            self._opening += 1
            if self._checkpoint_thread is not None:
                self._checkpoint_thread.close()
                self._checkpoint_thread, self._commits = None, 0
            self._prepare()
            self._note_files()

    def _note_files(self) -> None:
        self._file, self._log = _file_identity(self.path), _file_identity(sidecar_file(self.path, "-wal"))

    def _remove_log(self) -> None:
        """Remove the log of the file that was open, before SQLite takes it for that of the file of the same name."""
        if self._log is not None and self._log == _file_identity(sidecar_file(self.path, "-wal")):
            for suffix in ("-wal", "-shm"):
                sidecar_file(self.path, suffix).unlink(missing_ok=True)

    def _restore(self) -> None:
        """Copy the deleted file, which lives on while it is open, to its name."""
        for suffix in ("-wal", "-shm"):
            sidecar_file(self.path, suffix).unlink(missing_ok=True)
        copy = sidecar_file(self.path, ".restoring")
        copy.unlink(missing_ok=True)
        with closing(sqlite3.connect(copy)) as target:
            self._connection().backup(target)
        copy.rename(self.path)
        log.warning(**log_event("history.restored", path=self.path))

    def _check_header(self) -> None:
        """Raise StoreError for a file that SQLite would refuse, before it removes the log of the right one."""
        try:
            with self.path.open("rb") as file:
                header = file.read(len(_MAGIC))
        except FileNotFoundError:
            return
        if header and header != _MAGIC:
            raise StoreError(f"{self.path}: file is not a database; put the history, or a backup of it, in its place")

    def _check_file(self) -> None:
        """Raise StoreError when the file that is open is not the one of this name any more."""
        if self._file is not None and self._file != _file_identity(self.path):
            raise StoreError(f"{self.path}: was deleted or replaced while it was written")

    def checkpoint(self) -> None:
        """Move the write-ahead log into the file, as far as readers allow it."""
        self.query("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        if self._checkpoint_thread is not None:
            self._checkpoint_thread.close()
        while self._connections:
            self._connections.pop().close()

    def _connection(self) -> sqlite3.Connection:
        """The connection of this thread; a reader that opened the file as immutable opens it anew when it changed."""
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is not None and (
            self._local.opening != self._opening
            or ((stamp := self._local.stamp) and stamp != _immutable_stamp(self.path))
        ):
            self._connections.remove(connection)
            connection.close()
            connection = self._local.connection = None
        if connection is None:
            stamp = self._local.stamp = _immutable_stamp(self.path) if self._is_reader else None
            self._local.opening = self._opening
            connection = self._local.connection = self._open(query=self._uri_query(is_immutable=stamp is not None))
            self._connections.append(connection)
        return connection

    def _uri_query(self, *, is_immutable: bool) -> str:
        if not self._is_reader:
            return "mode=rwc"
        return "mode=ro&immutable=1" if is_immutable else "mode=ro"

    def _open(self, *, query: str) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"{self.path.absolute().as_uri()}?{query}",
            uri=True,
            timeout=_BUSY_TIMEOUT_SECONDS,
            isolation_level=None,
            # Closed by the thread that closes the history.
            check_same_thread=False,
            cached_statements=256,
        )
        try:
            # In WAL mode NORMAL loses nothing when the process dies; only a power cut can take the last transactions.
            connection.execute("PRAGMA synchronous = NORMAL")
            if not self._is_reader:
                connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
                connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StoreError(f"{self.path}: {sqlite_problem(error)}") from error
        except OSError as error:
            raise StoreError(f"{self.path}: {error.strerror}") from error

    def _prepare(self) -> None:
        """Check that the file is a history of this version; a writer creates or upgrades the tables."""
        with self._translated_errors():
            self._check_header()
        version = self.query("PRAGMA user_version")[0][0]
        application = self.query("PRAGMA application_id")[0][0]
        is_empty = not self.query("SELECT 1 FROM sqlite_master LIMIT 1")
        if application != schema.APPLICATION_ID and not is_empty:
            raise StoreRefusedError(f"{self.path}: is an SQLite file, but not a history of vqmon; name another file")
        schema.check_version(version, str(self.path))
        if self._is_reader:
            if version < schema.VERSION:
                raise StoreError(f"{self.path}: no history yet, or one of an older vqmon; start the daemon once")
            return
        if version < schema.VERSION:
            self.query(f"PRAGMA page_size = {_PAGE_BYTES}")
            self.query("PRAGMA journal_mode = WAL")
            with self.transaction() as transaction:
                _upgrade(transaction)
        digest = views_digest(SqliteDialect())
        if self._mode != "annotate" and self.query("SELECT digest FROM views") != [(digest,)]:
            with self.transaction() as transaction:
                make_views(transaction, SqliteDialect())


def _upgrade(transaction: "_SqliteTransaction") -> None:
    # Read again within the transaction, as another process may have been first.
    version = transaction.execute("PRAGMA user_version").fetchone()[0]
    for statement in schema.upgrade_statements(version):
        transaction.execute(statement)
    if version == 0:
        transaction.execute("INSERT INTO identity VALUES (?)", (uuid4().hex,))
    transaction.execute(f"PRAGMA user_version = {schema.VERSION}")
    transaction.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")


class _CheckpointThread:
    """Moves the write-ahead log into the file at intervals, beside writers and readers."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="checkpoints", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._connection.close()

    def _run(self) -> None:
        while not self._stop.wait(_CHECKPOINT_SECONDS):
            try:
                self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
            except sqlite3.Error as error:
                # If the disk is at fault, the next transaction raises.
                log.debug("checkpoint failed: %s", error)


class _SqliteTransaction:
    """The `Transaction` of SQLite."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def execute(self, sql: str, parameters: Sequence[Any] = (), /) -> StatementResult:
        return self._connection.execute(sql, parameters)

    def executemany(self, sql: str, parameters: Iterable[Sequence[Any]], /) -> object:
        return self._connection.executemany(sql, parameters)

    def insert_if_new(self, table: str, rows: Sequence[Sequence[Any]], /) -> bool:
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


def sqlite_problem(error: sqlite3.Error, *, otherwise: str = "") -> str:
    """What SQLite says of an error, and what to do where that is about the disk, or `otherwise`."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    remedies = {
        sqlite3.SQLITE_FULL: "make room there, or name another file",
        # also what a full disk is where the index of the log cannot grow
        sqlite3.SQLITE_IOERR: "see whether its disk is full or fails",
    }
    remedy = remedies.get(code, otherwise)
    return f"{error}; {remedy}" if remedy else str(error)
