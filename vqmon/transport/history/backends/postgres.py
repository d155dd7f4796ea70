"""A history in a PostgreSQL database: connections, transactions, the writer lock, and reconnecting."""

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any
from uuid import uuid4

import psycopg
from psycopg import sql as quoting
from psycopg.conninfo import conninfo_to_dict

from vqmon.errors import NoHistoryError, SettingsError, StoreError, StoreRefusedError, StoreUnreachableError
from vqmon.transport.history.backends import schema as tables
from vqmon.transport.history.backends.base import OpenMode, StatementResult
from vqmon.transport.history.backends.location import PostgresAddress
from vqmon.transport.history.backends.views import PostgresDialect, make_views, views_digest
from vqmon.transport.secrets import read_secret

_SCHEMA = "vqmon"
_CONNECT_SECONDS = 5
_STATEMENT_SECONDS = 60
_LOCK_SECONDS = 30
FIRST_LOCK_SECONDS = 3
"""Lock timeout at the start, when a person waits; later the server may hold the lock for our lost connection."""
_MAX_QUERIES = 8
"""Queries at a time, each on a connection of its own; more queries wait."""

_OPTIONS = (
    f"-c search_path={_SCHEMA} -c statement_timeout={_STATEMENT_SECONDS}s -c lock_timeout={_LOCK_SECONDS}s"
    " -c idle_in_transaction_session_timeout=120s -c client_min_messages=warning"
    # So that the lock of a vanished host is released within half a minute.
    " -c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3"
)
_LOCK_UPGRADE = "SELECT pg_advisory_xact_lock(hashtextextended('vqmon.upgrade', 0))"
_LOST = (psycopg.OperationalError, psycopg.InterfaceError)


class PostgresDatabase:
    """A few connections for queries, and one that writes and holds the writer lock."""

    def __init__(self, address: PostgresAddress, mode: OpenMode) -> None:
        self._name, self._arguments = _connect_arguments(address)
        self._mode = mode
        self._idle: list[psycopg.Connection[Any]] = []
        self._query_slots = threading.BoundedSemaphore(_MAX_QUERIES)
        self._write_lock = threading.Lock()
        self._writer: psycopg.Connection[Any] | None = None
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise

    def query(self, sql: str, *values: Any) -> list[Any]:
        """Run one statement and return all its rows; retried once on a new connection when the old one was lost."""
        if not self._query_slots.acquire(timeout=_STATEMENT_SECONDS):
            raise StoreError(f"{self._name}: too many queries at once; none ended within {_STATEMENT_SECONDS} s")
        try:
            try:
                return self._run_query(sql, values)
            except StoreUnreachableError:
                self._close_idle()
                return self._run_query(sql, values)
        finally:
            self._query_slots.release()

    @contextmanager
    def transaction(self) -> Iterator["_PostgresTransaction"]:
        """Begin a transaction that commits all or nothing; after StoreUnreachableError it is not known which."""
        with self._write_lock:
            if self._mode == "read":
                raise StoreError(f"{self._name}: readonly: this history was opened for reading")
            if self._writer is None:
                self._writer = self._open_writer(within_seconds=_LOCK_SECONDS)
            connection = self._writer
            try:
                with self._translated_errors(connection), connection.transaction():
                    yield _PostgresTransaction(connection)
            except BaseException:
                if connection.broken or connection.closed:
                    self._writer = None
                raise

    def checkpoint(self) -> None:
        """Does nothing: the server checkpoints by itself."""

    def check(self) -> None:
        """Does nothing: the server checks its pages by itself."""

    def reopen(self) -> None:
        """Does nothing: a connection that broke is replaced by the next use."""

    def close(self) -> None:
        self._close_idle()
        writer, self._writer = self._writer, None
        if writer is not None:
            with suppress(psycopg.Error):
                writer.close()

    def _run_query(self, sql: str, values: Sequence[Any]) -> list[Any]:
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._connect()
        try:
            with self._translated_errors(connection):
                cursor = connection.execute(_to_psycopg(sql), values)
                rows = cursor.fetchall() if cursor.description else []
        except BaseException:
            connection.close()
            raise
        self._idle.append(connection)
        return rows

    def _close_idle(self) -> None:
        while self._idle:
            with suppress(psycopg.Error):
                self._idle.pop().close()

    def _connect(self) -> "psycopg.Connection[Any]":
        with self._translated_errors(None):
            return psycopg.connect(**self._arguments, autocommit=True)

    @contextmanager
    def _translated_errors(self, connection: "psycopg.Connection[Any] | None") -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            is_lost = isinstance(error, _LOST) and (connection is None or connection.broken or connection.closed)
            message = f"{self._name}: {_message_of(error)}"
            raise StoreUnreachableError(f"{message}; is the server up?") if is_lost else StoreError(message) from error

    def _open_writer(self, *, within_seconds: float) -> "psycopg.Connection[Any]":
        """Open a connection that holds the writer lock as long as it lives."""
        connection = self._connect()
        shared = "_shared" if self._mode == "record" else ""
        select_lock = f"SELECT pg_advisory_lock{shared}(hashtextextended('vqmon.writer', 0))"
        try:
            with self._translated_errors(connection):
                # The server may take a while to notice that an earlier holder is gone.
                connection.execute("SELECT set_config('lock_timeout', %s, false)", (f"{within_seconds}s",))
                if self._mode != "annotate":
                    connection.execute(select_lock)
                connection.execute("SELECT set_config('lock_timeout', %s, false)", (f"{_LOCK_SECONDS}s",))
        except BaseException as error:
            connection.close()
            if isinstance(error.__cause__, psycopg.errors.LockNotAvailable):
                message = f"another vqmon writes {self._name}; stop it, or name another database"
                raise StoreRefusedError(message) from error.__cause__
            raise
        return connection

    def _prepare(self) -> None:
        """Check that the tables are of this version; a writer creates or upgrades them."""
        version = self._version()
        tables.check_version(version, self._name)
        if self._mode == "read":
            if version < tables.VERSION:
                raise NoHistoryError(f"{self._name}: no history yet; run `vqmon run` or `vqmon record` first")
            return
        if version < tables.VERSION:
            with self._connect() as connection, self._translated_errors(connection), connection.transaction():
                self._upgrade(connection)
        self._make_views()
        self._writer = self._open_writer(within_seconds=FIRST_LOCK_SECONDS)

    def _make_views(self) -> None:
        """Make the public views when they are not those of this vqmon."""
        digest = [(views_digest(PostgresDialect()),)]
        if self._mode == "annotate" or self.query("SELECT digest FROM views") == digest:
            return
        with self._connect() as connection, self._translated_errors(connection), connection.transaction():
            connection.execute(_LOCK_UPGRADE)
            if connection.execute("SELECT digest FROM views").fetchall() != digest:
                make_views(_PostgresTransaction(connection), PostgresDialect())

    def _version(self) -> int:
        if not self.query("SELECT to_regclass(?)::text", f"{_SCHEMA}.about")[0][0]:
            return 0
        return int(self.query("SELECT version FROM about")[0][0])

    def _upgrade(self, connection: "psycopg.Connection[Any]") -> None:
        # Several processes may start at the same time; the first one upgrades.
        connection.execute(_LOCK_UPGRADE)
        cursor = connection.execute(
            "SELECT to_regclass(%s)::text, to_regnamespace(%s)::text", (f"{_SCHEMA}.about", _SCHEMA)
        )
        about, schema = cursor.fetchone() or (None, None)
        if not schema:
            # Only where it is missing: without the right to create schemas, an administrator creates it for us.
            connection.execute(quoting.SQL("CREATE SCHEMA {}").format(quoting.Identifier(_SCHEMA)))
        if not about:
            connection.execute("CREATE TABLE about (version BIGINT NOT NULL)")
            connection.execute("INSERT INTO about VALUES (0)")
        row = connection.execute("SELECT version FROM about").fetchone()
        version = int(row[0]) if row else 0
        for statement in tables.upgrade_statements(version):
            connection.execute(tables.to_postgres(statement))
        if version == 0:
            connection.execute("INSERT INTO identity VALUES (%s)", (uuid4().hex,))
            for table, column in tables.COMPRESSED_COLUMNS:
                connection.execute(f"ALTER TABLE {table} ALTER {column} SET STORAGE EXTERNAL")
        connection.execute("UPDATE about SET version = %s", (tables.VERSION,))


