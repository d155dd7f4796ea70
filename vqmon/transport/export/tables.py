"""Exports outcomes of a history to one file for other tools: Parquet, CSV, or the CloudEvents as NDJSON."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import IO, Any, Literal, cast

from vqmon.core.scores import EXPORTED_MEASURES
from vqmon.core.types import AUDIO_MEASUREMENTS, SIGNALS, Outcome, QualityEvent
from vqmon.errors import SettingsError, install_extra
from vqmon.transport.history.documents import Documents
from vqmon.transport.history.rows import score_columns
from vqmon.whole_files import whole_file, write_problem

_FileFormat = Literal["parquet", "csv", "ndjson"]

CHUNK_ROWS = 5000
"""Rows in memory at a time; also the size of a Parquet row group."""

COLUMNS: Mapping[str, str] = {
    "event_id": "id of the outcome; the same for the same segment and scorers",
    "kind": "scored or unscored",
    "stream_id": "the stream",
    "rendition": "name of the rendition within the stream",
    "width": "pixels, as announced, else as decoded",
    "height": "pixels, as announced, else as decoded",
    "bitrate_kbps": "as announced",
    "codec": "as decoded",
    "sequence": "number of the segment within the rendition",
    "segment_key": "unique key of the segment",
    "starts_at": "start of the segment on the stream's timeline, UTC",
    "duration_seconds": "of the segment",
    "observed_at": "when the segment was observed, UTC",
    "stage": "where an unscored segment failed: source, fetch, decode or score",
    "reason": "why it is unscored, as a code",
    "detail": "why it is unscored, as text",
    "scorer": "name@version",
    "value": "score of the segment, 0..100, higher is better",
    "native_value": "the same on the scorer's own scale",
    "p5": "fifth percentile over the frames, 0..100",
    "min": "lowest frame, 0..100",
    "pooling": "how frame values were pooled into `value`",
    "frames": "how many frames were sampled",
    **{name: f"signal, highest frame value, 0..1: {meaning}" for name, meaning in SIGNALS.items()},
    **{f"reference_{name}": f"reference measure {name} of the segment" for name in EXPORTED_MEASURES},
    "reference_offset_seconds": "time in the reference minus time in the segment",
    "reference_confidence": "confidence of the alignment with the reference, 0..1",
    "unscored_reference": "why a segment that has a reference has no reference measures, as a code",
    "references": "all reference measures of the segment, as JSON: name -> value",
    "arm": "the label `arm`: the arm of an experiment",
    "labels": "all labels of the segment and its rendition; in CSV as JSON",
    "scorer_failures": "the scorers that gave no score for the segment, as JSON: name@version -> reason",
    **{f"audio_{name}": f"sound: {name}{unit and f', {unit}'}" for name, unit in AUDIO_MEASUREMENTS.items()},
    "unmeasured_audio": "why the sound was not measured, as a code",
    "subtitle_cues": "cues of each rendition of subtitles that was read, as JSON: name -> number",
    "subtitle_problems": "renditions of subtitles that were not read, as JSON: name -> code",
}
"""Every column of Parquet and CSV, in order; columns are only ever added, at the end."""

_SIGNAL_COLUMNS = tuple(SIGNALS)
_TIME_COLUMNS = ("starts_at", "observed_at")
_INTEGER_COLUMNS = ("width", "height", "sequence", "frames")
_FORMULA_PREFIXES = ("=", "+", "-", "@", "\t", "\r")
_SQLITE_MAGIC = b"SQLite format 3"
_REFERENCE_NUMBERS = (
    *(f"reference_{name}" for name in EXPORTED_MEASURES),
    "reference_offset_seconds",
    "reference_confidence",
)
_FLOAT_COLUMNS = (
    *("bitrate_kbps", "duration_seconds", "value", "native_value", "p5", "min"),
    *_SIGNAL_COLUMNS,
    *_REFERENCE_NUMBERS,
    *(f"audio_{name}" for name in AUDIO_MEASUREMENTS),
)


def export_outcomes(
    documents: Documents,
    file: Path,
    *,
    file_format: str | None = None,
    stream_id: str = "",
    rendition: str = "",
    since: datetime | None = None,
    until: datetime | None = None,
) -> int:
    """Write the outcomes of segments with `since` <= start < `until`; returns how many rows that gave.

    One row per outcome and scorer, one row for an unscored outcome; in NDJSON one line per outcome. `file_format` is
    "parquet", "csv" or "ndjson", by default from the file's suffix. The file appears when it is complete. In CSV, an
    apostrophe is put before a text that a spreadsheet would run as a formula. Raises SettingsError when the file
    is a database.
    """
    file_format = _file_format(file, file_format)
    _refuse_database(file)
    with whole_file(file) as sink:
        if file_format == "ndjson":
            lines = documents.documents_in_write_order(
                stream_id=stream_id, rendition=rendition, since=since, until=until
            )
            return sum(1 for line in lines if sink.write(line + b"\n"))
        outcomes = documents.outcomes_in_write_order(stream_id=stream_id, rendition=rendition, since=since, until=until)
        rows = (row for outcome in outcomes for row in table_rows(outcome))
        return _write_parquet(sink, rows) if file_format == "parquet" else _write_csv(sink, rows)


def write_outcomes_csv(outcomes: Sequence[Outcome], file: Path) -> None:
    """Write outcomes as rows of COLUMNS to a CSV; raises SettingsError when it cannot be written or is a database."""
    _refuse_database(file)
    with whole_file(file) as sink:
        _write_csv(sink, (row for outcome in outcomes for row in table_rows(outcome)))


def table_rows(outcome: Outcome) -> Iterator[dict[str, Any]]:
    """An outcome as rows of COLUMNS: one per scorer, or one with the reason why there is no score."""
    if not isinstance(outcome, QualityEvent):
        yield _outcome_cells(outcome) | {"stage": outcome.stage, "reason": outcome.reason, "detail": outcome.detail}
        return
    signals = {name: signal.max for name, signal in outcome.signals.items() if name in _SIGNAL_COLUMNS}
    for score in outcome.scores or (None,):
        yield (
            _outcome_cells(outcome)
            | signals
            | _failure_cells(outcome)
            | _reference_cells(outcome)
            | _audio_cells(outcome)
            | _subtitle_cells(outcome)
            | (score_columns(score) if score else {})
        )


def _outcome_cells(outcome: Outcome) -> dict[str, Any]:
    segment, rendition = outcome.segment, outcome.segment.rendition
    media = outcome.media if isinstance(outcome, QualityEvent) else None
    return dict.fromkeys(COLUMNS) | {
        "event_id": outcome.id,
        "kind": "scored" if media else "unscored",
        "stream_id": rendition.stream_id,
        "rendition": rendition.name,
        "width": rendition.width or (media.width if media else None),
        "height": rendition.height or (media.height if media else None),
        "bitrate_kbps": rendition.bitrate_kbps,
        "codec": media.codec if media else None,
        "sequence": segment.sequence,
        "segment_key": segment.key,
        "starts_at": segment.starts_at,
        "duration_seconds": segment.duration_seconds,
        "observed_at": outcome.observed_at,
        "frames": len(outcome.times_seconds) if isinstance(outcome, QualityEvent) else 0,
        "arm": segment.all_labels.get("arm"),
        "labels": segment.all_labels,
    }


def _failure_cells(event: QualityEvent) -> dict[str, Any]:
    reasons = {failure.scorer: failure.reason for failure in event.scorer_failures}
    return {"scorer_failures": json.dumps(reasons, separators=(",", ":"))} if reasons else {}


def _audio_cells(event: QualityEvent) -> dict[str, Any]:
    measured = event.audio.measurements if event.audio else {}
    return {f"audio_{name}": value for name, value in measured.items()} | {
        "unmeasured_audio": event.unmeasured_audio or None
    }


def _subtitle_cells(event: QualityEvent) -> dict[str, Any]:
    columns = {"subtitle_cues": event.subtitle_cues, "subtitle_problems": event.subtitle_problems}
    return {name: json.dumps(values, separators=(",", ":")) for name, values in columns.items() if values}


def _reference_cells(event: QualityEvent) -> dict[str, Any]:
    cells: dict[str, Any] = {"unscored_reference": event.unscored_reference or None}
    if event.references:
        values = {reference.measure: reference.value for reference in event.references}
        cells |= {f"reference_{name}": values[name] for name in EXPORTED_MEASURES if name in values}
        cells["references"] = json.dumps(values, separators=(",", ":"))
    if event.reference_pairing is not None:
        cells["reference_offset_seconds"] = event.reference_pairing.offset_seconds
        cells["reference_confidence"] = event.reference_pairing.confidence
    return cells


def _file_format(file: Path, requested: str | None) -> _FileFormat:
    suffix = file.suffix.lower().lstrip(".")
    chosen = requested or {"jsonl": "ndjson", "pq": "parquet"}.get(suffix, suffix)
    if chosen not in ("parquet", "csv", "ndjson"):
        raise SettingsError(f"{file}: cannot tell the format from the suffix; use --format parquet, csv or ndjson")
    return cast(_FileFormat, chosen)


def _refuse_database(file: Path) -> None:
    """Raise SettingsError for a database, or a file that SQLite or vqmon keeps next to one, whatever its name."""
    real = file.resolve()
    owners = [real.with_name(real.name.removesuffix(suffix)) for suffix in ("-wal", "-shm", "-journal", ".lock")]
    for path in (real, *owners):
        try:
            if not path.is_file():
                continue
            with path.open("rb") as opened:
                is_database = opened.read(len(_SQLITE_MAGIC)) == _SQLITE_MAGIC
        except OSError as error:
            # it is read first, as it might be a database
            raise SettingsError(f"{path}: {write_problem(error)}") from error
        if is_database:
            raise SettingsError(f"{file}: is a database, or belongs to one; name another file for the export")


def _chunks(rows: Iterator[dict[str, Any]]) -> Iterator[Sequence[dict[str, Any]]]:
    while chunk := list(islice(rows, CHUNK_ROWS)):
        yield chunk


def _write_csv(sink: IO[bytes], rows: Iterator[dict[str, Any]]) -> int:
    count = 0
    buffer = _CsvBuffer()
    # With "\n" alone, csv would not quote a text with "\r", which other readers take for the end of a row.
    writer = csv.DictWriter(buffer, fieldnames=tuple(COLUMNS), lineterminator="\r\n")
    writer.writeheader()
    for chunk in _chunks(rows):
        writer.writerows(_csv_cells(row) for row in chunk)
        sink.write(buffer.take())
        count += len(chunk)
    sink.write(buffer.take())
    return count


def _csv_cells(row: dict[str, Any]) -> dict[str, Any]:
    times = {name: row[name].isoformat() for name in _TIME_COLUMNS}
    texts = {name: cell for name, cell in row.items() if isinstance(cell, str)}
    texts["labels"] = json.dumps(row["labels"], ensure_ascii=False, separators=(",", ":"))
    return (
        row
        | times
        | {"labels": texts["labels"]}
        | {name: f"'{text}" for name, text in texts.items() if text.startswith(_FORMULA_PREFIXES)}
    )


class _CsvBuffer:
    """Collects what the csv module writes, as bytes."""

    def __init__(self) -> None:
        self._written: list[str] = []

    def write(self, text: str) -> None:
        self._written.append(text)

    def take(self) -> bytes:
        written, self._written = "".join(self._written), []
        return written.encode(errors="replace")


def _write_parquet(sink: IO[bytes], rows: Iterator[dict[str, Any]]) -> int:
    pq = parquet_module()
    with pq.ParquetWriter(sink, parquet_schema(), compression="zstd") as writer:
        return write_parquet_rows(writer, rows)


def parquet_module() -> Any:
    """`pyarrow.parquet`, which is large and needed by nothing else; raises SettingsError when it is not installed."""
    try:
        import pyarrow.parquet as pq
    except ImportError as error:
        raise SettingsError(f"Parquet needs pyarrow: {install_extra('parquet')}, or write .csv or .ndjson") from error
    return pq


def write_parquet_rows(writer: Any, rows: Iterator[dict[str, Any]]) -> int:
    """Write rows of COLUMNS to a `pyarrow.parquet.ParquetWriter` in chunks; returns how many."""
    import pyarrow as pa

    count = 0
    for chunk in _chunks(rows):
        writer.write_table(
            pa.Table.from_pylist(
                [row | {"labels": list(row["labels"].items())} for row in chunk], schema=parquet_schema()
            )
        )
        count += len(chunk)
    return count


def parquet_schema() -> Any:
    """The Arrow schema of COLUMNS, with their descriptions."""
    import pyarrow as pa

    def type_of(name: str) -> pa.DataType:
        if name in _TIME_COLUMNS:
            return pa.timestamp("us", tz="UTC")
        if name == "labels":
            return pa.map_(pa.string(), pa.string())
        return pa.int64() if name in _INTEGER_COLUMNS else pa.float64() if name in _FLOAT_COLUMNS else pa.string()

    return pa.schema(
        [pa.field(name, type_of(name), metadata={"description": description}) for name, description in COLUMNS.items()]
    )
