"""Commands over either history: the same answers, one setting to choose."""

import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from tests.core.outcomes import START, failed, scored
from vqmon.cli import main
from vqmon.transport.places import Place
from vqmon.transport.store import open_history

CLICKHOUSE = Path(__file__).parents[1] / "config" / "clickhouse" / "quality.sql"


@pytest.fixture
def settings(place: Place, tmp_path: Path) -> Path:
    """A settings file that names the history."""
    file = tmp_path / "vqmon.toml"
    chosen = (
        f'path = "{place}"' if isinstance(place, Path) else f'url = "{place}"\npassword_file = "{place.password_file}"'
    )
    file.write_text(f"[history]\n{chosen}\n", encoding="utf-8")
    return file


def said(settings: Path, *arguments: str, status: int = 0) -> str:
    """What a command says."""
    run = CliRunner().invoke(main, ["--config", str(settings), *arguments])
    assert run.exit_code == status, run.output
    return run.output


def test_export_and_check_read_either_history(place: Place, settings: Path, tmp_path: Path) -> None:
    """One file, a folder of hours, and what `check` says before and after the first run."""
    assert "will be made at the first run" in said(settings, "check", "--offline", status=1)
    assert "no history yet; run" in said(settings, "export", str(tmp_path / "a.csv"), status=2)
    outcomes = [*(scored(number) for number in range(20)), failed(20)]
    with open_history(place, "write") as history:
        history.publish(outcomes)
    assert "20 scored, 1 unscored" in said(settings, "check", "--offline", status=1)
    assert "21 rows" in said(settings, "export", str(tmp_path / "a.parquet"))
    assert "21 rows in 1 files" in said(settings, "export", "--partitioned", str(tmp_path / "lake"))
    assert "0 rows in 0 files" in said(settings, "export", "--partitioned", str(tmp_path / "lake"))
    (file,) = (tmp_path / "lake").rglob("*.parquet")
    assert pq.read_table(file, partitioning=None)["starts_at"][0].as_py() == START
    assert "name a FILE" in said(settings, "export", status=2)
    assert "no other choice" in said(
        settings, "export", "--partitioned", str(tmp_path / "lake"), "--stream", "a", status=2
    )


def test_the_clickhouse_table_gets_what_it_has() -> None:
    """The view over the topic names every column of the table, in its order, and none else."""
    text = re.sub("--[^\n]*", "", CLICKHOUSE.read_text(encoding="utf-8"))
    columns = re.findall(r"^    (\w+) +[A-Z]", text.split("vqmon.quality\n(")[1].split("ENGINE")[0], re.MULTILINE)
    select = text.split("\nSELECT\n")[1].split("\nFROM")[0]
    assert re.findall(r" AS (\w+),?$", select, re.MULTILINE) == columns
    assert len(columns) > 20
