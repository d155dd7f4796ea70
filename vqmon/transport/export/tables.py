"""The history as a file for other tools: Parquet, CSV, or the CloudEvents themselves as NDJSON."""

import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import IO, Any, Literal, cast

from vqmon.core.types import Outcome, QualityEvent, Score
from vqmon.errors import SettingsError, StoreError
from vqmon.transport.history.queries import Questions

Form = Literal["parquet", "csv", "ndjson"]

ROWS_PER_CHUNK = 5000
"""How many rows are in memory at a time; also the size of a Parquet row group."""

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
    "segment_key": "tells the segment from every other",
    "starts_at": "where the segment stands on the stream's timeline, UTC",
    "duration_seconds": "of the segment",
    "observed_at": "when it was looked at, UTC",
    "stage": "where an unscored segment failed: source, fetch, decode or score",
    "reason": "why it is unscored; a code",
    "detail": "why it is unscored; for people",
    "scorer": "name@version",
    "value": "score of the segment, 0..100, higher is better",
    "native_value": "the same on the scorer's own scale",
    "p5": "fifth percentile over the frames, 0..100",
    "min": "lowest frame, 0..100",
    "pooling": "how frames became `value`",
    "frames": "how many frames were looked at",
    "black": "signal, highest frame value, 0..1; so are those that follow",
    "solid": "",
    "freeze": "",
    "blockiness": "",
    "blur": "",
    "noise": "",
    "banding": "",
    "over_sharpness": "",
    "flicker": "",
    "borders": "",
    "decode_errors": "",
}
"""Every column of Parquet and CSV, in order; columns are only ever added, at the end."""

_SIGNALS = tuple(COLUMNS)[tuple(COLUMNS).index("black") :]
_MOMENTS = ("starts_at", "observed_at")
_WHOLE = ("width", "height", "sequence", "frames")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_DATABASE = b"SQLite format 3"
_NUMBERS = ("bitrate_kbps", "duration_seconds", "value", "native_value", "p5", "min", *_SIGNALS)


def export_outcomes(
    history: Questions,
    file: Path,
    *,
    form: str | None = None,
    stream_id: str = "",
    rendition: str = "",
    since: datetime | None = None,
    until: datetime | None = None,
) -> int:
    """Write the outcomes of segments that start within `since` <= start < `until`; how many rows that gave.

    One row per outcome and scorer, an unscored outcome being one row; in NDJSON one line per outcome. `form` is
    "parquet", "csv" or "ndjson", by default what the file's ending says. The file appears when it is complete. A text
    that a spreadsheet would run as a formula has an apostrophe before it in CSV. Raises SettingsError rather than write
    over a database.
    """
    chosen = _form(file, form)
    _refuse_database(file)
    with complete(file) as sink:
        if chosen == "ndjson":
            documents = history.documents_in_order(stream_id=stream_id, rendition=rendition, since=since, until=until)
            return sum(1 for document in documents if sink.write(document + b"\n"))
        outcomes = history.outcomes_in_order(stream_id=stream_id, rendition=rendition, since=since, until=until)
        rows = (row for outcome in outcomes for row in rows_of(outcome))
        return _write_parquet(sink, rows) if chosen == "parquet" else _write_csv(sink, rows)


def rows_of(outcome: Outcome) -> Iterator[dict[str, Any]]:
    """An outcome as rows of COLUMNS: one per scorer, or one that says why there is no score."""
    if not isinstance(outcome, QualityEvent):
        yield _common(outcome) | {"stage": outcome.stage, "reason": outcome.reason, "detail": outcome.detail}
        return
    signals = {name: signal.max for name, signal in outcome.signals.items() if name in _SIGNALS}
    for score in outcome.scores or (None,):
        yield _common(outcome) | signals | _score(score)


def _common(outcome: Outcome) -> dict[str, Any]:
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
    }


def _score(score: Score | None) -> dict[str, Any]:
    if score is None:
        return {}
    return {
        "scorer": score.scorer,
        "value": score.value,
        "native_value": score.native_value,
        "p5": score.p5,
        "min": score.min,
        "pooling": score.pooling,
    }


