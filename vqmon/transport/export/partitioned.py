"""The history as a folder of Parquet files, one per hour or day, that grows with it and outlives what it forgets."""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from vqmon.errors import SettingsError, StoreError
from vqmon.transport.export.tables import complete, parquet_schema, rows_of, write_rows
from vqmon.transport.history.queries import Questions
from vqmon.transport.history.rows import microseconds, moment_of

Each = Literal["hour", "day"]

LENGTHS: Mapping[Each, timedelta] = {"hour": timedelta(hours=1), "day": timedelta(days=1)}
MARK = "_vqmon.json"
"""How far an export has come, beside the files."""

FILE = "outcomes.parquet"
CHUNK_ROWS = 50_000
AHEAD = 24 * 3600 * 1_000_000
"""A part that begins so much later than the newest closed one is written at once; microseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What an export wrote."""

    files: int
    rows: int


def export_partitions(
    history: Questions, folder: Path, *, each: Each = "hour", now: datetime, settle: timedelta = timedelta(minutes=10)
) -> Exported:
    """Bring a folder up to the history: `date=2026-11-20/hour=13/outcomes.parquet`, by when segments start, zstd.

    A part is written when it ended `settle` ago. Run again, only what is new is written: outcomes that came late are
    added to the file of their part, and what the history has forgotten meanwhile stays in the files. Whatever moment a
    run ends at, the next one mends it.
    """
    if not folder.parent.is_dir():
        raise StoreError(f"{folder.parent}: the folder does not exist; create it or name another")
    folder.mkdir(exist_ok=True)
    begin = _begin(folder, each, history.identity())
    length = microseconds(datetime(1970, 1, 1, tzinfo=UTC) + LENGTHS[each])
    closed = (microseconds(now - settle) // length) * length
    parts, mark = _parts(history, begin, length, closed)
    files = rows = 0
    for begins_at in sorted(parts):
        span = (moment_of(begins_at), moment_of(begins_at + length))
        count = _write_part(history, folder / _place(span[0], each), span, numbers=parts[begins_at])
        files, rows = files + bool(count), rows + count
    _write_mark(folder, each, history.identity(), mark)
    return Exported(files=files, rows=rows)


def _parts(history: Questions, begin: int, length: int, closed: int) -> tuple[dict[int, tuple[int, int]], int]:
    """Closed parts that hold outcomes written after a number -> first and last such; how far all is in closed parts."""
    parts: dict[int, tuple[int, int]] = {}
    first_open, last = None, begin
    while rows := history.starts_after(last, limit=CHUNK_ROWS):
        for number, starts_at in rows:
            begins_at = starts_at - starts_at % length
            # A timeline that runs ahead of the clock must not hold up all others.
            if begins_at + length <= closed or begins_at > closed + AHEAD:
                parts[begins_at] = (parts.get(begins_at, (number,))[0], number)
            elif first_open is None:
                first_open = number
        last = rows[-1][0]
    return parts, last if first_open is None else first_open - 1


def _write_part(history: Questions, file: Path, span: tuple[datetime, datetime], *, numbers: tuple[int, int]) -> int:
    """Add to the file of a part what it does not hold; how many rows that were."""
    import pyarrow.parquet as pq

    known = set()
    if file.exists():
        try:
            known = set(pq.read_table(file, columns=["event_id"])["event_id"].to_pylist())
        except (OSError, ValueError) as error:
            raise StoreError(f"{file}: is no Parquet file of an export: {error}") from error
    outcomes = history.outcomes_in_order(since=span[0], until=span[1], after=numbers[0] - 1, up_to=numbers[1])
    new = (row for outcome in outcomes if outcome.id not in known for row in rows_of(outcome))
    first = next(new, None)
    if first is None:
        return 0
    file.parent.mkdir(parents=True, exist_ok=True)
    with complete(file) as sink, pq.ParquetWriter(sink, parquet_schema(), compression="zstd") as writer:
        if known:
            with pq.ParquetFile(file) as old:
                for number in range(old.num_row_groups):
                    # An older file may lack a column that came later.
                    writer.write_table(_widened(old.read_row_group(number)))
        return write_rows(writer, _chained(first, new))


def _chained(first: dict[str, Any], rest: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    yield first
    yield from rest


def _widened(table: Any) -> Any:
    import pyarrow as pa

    schema = parquet_schema()
    arrays = [
        table[field.name] if field.name in table.column_names else pa.nulls(len(table), field.type) for field in schema
    ]
    return pa.table(arrays, schema=schema)


def _place(begins_at: datetime, each: Each) -> Path:
    date = Path(f"date={begins_at:%Y-%m-%d}")
    return date / f"hour={begins_at:%H}" / FILE if each == "hour" else date / FILE


def _begin(folder: Path, each: Each, identity: str) -> int:
    """The number up to which everything of this history is in the files."""
    file = folder / MARK
    if not file.exists():
        return 0
    try:
        mark = json.loads(file.read_text(encoding="utf-8"))
        number, parts, of = int(mark["number"]), str(mark["each"]), mark["history"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{file}: cannot be read ({error}); remove it to have the folder compared anew") from error
    if parts != each:
        raise SettingsError(f"{folder}: holds a file per {parts}; use --by {parts}, or another folder")
    # Of another history nothing is known: what it shares with this one is found by the ids.
    return number if of == identity else 0


def _write_mark(folder: Path, each: Each, identity: str, number: int) -> None:
    unfinished = folder / f".{MARK}.{os.getpid()}.part"
    try:
        unfinished.write_text(
            json.dumps({"number": number, "each": each, "history": identity}) + "\n", encoding="utf-8"
        )
        unfinished.replace(folder / MARK)
    except OSError as error:
        raise StoreError(f"{folder}: cannot be written: {error.strerror or error}") from error
    finally:
        unfinished.unlink(missing_ok=True)
