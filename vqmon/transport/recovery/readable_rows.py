"""The rows of a damaged SQLite file that can still be read."""

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from vqmon.transport.history.backends.sqlite import open_read_only

_MIN_ROWID, _MAX_ROWID = -(1 << 63), (1 << 63) - 1
_MAX_VALUE_BYTES = 256 << 20
"""A longer value is damage: SQLite refuses it before memory is reserved."""

_BISECTIONS = 10
"""How often the gap around an unreadable page is halved in search of readable rows: 1024 probes at most."""

_MAX_PROBLEMS = 20

_ReadErrors = (sqlite3.Error, MemoryError, OverflowError, UnicodeDecodeError)

Row = tuple[Any, ...]


class ReadableRows:
    """Reads a history of any version, passing what is unreadable; a context manager, for one thread."""

    def __init__(self, path: Path) -> None:
        self._connection = open_read_only(path)
        self._connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MAX_VALUE_BYTES)
        # Pages whose cells overlap or exceed the page are refused instead of giving rows of random bytes.
        self._connection.execute("PRAGMA cell_size_check = ON")
        # All that is read is of one moment, also beside a writer.
        self._connection.execute("BEGIN")
        self._is_whole = True
        self._known_rowids: dict[str, npt.NDArray[np.int64]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._connection.close()

    def page_problems(self) -> Sequence[str]:
        """What SQLite's `quick_check` finds, the first 20 lines; empty when all pages are in order."""
        try:
            rows = self._connection.execute(f"PRAGMA quick_check({_MAX_PROBLEMS})").fetchall()
        except _ReadErrors as error:
            return [str(error)]
        lines = [line for (text,) in rows for line in str(text).strip().splitlines()]
        return [] if lines == ["ok"] else lines[:_MAX_PROBLEMS]

    def tables(self) -> frozenset[str]:
        """The names of the tables that the file has."""
        return frozenset(row[0] for row in self._scan("SELECT name FROM sqlite_master WHERE type = 'table'"))

    def rows(
        self, table: str, columns: Sequence[str], *, first: int = _MIN_ROWID, last: int = _MAX_ROWID
    ) -> Iterator[Row]:
        """(rowid, *columns) of the rows with first <= rowid <= last that can be read, by ascending rowid.

        After an unreadable row it goes on from the next rowid that the table or an index has.
        """
        begin: int | None = first
        while begin is not None:
            newest = begin - 1
            for row in self._ascending(table, columns, begin, last):
                newest = row[0]
                yield row
            if self._is_whole:
                return
            known = self.known_rowids(table)
            # When the first row of this round was unreadable, it is passed.
            following = known[np.searchsorted(known, newest if newest >= begin else begin, "right") :]
            begin = int(following[0]) if len(following) and following[0] <= last else None

    def known_rowids(self, table: str) -> npt.NDArray[np.int64]:
        """The rowids that the table or one of its indexes has, ascending; rows among them may be unreadable.

        A block of events has the number of its first outcome, so `document` has those of `outcome` too.
        """
        if table not in self._known_rowids:
            found = [np.fromiter(self._bisected_rowids(table), np.int64), *self._indexed_rowids(table)]
            if table == "document":
                found.append(self.known_rowids("outcome"))
            self._known_rowids[table] = np.unique(np.concatenate(found))
        return self._known_rowids[table]

    def _indexed_rowids(self, table: str) -> Iterator[npt.NDArray[np.int64]]:
        """The rowids of each index, from both its ends up to an unreadable page."""
        for _, index, _, _, is_partial in list(self._scan(f"PRAGMA index_list({table})")):
            columns = [row[2] for row in self._scan(f'PRAGMA index_info("{index}")')]
            for order in () if is_partial else ("ASC", "DESC"):
                by = ", ".join(f"{column} {order}" for column in columns)
                select = f'SELECT rowid FROM {table} INDEXED BY "{index}" ORDER BY {by}'
                yield np.fromiter((row[0] for row in self._scan(select)), np.int64)
                if self._is_whole:
                    break

    def _bisected_rowids(self, table: str) -> Iterator[int]:
        """The rowids in the readable pages of a table, in no particular order.

        Reads from both ends up to an unreadable page, then bisects the range between them.
        """
        ranges = [(_MIN_ROWID, _MAX_ROWID, 0)]
        while ranges:
            low, high, bisections = ranges.pop()
            begin, end = low, high
            for (rowid,) in self._ascending(table, (), low, high):
                yield rowid
                low = rowid + 1
            if self._is_whole or low >= high:
                continue
            for (rowid,) in self._descending(table, low, high):
                yield rowid
                high = rowid - 1
            if self._is_whole or low >= high:
                continue
            bisections = bisections + 1 if (low, high) == (begin, end) else 0
            if bisections <= _BISECTIONS:
                middle = (low + high) // 2
                ranges += [(middle + 1, high, bisections), (low, middle, bisections)]

    def _ascending(self, table: str, columns: Sequence[str], low: int, high: int) -> Iterator[Row]:
        """Rows of a range up to an unreadable one."""
        select = _select(table, columns, "ASC")
        for row in self._scan(select, low, high):
            if row[0] >= low:
                low = row[0] + 1
                yield row
        if not self._is_whole and low <= high:
            # Python's sqlite3 reads a row ahead: an unreadable row takes the one before it away.
            yield from self._scan(f"{select} LIMIT 1", low, high)
            self._is_whole = False

    def _descending(self, table: str, low: int, high: int) -> Iterator[Row]:
        select = _select(table, (), "DESC")
        for row in self._scan(select, low, high):
            if row[0] <= high:
                high = row[0] - 1
                yield row
        if not self._is_whole and low <= high:
            yield from self._scan(f"{select} LIMIT 1", low, high)
            self._is_whole = False

    def _scan(self, sql: str, *values: int) -> Iterator[Row]:
        """The rows of a query up to the first error; `_is_whole` tells whether there was none."""
        try:
            yield from self._connection.execute(sql, values)
        except _ReadErrors:
            self._is_whole = False
            return
        self._is_whole = True


def _select(table: str, columns: Sequence[str], order: str) -> str:
    names = ", ".join(("rowid", *columns))
    return f"SELECT {names} FROM {table} NOT INDEXED WHERE rowid BETWEEN ? AND ? ORDER BY rowid {order}"
