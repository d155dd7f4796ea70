"""Copies all that can be read of a damaged SQLite history into a new one.

The events in their blocks are the source of truth: zlib's checksum tells whether they are as they were written. The row
of an outcome is made anew from its event, also where the row itself is lost.
"""

import json
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from vqmon.core.types import Outcome, QualityEvent
from vqmon.errors import StoreError, WireError
from vqmon.transport.history.backends.base import Transaction
from vqmon.transport.history.backends.sqlite import SqliteDatabase, hold_writer_lock
from vqmon.transport.history.documents import end_from_row
from vqmon.transport.history.inserts import insert_seen_segments
from vqmon.transport.history.maintenance import Maintenance
from vqmon.transport.history.rows import (
    encode_facts,
    from_microseconds,
    outcome_columns,
    pack_event_id,
    parse_heat_maps,
    storable_text,
)
from vqmon.transport.recovery.integrity import BLOCK_COLUMNS, read_dictionaries, unpack_row
from vqmon.transport.recovery.readable_rows import ReadableRows, Row
from vqmon.transport.wire import cloudevents

_CHUNK_BLOCKS = 64
_CHUNK_ROWS = 1000
_TYPES: Mapping[str, tuple[type, ...]] = {"INTEGER": (int,), "REAL": (float, int), "TEXT": (str,), "BLOB": (bytes,)}
_Values = Mapping[str, Any]
"""A row by column."""
_WRONG_ROW = (WireError, ValueError, KeyError, TypeError, OverflowError)


@dataclass(frozen=True, slots=True, kw_only=True)
class SalvageCount:
    """How many rows of one kind were saved, and how many are known to be lost."""

    saved: int
    lost: int


def salvage(old: Path, new: Path) -> Mapping[str, SalvageCount]:
    """Copy what can be read of `old`, which stays as it is, into the new history `new`; returns the counts by kind.

    Raises StoreError when `new` exists, `old` is in use, or its first page or list of tables is damaged.
    """
    if new.exists():
        raise StoreError(f"{new}: exists; name a new file")
    if not new.absolute().parent.is_dir():
        raise StoreError(f"{new}: the folder does not exist; create it or name another file")
    partial = new.with_name(f"{new.name}.partial")
    with hold_writer_lock(old), ReadableRows(old) as rows:
        try:
            _remove(partial)
            with closing(SqliteDatabase(partial, "write")) as database:
                counts = _Salvage(rows, database).run()
                database.check()
                database.checkpoint()
            partial.rename(new)
        finally:
            _remove(partial)
    return counts


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


