"""A folder of Parquet files follows a history: complete hours once, late ones added, nothing lost when it forgets."""

from datetime import timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests import factories
from tests.factories import START
from vqmon.core.types import Outcome, Rendition
from vqmon.errors import SettingsError
from vqmon.transport.export.partitioned import ExportSummary, export_partitions
from vqmon.transport.export.tables import COLUMNS
from vqmon.transport.history.backends.location import HistoryLocation
from vqmon.transport.history.history import History, open_history

HOUR = timedelta(hours=1)
SPORTS = Rendition(stream_id="sports", name="720p")
OUTCOMES: list[Outcome] = [
    outcome
    for minute in range(0, 180, 3)
    for outcome in (
        factories.event(sequence=minute, score=50 + minute / 10, at_seconds=60.0 * minute),
        factories.failure(sequence=minute, at_seconds=60.0 * minute, rendition=SPORTS),
    )
]


@pytest.fixture
def history(history_location: HistoryLocation):
    with open_history(history_location, "write") as opened:
        for begin in range(0, len(OUTCOMES), 7):
            opened.publish(OUTCOMES[begin : begin + 7])
        yield opened


def ids_in(folder: Path) -> dict[str, list[str]]:
    """File -> the outcomes in it."""
    return {
        str(file.relative_to(folder)): pq.read_table(file, partitioning=None)["event_id"].to_pylist()
        for file in sorted(folder.rglob("*.parquet"))
    }


def expected(hour: int) -> list[str]:
    """The outcomes of an hour after START."""
    return [outcome.id for outcome in OUTCOMES if hour * HOUR <= outcome.segment.starts_at - START < (hour + 1) * HOUR]


def name(hour: int) -> str:
    return f"date=2026-11-20/hour={20 + hour}/outcomes.parquet"


def test_hours_are_written_when_they_are_over(history: History, tmp_path: Path) -> None:
    """Run each hour: only complete hours, each once, zstd, with all columns; running again changes nothing."""
    folder = tmp_path / "lake"
    soon = timedelta(minutes=5)
    assert export_partitions(history, folder, now=START + HOUR + soon) == ExportSummary(files=0, rows=0)
    for hours in (1, 1, 2, 3, 3):
        export_partitions(history, folder, now=START + hours * HOUR + timedelta(minutes=11))
        assert ids_in(folder) == {name(hour): expected(hour) for hour in range(hours)}
    before = {file: file.stat().st_mtime_ns for file in folder.rglob("*.parquet")}
    assert export_partitions(history, folder, now=START + 9 * HOUR) == ExportSummary(files=0, rows=0)
    assert {file: file.stat().st_mtime_ns for file in folder.rglob("*.parquet")} == before
    file = pq.ParquetFile(folder / name(0))
    assert file.schema_arrow.names == list(COLUMNS)
    assert file.metadata.row_group(0).column(0).compression == "ZSTD"


def test_late_outcomes_are_added_and_forgotten_ones_stay(history: History, tmp_path: Path) -> None:
    """What comes after its hour was written joins it; retention takes nothing out of the files."""
    folder = tmp_path / "lake"
    export_partitions(history, folder, now=START + 9 * HOUR)
    history.maintenance.prune(before=START + 8 * HOUR, keep_frames_of_segments=0)
    assert list(history.documents.outcomes_in_write_order()) == []
    late = factories.event(sequence=7, at_seconds=7.0, rendition=SPORTS)
    history.publish([late])
    assert export_partitions(history, folder, now=START + 9 * HOUR) == ExportSummary(files=1, rows=1)
    assert ids_in(folder) == {name(0): [*expected(0), late.id], name(1): expected(1), name(2): expected(2)}


def test_a_run_that_was_cut_off_is_mended(history: History, tmp_path: Path) -> None:
    """Without the mark, or with one of another history, everything is compared by its ids: nothing twice."""
    folder = tmp_path / "lake"
    export_partitions(history, folder, now=START + 2 * HOUR)
    (folder / "_vqmon.json").unlink()
    (folder / name(1)).unlink(missing_ok=True)
    export_partitions(history, folder, now=START + 9 * HOUR)
    assert ids_in(folder) == {name(hour): expected(hour) for hour in range(3)}
    with open_history(tmp_path / "other.db", "write") as other:
        other.publish([*OUTCOMES[:5], factories.event(sequence=8, at_seconds=8.0)])
        assert export_partitions(other, folder, now=START + 9 * HOUR) == ExportSummary(files=1, rows=1)


def test_days_and_what_is_wrong_with_a_folder(history: History, tmp_path: Path) -> None:
    """A file per day; a folder of hours takes no days; a damaged file is named."""
    folder = tmp_path / "lake"
    assert export_partitions(history, folder, period="day", now=START + timedelta(days=2)).files == 1
    assert list(ids_in(folder)) == ["date=2026-11-20/outcomes.parquet"]
    with pytest.raises(SettingsError, match="--by day"):
        export_partitions(history, folder, now=START + timedelta(days=2))
    (folder / "date=2026-11-20" / "outcomes.parquet").write_bytes(b"no parquet")
    history.publish([factories.event(sequence=10, at_seconds=10.0)])
    with pytest.raises(SettingsError, match="not a Parquet file"):
        export_partitions(history, folder, period="day", now=START + timedelta(days=2))
    with pytest.raises(SettingsError, match="does not exist"):
        export_partitions(history, tmp_path / "none" / "lake", now=START)


def test_a_timeline_ahead_of_the_clock_holds_nothing_up(history: History, tmp_path: Path) -> None:
    """Segments of next week are written now, and the next run has nothing to do."""
    ahead = factories.event(sequence=1, at_seconds=7 * 86400.0, rendition=SPORTS)
    history.publish([ahead])
    export_partitions(history, tmp_path / "lake", now=START + 9 * HOUR)
    assert ids_in(tmp_path / "lake")["date=2026-11-27/hour=20/outcomes.parquet"] == [ahead.id]
    assert export_partitions(history, tmp_path / "lake", now=START + 9 * HOUR) == ExportSummary(files=0, rows=0)
