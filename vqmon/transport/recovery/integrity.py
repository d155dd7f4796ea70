"""The check of a whole history: its pages, and whether every outcome has its event."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from vqmon.errors import StoreError
from vqmon.transport.history.backends.base import Database
from vqmon.transport.history.backends.location import HistoryLocation
from vqmon.transport.history.documents import MAX_TIME, unpack_block
from vqmon.transport.history.history import open_database
from vqmon.transport.history.rows import pack_event_id
from vqmon.transport.recovery.readable_rows import ReadableRows, Row

BLOCK_COLUMNS = ("last", "dictionary_id", "body", "pictures")

_CHUNK_ROWS = 500
_MAX_LINES = 20
"""Damaged blocks that the report names; it counts all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IntegrityReport:
    """What a history holds, and what of it is damaged."""

    outcomes: int
    blocks: int
    # of the database's pages, as SQLite says it
    page_problems: Sequence[str]
    damaged_blocks: int
    # one line for each of the first damaged blocks
    block_problems: Sequence[str]
    # outcomes whose block is damaged or missing, or whose event is that of another outcome
    outcomes_without_event: int

    @property
    def is_sound(self) -> bool:
        """Whether nothing is damaged."""
        return not (self.page_problems or self.damaged_blocks or self.outcomes_without_event)


class _RowSource(Protocol):
    def page_problems(self) -> Sequence[str]: ...
    def rows(self, table: str, columns: Sequence[str], *, first: int = ..., last: int = ...) -> Iterator[Row]: ...
    def known_rowids(self, table: str) -> npt.NDArray[np.int64]: ...


def check_integrity(location: HistoryLocation) -> IntegrityReport:
    """Read a whole history, beside its writer too.

    Raises NoHistoryError when there is none, StoreError when it cannot be opened at all.
    """
    if isinstance(location, Path):
        with ReadableRows(location) as rows:
            return _check(rows)
    with closing(open_database(location, "read")) as database:
        return _check(_QueriedRows(database))


def unpack_row(row: Row, dictionaries: Mapping[int, bytes]) -> Sequence[bytes]:
    """The documents of a row (number, *BLOCK_COLUMNS) of table `document`; raises StoreError when it is damaged."""
    number, last, dictionary_id, body, pictures = row
    if not isinstance(last, int) or not all(isinstance(part, bytes | memoryview) for part in (body, pictures)):
        raise StoreError("a stored block of events is damaged: it has other types")
    if dictionary_id is not None and dictionary_id not in dictionaries:
        raise StoreError(f"a stored block of events needs dictionary {dictionary_id}, which is missing")
    documents = unpack_block(bytes(body), bytes(pictures), dictionaries.get(dictionary_id))
    if len(documents) != last - number + 1:
        raise StoreError(f"a stored block of events is damaged: {len(documents)} events for {number} to {last}")
    return documents


def read_dictionaries(rows: _RowSource) -> Mapping[int, bytes]:
    """The compression dictionaries of the blocks by id."""
    bodies = rows.rows("dictionary", ("body",))
    return {row[0]: bytes(row[1]) for row in bodies if isinstance(row[1], bytes | memoryview)}


def _check(rows: _RowSource) -> IntegrityReport:
    dictionaries = read_dictionaries(rows)
    blocks, problems = 0, list[str]()
    with_event: list[npt.NDArray[np.int64]] = [np.empty(0, np.int64)]
    wrong: set[int] = set()
    damaged = 0
    for row in rows.rows("document", BLOCK_COLUMNS):
        blocks += 1
        try:
            documents = unpack_row(row, dictionaries)
        except StoreError as error:
            damaged += 1
            if len(problems) < _MAX_LINES:
                problems.append(f"block {row[0]}: {error}")
            continue
        with_event.append(np.arange(row[0], row[1] + 1))
        for number, packed_id in rows.rows("outcome", ("id",), first=row[0], last=row[1]):
            if _packed_id(documents[number - row[0]]) != packed_id:
                wrong.add(number)
    # Read after the blocks: retention deletes a block no earlier than its outcomes.
    numbers = rows.known_rowids("outcome")
    sound = np.setdiff1d(np.concatenate(with_event), np.fromiter(wrong, np.int64))
    return IntegrityReport(
        outcomes=len(numbers),
        blocks=blocks,
        page_problems=rows.page_problems(),
        damaged_blocks=damaged,
        block_problems=problems,
        outcomes_without_event=len(np.setdiff1d(numbers, sound)),
    )


def _packed_id(document: bytes) -> bytes | None:
    try:
        return pack_event_id(json.loads(document)["id"])
    except (ValueError, KeyError, TypeError):
        return None


class _QueriedRows:
    """The rows of a PostgreSQL history up to its newest number; the server checks its pages by itself."""

    def __init__(self, database: Database) -> None:
        self._query = database.query
        self._tip = int(database.query("SELECT number FROM tip")[0][0])

    def page_problems(self) -> Sequence[str]:
        return []

    def rows(
        self, table: str, columns: Sequence[str], *, first: int = -MAX_TIME, last: int = MAX_TIME
    ) -> Iterator[Row]:
        key = "dictionary_id" if table == "dictionary" else "number"
        names = ", ".join((key, *columns))
        select = f"SELECT {names} FROM {table} WHERE {key} >= ? AND {key} <= ? ORDER BY {key} LIMIT {_CHUNK_ROWS}"
        while chunk := self._query(select, first, last):
            yield from (_with_bytes(row) for row in chunk)
            first = chunk[-1][0] + 1

    def known_rowids(self, table: str) -> npt.NDArray[np.int64]:
        return np.fromiter((row[0] for row in self.rows(table, (), last=self._tip)), np.int64)


def _with_bytes(row: Sequence[Any]) -> Row:
    return tuple(bytes(value) if isinstance(value, memoryview) else value for value in row)