def _form(file: Path, form: str | None) -> Form:
    ending = file.suffix.lower().lstrip(".")
    chosen = form or {"jsonl": "ndjson", "pq": "parquet"}.get(ending, ending)
    if chosen not in ("parquet", "csv", "ndjson"):
        raise SettingsError(f"{file}: cannot tell the format by the ending; use --format parquet, csv or ndjson")
    return cast(Form, chosen)


def _refuse_database(file: Path) -> None:
    """Neither a database nor what SQLite and we keep beside one is written over, whatever its name."""
    real = file.resolve()
    whole = [real.with_name(real.name.removesuffix(it)) for it in ("-wal", "-shm", "-journal", ".lock")]
    for path in (real, *whole):
        try:
            if not path.is_file():
                continue
            with path.open("rb") as opened:
                is_database = opened.read(len(_DATABASE)) == _DATABASE
        except OSError as error:
            raise StoreError(f"{path}: cannot be read: {error.strerror}") from error
        if is_database:
            raise SettingsError(f"{file}: is a database, or belongs to one; name another file to export to")


@contextmanager
def complete(file: Path) -> Iterator[IO[bytes]]:
    """A file beside the wanted one that takes its name when all is written, and leaves nothing behind when not."""
    unfinished = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        with unfinished.open("wb") as sink:
            yield sink
        unfinished.replace(file)
    except OSError as error:
        raise StoreError(f"{file}: cannot be written: {error.strerror or error}") from error
    finally:
        unfinished.unlink(missing_ok=True)


def _chunks(rows: Iterator[dict[str, Any]]) -> Iterator[Sequence[dict[str, Any]]]:
    while chunk := list(islice(rows, ROWS_PER_CHUNK)):
        yield chunk


def _write_csv(sink: IO[bytes], rows: Iterator[dict[str, Any]]) -> int:
    count = 0
    lines = _Lines()
    # With "\n" alone, a "\r" within a text would not be quoted, and begin a row of its own.
    writer = csv.DictWriter(lines, fieldnames=tuple(COLUMNS), lineterminator="\r\n")
    writer.writeheader()
    for chunk in _chunks(rows):
        writer.writerows(_as_text(row) for row in chunk)
        sink.write(lines.take())
        count += len(chunk)
    sink.write(lines.take())
    return count


def _as_text(row: dict[str, Any]) -> dict[str, Any]:
    moments = {name: row[name].isoformat() for name in _MOMENTS}
    texts = {name: cell for name, cell in row.items() if isinstance(cell, str)}
    return row | moments | {name: f"'{text}" for name, text in texts.items() if text.startswith(_FORMULA)}


class _Lines:
    """What the csv module wrote, as bytes."""

    def __init__(self) -> None:
        self._written: list[str] = []

    def write(self, text: str) -> None:
        self._written.append(text)

    def take(self) -> bytes:
        written, self._written = "".join(self._written), []
        return written.encode(errors="replace")


def _write_parquet(sink: IO[bytes], rows: Iterator[dict[str, Any]]) -> int:
    # Loaded here: it is large, and nothing else needs it.
    import pyarrow.parquet as pq

    with pq.ParquetWriter(sink, parquet_schema(), compression="zstd") as writer:
        return write_rows(writer, rows)


def write_rows(writer: Any, rows: Iterator[dict[str, Any]]) -> int:
    """Write rows of COLUMNS to a Parquet writer, chunk by chunk; how many."""
    import pyarrow as pa

    count = 0
    for chunk in _chunks(rows):
        writer.write_table(pa.Table.from_pylist(list(chunk), schema=parquet_schema()))
        count += len(chunk)
    return count


def parquet_schema() -> Any:
    """COLUMNS with their types and meanings."""
    import pyarrow as pa

    def type_of(name: str) -> pa.DataType:
        if name in _MOMENTS:
            return pa.timestamp("us", tz="UTC")
        return pa.int64() if name in _WHOLE else pa.float64() if name in _NUMBERS else pa.string()

    return pa.schema(
        [pa.field(name, type_of(name), metadata={"description": meaning}) for name, meaning in COLUMNS.items()]
    )