class _PostgresTransaction:
    """The `Transaction` of PostgreSQL."""

    def __init__(self, connection: "psycopg.Connection[Any]") -> None:
        self._connection = connection

    def execute(self, sql: str, parameters: Sequence[Any] = (), /) -> StatementResult:
        return self._connection.execute(_to_psycopg(sql), parameters)

    def executemany(self, sql: str, parameters: Iterable[Sequence[Any]], /) -> None:
        self._connection.cursor().executemany(_to_psycopg(sql), list(parameters))

    def insert_if_new(self, table: str, rows: Sequence[Sequence[Any]], /) -> bool:
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
def _to_psycopg(sql: str) -> Any:
    """Turn `?` parameters into psycopg's `%s`."""
    return sql.replace("%", "%%").replace("?", "%s")


def _connect_arguments(address: PostgresAddress) -> tuple[str, dict[str, Any]]:
    """The name of the database for messages, without secrets, and the arguments of `psycopg.connect`."""
    try:
        parts = conninfo_to_dict(address.url)
    except psycopg.ProgrammingError:
        # The message of psycopg contains the URL, which may contain a password.
        raise SettingsError(
            "history.url: is not a postgresql:// URL; write postgresql://user@host:5432/database"
        ) from None
    if parts.get("password"):
        raise SettingsError(
            "history.url: contains a password, which others could read; put it into a file and name that file in "
            "history.password_file"
        )
    user = f"{parts['user']}@" if parts.get("user") else ""
    port = f":{parts['port']}" if parts.get("port") else ""
    name = f"postgresql://{user}{parts.get('host', 'localhost')}{port}/{parts.get('dbname', '')}"
    defaults = {
        "application_name": "vqmon",
        "connect_timeout": _CONNECT_SECONDS,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 20_000,
    }
    secret = {}
    if address.password_file:
        secret["password"] = read_secret(address.password_file, setting="history.password_file")
    options = f"{parts.pop('options', None) or ''} {_OPTIONS}".strip()
    return name, {**defaults, **parts, **secret, "options": options}


def _message_of(error: psycopg.Error) -> str:
    """The server's message in one line, without the statement."""
    primary = error.diag.message_primary or str(error) or type(error).__name__
    return " ".join(primary.split())