class _Salvage:
    """One run; numbers and ids stay as they are."""

    def __init__(self, rows: ReadableRows, database: SqliteDatabase) -> None:
        self._rows = rows
        self._database = database
        self._old_tables = rows.tables()
        self._counts: dict[str, SalvageCount] = {}
        self._published: Counter[str] = Counter()
        # (stream, name) -> rendition_id
        self._renditions: dict[tuple[str, str], int] = {}

    def run(self) -> Mapping[str, SalvageCount]:
        self._copy("rendition")
        self._copy("scorer")
        old_scorers = {row[0] for row in self._database.query("SELECT scorer_id FROM scorer")} | {0}
        self._copy("dictionary")
        self._copy_outcomes()
        while Maintenance(self._database).roll_up():
            pass
        self._copy("rollup", lambda row: row["scorer_id"] in old_scorers and row["scored"] + row["unscored"] > 0)
        self._copy("alert", _is_alert)
        self._copy("ended", _is_end)
        self._copy("marker", lambda row: bool(from_microseconds(row["at"])))
        self._copy("thumbnail", lambda row: self._has("outcome", "number", row["number"]))
        self._copy("evidence", self._has_alert)
        self._copy("evidence_heat_maps", lambda row: self._has_alert(row) and bool(parse_heat_maps(row["document"])))
        self._copy("outbox", lambda row: self._has_alert(row) and _is_queued(row))
        self._copy("state", lambda row: bool(cloudevents.parse_state(row["document"])))
        self._copy("cursor", lambda row: bool(from_microseconds(row["ends_at"])))
        self._copy("input_decision", lambda row: bool(cloudevents.parse_decision(row["document"])))
        for table in ("record_offset", "seen", "published"):
            self._copy(table)
        with self._database.transaction() as transaction:
            self._write_totals(transaction)
        return self._counts

    def _has(self, table: str, column: str, value: object) -> bool:
        return bool(self._database.query(f"SELECT 1 FROM {table} WHERE {column} = ?", value))

    def _has_alert(self, row: _Values) -> bool:
        return self._has("alert", "id", row["alert_id"])

    def _copy(self, table: str, is_right: Callable[[_Values], bool] = lambda row: True) -> None:
        """Copy the rows of a table that can be read, have the right types and are `is_right`."""
        if table not in self._old_tables:
            return
        shape = self._database.query(f"PRAGMA table_info({table})")
        columns = [column[1] for column in shape]
        marks = ", ".join("?" * len(columns))
        # A minute's totals of the old file have outcomes that retention deleted or that are lost, those made from the
        # saved outcomes have what was not rolled up yet.
        rule = "OR REPLACE" if table == "rollup" else "OR IGNORE"
        saved = array("q")
        for chunk in _in_chunks(self._rows.rows(table, columns), _CHUNK_ROWS):
            with self._database.transaction() as transaction:
                for rowid, *values in chunk:
                    row = dict(zip(columns, values, strict=True))
                    if not _has_types(shape, values) or not _passes(is_right, row):
                        continue
                    saved.append(rowid)
                    if table != "rollup" or not self._has_larger_rollup(row):
                        transaction.execute(f"INSERT {rule} INTO {table} VALUES ({marks})", values)
        self._count(table, saved)

    def _count(self, table: str, saved: "array[int]") -> None:
        lost = np.setdiff1d(self._rows.known_rowids(table), np.asarray(saved, np.int64))
        self._counts[table] = SalvageCount(saved=len(saved), lost=len(lost))

    def _has_larger_rollup(self, row: _Values) -> bool:
        key = (row["rendition_id"], row["begins_at"], row["scorer_id"])
        select = "SELECT scored + unscored FROM rollup WHERE rendition_id = ? AND begins_at = ? AND scorer_id = ?"
        counts = self._database.query(select, *key)
        return bool(counts) and counts[0][0] > row["scored"] + row["unscored"]

    def _copy_outcomes(self) -> None:
        """Copy the sound blocks of events, and write the rows of their outcomes."""
        for id, stream_id, name in self._database.query("SELECT rendition_id, stream_id, name FROM rendition"):
            self._renditions[stream_id, name] = id
        known = self._rows.known_rowids("outcome")
        # Of the oldest block retention may have deleted some outcomes.
        first_number = int(known[0]) if len(known) else 0
        dictionaries = read_dictionaries(self._rows)
        stores_seen = "seen" in self._old_tables and bool(len(self._rows.known_rowids("seen")))
        saved = array("q")
        for chunk in _in_chunks(self._rows.rows("document", BLOCK_COLUMNS), _CHUNK_BLOCKS):
            with self._database.transaction() as transaction:
                for block in chunk:
                    outcomes = _outcomes_of(block, dictionaries, first_number=first_number)
                    if not outcomes:
                        continue
                    transaction.execute("INSERT OR IGNORE INTO document VALUES (?, ?, ?, ?, ?)", block)
                    saved.extend(self._insert_outcomes(transaction, outcomes))
                    if stores_seen:
                        insert_seen_segments(transaction, outcomes.values())
        self._count("outcome", saved)

    def _insert_outcomes(self, transaction: Transaction, outcomes: Mapping[int, Outcome]) -> Iterator[int]:
        """Insert outcomes by number; yields the numbers of those that are new."""
        for number, outcome in outcomes.items():
            row = (
                *(number, pack_event_id(outcome.id), self._rendition_id(transaction, number, outcome)),
                *(*outcome_columns(outcome), encode_facts(outcome)),
            )
            if transaction.insert_if_new("outcome", [row]):
                self._published["" if isinstance(outcome, QualityEvent) else outcome.reason] += 1
                yield number

    def _rendition_id(self, transaction: Transaction, number: int, outcome: Outcome) -> int:
        """The id of the outcome's rendition; one that is lost gets the id that the old rows of its outcomes have."""
        rendition = outcome.segment.rendition
        key = storable_text(rendition.stream_id), storable_text(rendition.name)
        if key not in self._renditions:
            taken = set(self._renditions.values())
            ids = [row[1] for row in self._rows.rows("outcome", ("rendition_id",), first=number, last=number)]
            if not ids or not isinstance(ids[0], int) or ids[0] in taken:
                # Beyond the ids of all rollups, which are by this id.
                used = [row[1] for row in self._rows.rows("rollup", ("rendition_id",)) if isinstance(row[1], int)]
                ids = [max((*taken, *used), default=0) + 1]
            self._renditions[key] = ids[0]
            transaction.execute(
                "INSERT INTO rendition VALUES (?, ?, ?, ?, ?, ?)",
                (ids[0], *key, rendition.width, rendition.height, rendition.bitrate_kbps),
            )
        return self._renditions[key]

    def _write_totals(self, transaction: Transaction) -> None:
        """The counter of writes, the id of the history, and how many outcomes were published by reason."""
        old_tips = [row[1] for row in self._rows.rows("tip", ("number",)) if isinstance(row[1], int)]
        newest = [
            transaction.execute(f"SELECT coalesce(max({column}), 0) FROM {table}").fetchone()[0]
            for table, column in (("outcome", "number"), ("alert", "number"), ("ended", "number"), ("document", "last"))
        ]
        transaction.execute("UPDATE tip SET number = ?", (max((*old_tips, *newest)),))
        for _, identity in self._rows.rows("identity", ("id",)):
            if isinstance(identity, str) and len(identity) == 32 and identity.isalnum():
                transaction.execute("UPDATE identity SET id = ?", (identity,))
        transaction.executemany(
            "INSERT INTO published VALUES (?, ?) ON CONFLICT (reason) DO UPDATE SET"
            " total = max(published.total, excluded.total)",
            sorted(self._published.items()),
        )


