"""Commands and pages over either history: the same answers, one setting to choose."""

import re
from pathlib import Path

import httpx
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from tests import factories
from tests.factories import START
from tests.transport.recovery.damaged import overwrite_pages, pages_of
from vqmon.cli.main import main
from vqmon.transport.history.backends.location import HistoryLocation
from vqmon.transport.history.history import open_history
from vqmon.web.app import create_app
from vqmon.web.urls import segment_path, stream_path

CLICKHOUSE = Path(__file__).parents[2] / "config" / "clickhouse" / "quality.sql"


@pytest.fixture
def settings(history_location: HistoryLocation, tmp_path: Path) -> Path:
    """A settings file that names the history."""
    file = tmp_path / "vqmon.toml"
    chosen = (
        f'path = "{history_location}"'
        if isinstance(history_location, Path)
        else f'url = "{history_location}"\npassword_file = "{history_location.password_file}"'
    )
    file.write_text(f"[history]\n{chosen}\n", encoding="utf-8")
    return file


def run_vqmon(settings: Path, *arguments: str, status: int = 0) -> str:
    """What a command says."""
    run = CliRunner().invoke(main, ["--config", str(settings), *arguments])
    assert run.exit_code == status, run.output
    return run.output


def test_export_and_check_read_either_history(
    history_location: HistoryLocation, settings: Path, tmp_path: Path
) -> None:
    """One file, a folder of hours, and what `check` says before and after the first run."""
    assert "the first run creates" in run_vqmon(settings, "check", "--offline")
    assert "no history yet; run" in run_vqmon(settings, "export", str(tmp_path / "a.csv"), status=2)
    outcomes = [*(factories.event(sequence=number) for number in range(20)), factories.failure(sequence=20)]
    with open_history(history_location, "write") as history:
        history.publish(outcomes)
    assert "20 segments scored, 1 unscored" in run_vqmon(settings, "check", "--offline")
    assert "21 rows" in run_vqmon(settings, "export", str(tmp_path / "a.parquet"))
    assert "21 rows in 1 file of" in run_vqmon(settings, "export", "--partitioned", str(tmp_path / "lake"))
    assert "0 rows in 0 files" in run_vqmon(settings, "export", "--partitioned", str(tmp_path / "lake"))
    (file,) = (tmp_path / "lake").rglob("*.parquet")
    assert pq.read_table(file, partitioning=None)["starts_at"][0].as_py() == START
    assert "give a FILE" in run_vqmon(settings, "export", status=2)
    assert "takes no other filter" in run_vqmon(
        settings, "export", "--partitioned", str(tmp_path / "lake"), "--stream", "a", status=2
    )


def test_the_clickhouse_table_gets_what_it_has() -> None:
    """The view over the topic names every column of the table, in its order, and none else."""
    text = re.sub("--[^\n]*", "", CLICKHOUSE.read_text(encoding="utf-8"))
    columns = re.findall(r"^    (\w+) +[A-Z]", text.split("vqmon.quality\n(")[1].split("ENGINE")[0], re.MULTILINE)
    select = text.split("\nSELECT\n")[1].split("\nFROM")[0]
    assert re.findall(r" AS (\w+),?$", select, re.MULTILINE) == columns
    assert len(columns) > 20


async def test_pages_answer_from_either_history(history_location: HistoryLocation) -> None:
    """Fleet, stream, a long range drawn from minutes, segment and alerts."""
    outcomes = [factories.event(sequence=number, score=40 + number % 50) for number in range(7000)]
    with open_history(history_location, "record") as history:
        for begin in range(0, len(outcomes), 500):
            history.publish(outcomes[begin : begin + 500])
        history.maintenance.roll_up()
    newest = outcomes[-1].segment
    with open_history(history_location, "read") as history:
        app = create_app(history.queries, now=lambda: newest.ends_at)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
            for path in ("/", stream_path("news-1"), segment_path(outcomes[9].id), "/alerts"):
                answer = await client.get(path)
                assert answer.status_code == 200, path
            day = await client.get(stream_path("news-1"), params={"last": "24h"})
            assert "7,000 segments, scored by lite@1: mean 64" in day.text


def test_back_up_check_and_salvage_a_file(tmp_path: Path) -> None:
    """A damaged history ends in exit code 1, and what is saved of it is exported."""
    path = tmp_path / "history.db"
    settings = tmp_path / "vqmon.toml"
    settings.write_text(f'[history]\npath = "{path}"\n', encoding="utf-8")
    with open_history(path, "write") as history:
        for begin in range(0, 400, 50):
            history.publish([factories.event(sequence=number) for number in range(begin, begin + 50)])
    assert "bytes in" in run_vqmon(settings, "history", "backup", str(tmp_path / "backup.db"))
    assert "400 outcomes, 8 blocks of events\nnothing is damaged" in run_vqmon(settings, "history", "check")
    overwrite_pages(path, pages_of(path, "document")[-3:])
    output = run_vqmon(settings, "history", "check", status=1)
    lost = int(re.findall(r"(\d+) outcomes? without an event", output)[0])
    new = str(tmp_path / "new.db")
    output = run_vqmon(settings, "history", "salvage", str(path), new)
    assert f"outcomes: {400 - lost} saved, {lost} lost" in output
    assert "nothing is damaged" in run_vqmon(settings, "history", "check", "--history", new)
    output = run_vqmon(settings, "export", str(tmp_path / "a.csv"), "--history", new)
    assert f"{400 - lost} rows" in output
    assert 0 < lost < 400
    address = "postgresql://vqmon@db/quality"
    output = run_vqmon(settings, "history", "backup", str(tmp_path / "a.dump"), "--history", address, status=2)
    assert f"pg_dump --format=custom --schema=vqmon --file={tmp_path / 'a.dump'} {address}" in output


@pytest.mark.parametrize(
    "command",
    [
        ["export", "missing/out.csv"],
        ["export", "missing/parts", "--by", "day"],
        ["files", "missing.txt/folder"],
        ["init", "https://origin.example/live.m3u8", "--output", "missing.txt/vqmon.toml", "--offline"],
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_a_file_that_cannot_be_written_is_wrong_usage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    """Exit code 2 and its name; 4 is about the history alone."""
    monkeypatch.chdir(tmp_path)
    Path("missing.txt").write_text("a file", encoding="utf-8")
    with open_history(Path("vqmon.db"), "write") as history:
        history.publish([factories.event()])
    run = CliRunner().invoke(main, command)
    assert run.exit_code == 2, run.output
    assert "missing" in run.output


def test_no_history_is_made_by_a_command_in_the_wrong_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`end` never makes one; `deploy` does where the settings name it, as markers may come before the first start."""
    monkeypatch.chdir(tmp_path)
    for command in (["deploy", "encoder 4.2"], ["end", "news"]):
        run = CliRunner().invoke(main, command)
        assert run.exit_code == 2
        assert "no history yet" in run.output
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "vqmon.toml").write_text('[history]\npath = "named.db"\n', encoding="utf-8")
    assert "no history yet" in CliRunner().invoke(main, ["end", "news"]).output
    assert not (tmp_path / "named.db").exists()
    assert CliRunner().invoke(main, ["deploy", "encoder 4.2"]).exit_code == 0
    assert (tmp_path / "named.db").is_file()
