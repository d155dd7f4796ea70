"""A history in a PostgreSQL database: connections, transactions, who may write, and coming back after a loss."""

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any
from uuid import uuid4

import psycopg
from psycopg import sql as quoting
from psycopg.conninfo import conninfo_to_dict

from vqmon.errors import NoHistoryError, SettingsError, StoreError, StoreUnreachableError
from vqmon.transport.history.backends import schema as tables
from vqmon.transport.history.backends.base import Mode, Rows
from vqmon.transport.history.backends.location import Server
from vqmon.transport.secrets import read_secret

SCHEMA = "vqmon"
CONNECT_SECONDS = 5
STATEMENT_SECONDS = 60
LOCK_SECONDS = 30
FIRST_LOCK_SECONDS = 3
"""At the start a person waits for the answer; after a loss, the server may still hold the lock for our old self."""
READERS = 8
"""Connections that ask at a time; more questions wait for one of them."""

_OPTIONS = (
    f"-c search_path={SCHEMA} -c statement_timeout={STATEMENT_SECONDS}s -c lock_timeout={LOCK_SECONDS}s"
    " -c idle_in_transaction_session_timeout=120s -c client_min_messages=warning"
    # So that a lock of a host that vanished is free within half a minute.
    " -c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3"
)
_LOST = (psycopg.OperationalError, psycopg.InterfaceError)


class PostgresDatabase:
    """A few connections that ask, and one that writes and holds the right to."""

    def __init__(self, server: Server, mode: Mode) -> None:
        self._name, self._arguments = _arguments_of(server)
        self._mode = mode
        self._idle: list[psycopg.Connection[Any]] = []
        self._places = threading.BoundedSemaphore(READERS)
        self._writing = threading.Lock()
        self._writer: psycopg.Connection[Any] | None = None
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise

    def ask(self, sql: str, *values: Any) -> list[Any]:
        """Run one statement and give all its rows; on a connection that was lost meanwhile, once more on a new one."""
        if not self._places.acquire(timeout=STATEMENT_SECONDS):
            raise StoreError(f"{self._name}: too many questions at once; none was answered in {STATEMENT_SECONDS} s")
        try:
            try:
                return self._asked(sql, values)
            except StoreUnreachableError:
                self._forget_idle()
                return self._asked(sql, values)
        finally:
            self._places.release()

    @contextmanager
    def transaction(self) -> Iterator["_Transaction"]:
        """All or nothing; after StoreUnreachableError it is not known which."""
        with self._writing:
            if self._mode == "read":
                raise StoreError(f"{self._name}: readonly: this history was opened to be read")
            if self._writer is None:
                self._writer = self._open_writer(within_seconds=LOCK_SECONDS)
            connection = self._writer
            try:
                with self._translated(connection), connection.transaction():
                    yield _Transaction(connection)
            except BaseException:
                if connection.broken or connection.closed:
                    self._writer = None
                raise

    def checkpoint(self) -> None:
        """The server does that by itself."""

    def close(self) -> None:
        self._forget_idle()
        writer, self._writer = self._writer, None
        if writer is not None:
            with suppress(psycopg.Error):
                writer.close()

    def _asked(self, sql: str, values: Sequence[Any]) -> list[Any]:
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._connect()
        try:
            with self._translated(connection):
                found = connection.execute(in_their_words(sql), values)
                rows = found.fetchall() if found.description else []
        except BaseException:
            connection.close()
            raise
        self._idle.append(connection)
        return rows

    def _forget_idle(self) -> None:
        while self._idle:
            with suppress(psycopg.Error):
                self._idle.pop().close()

    def _connect(self) -> "psycopg.Connection[Any]":
        with self._translated(None):
            return psycopg.connect(**self._arguments, autocommit=True)

    @contextmanager
    def _translated(self, connection: "psycopg.Connection[Any] | None") -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            is_lost = isinstance(error, _LOST) and (connection is None or connection.broken or connection.closed)
            told = f"{self._name}: {_said(error)}"
            raise StoreUnreachableError(f"{told}; is the server up?") if is_lost else StoreError(told) from error

    def _open_writer(self, *, within_seconds: float) -> "psycopg.Connection[Any]":
        """A connection that holds the right to write as long as it lives."""
        connection = self._connect()
        shared = "_shared" if self._mode == "record" else ""
        lock = f"SELECT pg_advisory_lock{shared}(hashtextextended('vqmon.writer', 0))"
        try:
            with self._translated(connection):
                # The server may take a while to see that an earlier holder is gone.
                connection.execute("SELECT set_config('lock_timeout', %s, false)", (f"{within_seconds}s",))
                if self._mode != "mark":
                    connection.execute(lock)
                connection.execute("SELECT set_config('lock_timeout', %s, false)", (f"{LOCK_SECONDS}s",))
        except BaseException as error:
            connection.close()
            if isinstance(error.__cause__, psycopg.errors.LockNotAvailable):
                told = f"another vqmon writes {self._name}; stop it, or name another database"
                raise StoreError(told) from error.__cause__
            raise
        return connection

    def _prepare(self) -> None:
        """See that the tables are of this version; make or upgrade them when writing."""
        version = self._version()
        tables.check_version(version, self._name)
        if self._mode == "read":
            if version < tables.VERSION:
                raise NoHistoryError(f"{self._name}: no history yet; run `vqmon run` or `vqmon record` first")
            return
        if version < tables.VERSION:
            with self._connect() as connection, self._translated(connection), connection.transaction():
                self._upgrade(connection)
        self._writer = self._open_writer(within_seconds=FIRST_LOCK_SECONDS)

    def _version(self) -> int:
        if not self.ask("SELECT to_regclass(?)::text", f"{SCHEMA}.about")[0][0]:
            return 0
        return int(self.ask("SELECT version FROM about")[0][0])

    def _upgrade(self, connection: "psycopg.Connection[Any]") -> None:
        # Several may start at the same time; the first one does it.
        connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('vqmon.upgrade', 0))")
        found = connection.execute(
            "SELECT to_regclass(%s)::text, to_regnamespace(%s)::text", (f"{SCHEMA}.about", SCHEMA)
        )
        about, schema = found.fetchone() or (None, None)
        if not schema:
            # Asked for only where it is missing: an owner may have made it for us.
            connection.execute(quoting.SQL("CREATE SCHEMA {}").format(quoting.Identifier(SCHEMA)))
        if not about:
            connection.execute("CREATE TABLE about (version BIGINT NOT NULL)")
            connection.execute("INSERT INTO about VALUES (0)")
        row = connection.execute("SELECT version FROM about").fetchone()
        version = int(row[0]) if row else 0
        for statement in tables.upgrade(version):
            connection.execute(tables.in_postgres(statement))
        if version == 0:
            connection.execute("INSERT INTO identity VALUES (%s)", (uuid4().hex,))
            for table, column in tables.ALREADY_PACKED:
                connection.execute(f"ALTER TABLE {table} ALTER {column} SET STORAGE EXTERNAL")
        connection.execute("UPDATE about SET version = %s", (tables.VERSION,))