def _outcomes_of(block: Row, dictionaries: Mapping[int, bytes], *, first_number: int) -> Mapping[int, Outcome]:
    """The outcomes of a block by number, from `first_number` on; those that can be read."""
    outcomes = {}
    try:
        documents = unpack_row(block, dictionaries)
    except StoreError:
        return {}
    for number, document in enumerate(documents, block[0]):
        if number >= first_number:
            try:
                outcomes[number] = cloudevents.parse_outcome(document)
            except WireError:
                continue
    return outcomes


def _has_types(shape: Sequence[Row], values: Sequence[object]) -> bool:
    """Whether the values are of the types of the columns; `shape` is SQLite's table_info."""
    for (_, _, type_name, is_required, _, key), value in zip(shape, values, strict=True):
        if value is None and (is_required or key):
            return False
        if value is not None and not isinstance(value, _TYPES[type_name]):
            return False
    return True


def _passes(is_right: Callable[[_Values], bool], row: _Values) -> bool:
    try:
        return is_right(row)
    except _WRONG_ROW:
        return False


def _is_alert(row: _Values) -> bool:
    return bool(cloudevents.parse_alert(row["document"]).id == row["id"])


def _is_end(row: _Values) -> bool:
    return bool(end_from_row([row[column] for column in ("id", "stream_id", "rendition", "at", "why")]))


def _is_queued(row: _Values) -> bool:
    return bool(cloudevents.parse_alert(row["opened"])) and isinstance(json.loads(row["told"]), dict)


def _in_chunks(rows: Iterable[Row], size: int) -> Iterator[Sequence[Row]]:
    iterator = iter(rows)
    while chunk := list(islice(iterator, size)):
        yield chunk
