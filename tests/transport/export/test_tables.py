"""Exports: every outcome, the same in all three formats, complete or not there at all."""

import csv
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests import factories
from tests.factories import START
from vqmon.core.types import SIGNALS, ReferencePairing, ReferenceScore, Rendition
from vqmon.errors import SettingsError, StoreError
from vqmon.transport.export.tables import COLUMNS, export_outcomes, table_rows
from vqmon.transport.history.documents import Documents
from vqmon.transport.history.history import History, open_history
from vqmon.transport.wire import cloudevents

OUTCOMES = [
    factories.event(sequence=0, score=61.5, signals={"blur": (0.1, 0.2, 0.3, 0.4)}),
    factories.failure(sequence=1, reason="timeout"),
    *(factories.event(sequence=n) for n in range(2, 8)),
]


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    with open_history(tmp_path / "history.db", "write") as opened:
        opened.publish(OUTCOMES)
        yield opened


def test_parquet_has_a_row_per_outcome_and_scorer(history: History, tmp_path: Path) -> None:
    """Documented columns with their types, moments in UTC, zstd."""
    file = tmp_path / "out.parquet"
    assert export_outcomes(history.documents, file) == len(OUTCOMES)
    table = pq.read_table(file)
    assert table.column_names == list(COLUMNS)
    first, second, *_ = table.to_pylist()
    assert (first["event_id"], first["kind"], first["scorer"], first["value"]) == (
        OUTCOMES[0].id,
        "scored",
        "lite@1",
        61.5,
    )
    assert (first["blur"], first["black"], first["codec"], first["frames"]) == (0.4, 0.0, "h264", 4)
    assert first["starts_at"] == START
    assert (second["kind"], second["reason"], second["value"], second["blur"]) == ("unscored", "timeout", None, None)
    assert pq.ParquetFile(file).metadata.row_group(0).column(0).compression == "ZSTD"
    assert b"0..100" in table.schema.field("value").metadata[b"description"]


def test_csv_says_the_same_as_parquet(history: History, tmp_path: Path) -> None:
    """The same rows and columns as text; nothing is an empty cell."""
    export_outcomes(history.documents, tmp_path / "out.csv")
    export_outcomes(history.documents, tmp_path / "out.parquet")
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    expected = [
        {name: _as_csv(name, value) for name, value in row.items()}
        for row in pq.read_table(tmp_path / "out.parquet").to_pylist()
    ]
    numbers = {"value", "native_value", "p5", "min", "bitrate_kbps", "duration_seconds", *SIGNALS}
    for row, wanted in zip(rows, expected, strict=True):
        for name in COLUMNS:
            if name in numbers and row[name]:
                assert float(row[name]) == float(wanted[name])
            else:
                assert row[name] == wanted[name]


def _as_csv(name: str, value: Any) -> str:
    if name == "labels":
        return json.dumps(dict(value), separators=(",", ":"))
    return "" if value is None else value.isoformat() if hasattr(value, "isoformat") else str(value)


def test_ndjson_is_the_events_themselves(history: History, tmp_path: Path) -> None:
    """One CloudEvent per line, in the order of publishing."""
    file = tmp_path / "out.ndjson"
    assert export_outcomes(history.documents, file) == len(OUTCOMES)
    lines = file.read_bytes().splitlines()
    assert [cloudevents.parse_outcome(line) for line in lines] == OUTCOMES
    assert all(json.loads(line)["specversion"] == "1.0" for line in lines)


