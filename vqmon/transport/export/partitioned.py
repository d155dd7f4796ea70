"""Exports a history as a folder of Parquet files, one per hour or day, that keeps what retention deletes."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from vqmon.core.types import Outcome
from vqmon.errors import SettingsError
from vqmon.transport.export.tables import parquet_module, parquet_schema, table_rows, write_parquet_rows
from vqmon.transport.history.documents import Documents
from vqmon.transport.history.history import History
from vqmon.transport.history.rows import from_microseconds, to_microseconds
from vqmon.whole_files import whole_file, write_whole_file

PartitionBy = Literal["hour", "day"]

_PARTITION_LENGTHS: Mapping[PartitionBy, timedelta] = {"hour": timedelta(hours=1), "day": timedelta(days=1)}
_PROGRESS_FILE = "_vqmon.json"
"""Next to the partitions: how far the export has come."""

_PARTITION_FILE = "outcomes.parquet"
_CHUNK_ROWS = 50_000
_FUTURE_TOLERANCE_US = 24 * 3600 * 1_000_000
"""A partition that begins so much later than the newest closed one is written at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportSummary:
    """How much an export wrote."""

    files: int
    rows: int


def export_partitions(
    history: History,
    folder: Path,
    *,
    period: PartitionBy = "hour",
    now: datetime,
    settle: timedelta = timedelta(minutes=10),
) -> ExportSummary:
    """Add what is new in a history to `date=2026-11-20/hour=13/outcomes.parquet`, by the start of segments, zstd.

    A partition is written when it ended at least `settle` ago. Run again, this writes only what is new: late outcomes
    are added to the file of their partition, and outcomes that retention has deleted stay in the files. An interrupted
    run leaves whole files, and the next run completes it.
    """
    if not folder.parent.is_dir():
        raise SettingsError(f"{folder.parent}: the folder does not exist; create it or name another")
    folder.mkdir(exist_ok=True)
    identity = history.queries.identity()
    exported_up_to = _read_progress(folder, period, identity)
    length = _PARTITION_LENGTHS[period] // timedelta(microseconds=1)
    closed_until = (to_microseconds(now - settle) // length) * length
    partitions, progress = _closed_partitions(history.documents, exported_up_to, length, closed_until)
    files = rows = 0
    for begins_at in sorted(partitions):
        span = (from_microseconds(begins_at), from_microseconds(begins_at + length))
        file = folder / _partition_path(span[0], period)
        count = _write_partition(history.documents, file, span, numbers=partitions[begins_at])
        files, rows = files + bool(count), rows + count
    _write_progress(folder, period, identity, progress)
    return ExportSummary(files=files, rows=rows)


def _closed_partitions(
    documents: Documents, exported_up_to: int, length: int, closed_until: int
) -> tuple[dict[int, tuple[int, int]], int]:
    """The closed partitions with outcomes written after a number, and the number up to which all are in such.

    Returns start in microseconds -> (first, last) number of these outcomes.
    """
    partitions: dict[int, tuple[int, int]] = {}
    first_open, last = None, exported_up_to
    while rows := documents.start_times_after(last, limit=_CHUNK_ROWS):
        for number, starts_at in rows:
            begins_at = starts_at - starts_at % length
            # A stream whose timeline runs ahead of the clock must not hold up all others.
            if begins_at + length <= closed_until or begins_at > closed_until + _FUTURE_TOLERANCE_US:
                partitions[begins_at] = (partitions.get(begins_at, (number,))[0], number)
            elif first_open is None:
                first_open = number
        last = rows[-1][0]
    return partitions, last if first_open is None else first_open - 1


def _write_partition(
    documents: Documents, file: Path, span: tuple[datetime, datetime], *, numbers: tuple[int, int]
) -> int:
    """Add the outcomes that the file of a partition lacks; returns how many rows that gave."""
    pq = parquet_module()
    exported_ids = set()
    if file.exists():
        try:
            exported_ids = set(pq.read_table(file, columns=["event_id"])["event_id"].to_pylist())
        except (OSError, ValueError) as error:
            raise SettingsError(f"{file}: is not a Parquet file of an export: {error}") from error
    outcomes: Iterator[Outcome] = documents.outcomes_in_write_order(
        since=span[0], until=span[1], after=numbers[0] - 1, up_to=numbers[1]
    )
    new_rows = (row for outcome in outcomes if outcome.id not in exported_ids for row in table_rows(outcome))
    first = next(new_rows, None)
    if first is None:
        return 0
    file.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(file) as sink, pq.ParquetWriter(sink, parquet_schema(), compression="zstd") as writer:
        if exported_ids:
            with pq.ParquetFile(file) as old:
                for index in range(old.num_row_groups):
                    writer.write_table(_with_all_columns(old.read_row_group(index)))
        return write_parquet_rows(writer, chain([first], new_rows))


def _with_all_columns(table: Any) -> Any:
    """A table of an older version with the columns that were added since."""
    import pyarrow as pa

    schema = parquet_schema()
    arrays = [
        table[field.name] if field.name in table.column_names else pa.nulls(len(table), field.type) for field in schema
    ]
    return pa.table(arrays, schema=schema)


def _partition_path(begins_at: datetime, period: PartitionBy) -> Path:
    date = Path(f"date={begins_at:%Y-%m-%d}")
    return date / f"hour={begins_at:%H}" / _PARTITION_FILE if period == "hour" else date / _PARTITION_FILE


def _read_progress(folder: Path, period: PartitionBy, identity: str) -> int:
    """The number up to which all outcomes of this history are in the files."""
    file = folder / _PROGRESS_FILE
    if not file.exists():
        return 0
    try:
        progress = json.loads(file.read_text(encoding="utf-8"))
        number, partition_by, exported_identity = int(progress["number"]), str(progress["each"]), progress["history"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SettingsError(
            f"{file}: cannot be read ({error}); remove it to compare the folder from scratch"
        ) from error
    if partition_by != period:
        raise SettingsError(f"{folder}: holds a file per {partition_by}; use --by {partition_by}, or another folder")
    # For another history start from scratch: outcomes that both share are recognized by their ids.
    return number if exported_identity == identity else 0


def _write_progress(folder: Path, period: PartitionBy, identity: str, number: int) -> None:
    content = json.dumps({"number": number, "each": period, "history": identity})
    write_whole_file(folder / _PROGRESS_FILE, f"{content}\n")