class _Transaction:
    """PostgreSQL as a `database.Connection`."""

    def __init__(self, connection: "psycopg.Connection[Any]") -> None:
        self._connection = connection

    def execute(self, sql: str, parameters: Sequence[Any] = (), /) -> Rows:
        return self._connection.execute(in_their_words(sql), parameters)

    def executemany(self, sql: str, parameters: Iterable[Sequence[Any]], /) -> None:
        self._connection.cursor().executemany(in_their_words(sql), list(parameters))

    def insert_new(self, table: str, rows: Sequence[Sequence[Any]], /) -> bool:
        if not rows:
            return True
        try:
            with (
                self._connection.transaction(),
                self._connection.cursor() as cursor,
                cursor.copy(quoting.SQL("COPY {} FROM STDIN").format(quoting.Identifier(table))) as copy,
            ):
                for row in rows:
                    copy.write_row(row)
        except psycopg.errors.UniqueViolation:
            return False
        return True


@lru_cache(maxsize=256)
def in_their_words(sql: str) -> Any:
    """The same statement as psycopg wants it."""
    return sql.replace("%", "%%").replace("?", "%s")


def _arguments_of(server: Server) -> tuple[str, dict[str, Any]]:
    """What a person may read of the address, and what psycopg wants."""
    try:
        parts = conninfo_to_dict(server.url)
    except psycopg.ProgrammingError:
        # Its message holds the address, and that may hold a password.
        raise SettingsError("history.url: is no postgresql:// address; postgresql://user@host:5432/database") from None
    if parts.get("password"):
        raise SettingsError(
            "history.url: holds a password, which others could read; put it into a file and name that in "
            "history.password_file"
        )
    user = f"{parts['user']}@" if parts.get("user") else ""
    port = f":{parts['port']}" if parts.get("port") else ""
    name = f"postgresql://{user}{parts.get('host', 'localhost')}{port}/{parts.get('dbname', '')}"
    defaults = {
        "application_name": "vqmon",
        "connect_timeout": CONNECT_SECONDS,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 20_000,
    }
    secret = {"password": read_secret(server.password_file)} if server.password_file else {}
    options = f"{parts.pop('options', None) or ''} {_OPTIONS}".strip()
    return name, {**defaults, **parts, **secret, "options": options}


def _said(error: psycopg.Error) -> str:
    """The server's words in one line, without the statement."""
    primary = error.diag.message_primary or str(error) or type(error).__name__
    return " ".join(primary.split())