def test_filters_and_small_chunks(history: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stream, rendition and range choose; more rows than a chunk holds come out all the same."""
    monkeypatch.setattr("vqmon.transport.export.tables.CHUNK_ROWS", 3)
    monkeypatch.setattr("vqmon.transport.history.documents.CHUNK_BLOCKS", 2)
    for form in ("parquet", "csv", "ndjson"):
        file = tmp_path / f"out.{form}"
        assert export_outcomes(history.documents, file) == 8
        chosen = {"since": START + timedelta(seconds=4), "until": START + timedelta(seconds=16)}
        assert export_outcomes(history.documents, file, stream_id="news-1", rendition="1080p", **chosen) == 3
        assert export_outcomes(history.documents, file, stream_id="other") == 0
    assert pq.read_table(tmp_path / "out.parquet").num_rows == 0


def test_a_file_appears_only_when_it_is_complete(history: History, tmp_path: Path) -> None:
    """An export that fails leaves the old file as it was and nothing beside it."""
    file = tmp_path / "out" / "events.ndjson"
    file.parent.mkdir()
    file.write_text("old")

    class BrokenDocuments(Documents):
        def __init__(self) -> None: ...

        def documents_in_write_order(self, **_: object) -> Iterator[bytes]:
            yield b"{}"
            raise StoreError("disk gone")

    with pytest.raises(StoreError, match="disk gone"):
        export_outcomes(BrokenDocuments(), file)
    assert [path.name for path in file.parent.iterdir()] == ["events.ndjson"]
    assert file.read_text() == "old"


def test_a_format_or_folder_that_is_none_is_refused(history: History, tmp_path: Path) -> None:
    """The ending chooses the format unless one is named; a missing folder is said."""
    with pytest.raises(SettingsError, match="--format"):
        export_outcomes(history.documents, tmp_path / "out.xls")
    assert export_outcomes(history.documents, tmp_path / "out.xls", file_format="csv") == len(OUTCOMES)
    with pytest.raises(SettingsError, match="No such file"):
        export_outcomes(history.documents, tmp_path / "none" / "out.csv")


@pytest.mark.parametrize("name", ["history.db", "history.db-wal", "history.db-shm", "history.db.lock", "link.csv"])
def test_a_database_is_not_written_over(history: History, tmp_path: Path, name: str) -> None:
    """The history, what stands beside it and a link to it are refused and stay as they were."""
    (tmp_path / "link.csv").symlink_to(tmp_path / "history.db")
    (tmp_path / name).touch()
    before = (tmp_path / name).read_bytes()
    with pytest.raises(SettingsError, match="name another file"):
        export_outcomes(history.documents, tmp_path / name, file_format="csv")
    assert (tmp_path / name).read_bytes() == before
    assert list(history.documents.outcomes_in_write_order()) == OUTCOMES


@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "\t", "\r"])
def test_csv_holds_no_formulas(history: History, tmp_path: Path, sign: str) -> None:
    """A text that a spreadsheet would run gets an apostrophe; numbers stay numbers."""
    first = factories.event(sequence=0, rendition=Rendition(stream_id=f"{sign}1+1", name="720p"))
    history.publish([first])
    export_outcomes(history.documents, tmp_path / "out.csv", stream_id=f"{sign}1+1")
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as lines:
        (row,) = csv.DictReader(lines)
    assert row["stream_id"] == f"'{sign}1+1"
    assert float(row["value"]) == first.scores[0].value


def test_every_signal_has_a_column() -> None:
    """A new signal gets a column at the end."""
    assert set(SIGNALS) <= set(COLUMNS)


def test_reference_measures_have_columns_and_all_are_in_one() -> None:
    """A measure without a column of its own is in the JSON; an event without a reference has empty cells."""
    values = {"psnr": 40.5, "rare": 1.0}
    references = tuple(
        ReferenceScore(measure=name, value=value, frame_values=(value,) * 4, unit="", higher_is_better=True)
        for name, value in values.items()
    )
    pairing = ReferencePairing(offset_seconds=0.04, confidence=0.9, paired_frames=4, canvas="1920x1080")
    (row,) = table_rows(replace(factories.event(), references=references, reference_pairing=pairing))
    (plain,) = table_rows(factories.event())

    assert (row["reference_psnr"], row["reference_ssim"], row["reference_offset_seconds"]) == (40.5, None, 0.04)
    assert json.loads(row["references"]) == values
    assert plain["references"] is None
    assert set(row) == set(COLUMNS)


def test_parquet_without_pyarrow_says_what_to_install(
    history: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not part of the plain install; no file is left behind."""
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(SettingsError, match=re.escape("pip install 'vqmon[parquet]'")):
        export_outcomes(history.documents, tmp_path / "out.parquet")
    assert list(tmp_path.glob("*out.parquet*")) == []
