"""The gate of `vqmon score`, and what else becomes of its scores."""

import csv
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pipelines.commands.score_gate import gate_failures, read_golden
from tests import factories
from tests.media.clips import clip, x264
from vqmon.cli.main import main
from vqmon.errors import SettingsError
from vqmon.transport.history.history import open_history
from vqmon.transport.wire.cloudevents import encode_outcome


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VQMON_DECODE__WORKERS", "1")
    yield
    logging.getLogger("vqmon").setLevel(logging.NOTSET)


def _vqmon(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def test_scores_below_the_minimum_fail_the_gate() -> None:
    """Each is named; a score at the minimum passes."""
    outcomes = [factories.event(sequence=number, score=score) for number, score in enumerate((70.0, 59.9, 60.0))]
    (failure,) = gate_failures(outcomes, minimum=60, golden=(), tolerance=1)
    assert "#1: lite@1 59.9 is below 60" in failure
    assert gate_failures(outcomes, minimum=None, golden=(), tolerance=1) == []


def test_scores_that_fell_by_more_than_the_tolerance_fail_the_gate() -> None:
    """By segment; a missing score fails, a new segment and a rise do not."""
    golden = [factories.event(sequence=number, score=70.0) for number in range(4)]
    now = [
        factories.event(sequence=number, score=score) for number, score in ((0, 69.0), (1, 68.9), (2, 90.0), (9, 5.0))
    ]
    failures = gate_failures(now, minimum=None, golden=golden, tolerance=1)
    assert [failure.split("/")[-1].split(" ", 1)[1] for failure in failures] == [
        "#1: lite@1 68.9 is 1.1 below golden 70.0",
        "#3: no score by lite@1; golden 70.0",
    ]


def test_a_golden_file_is_the_output_of_score_json(tmp_path: Path) -> None:
    """Another file is refused with the command that writes one."""
    file = tmp_path / "golden.json"
    event = factories.event(sequence=3, score=70.0)
    file.write_bytes(encode_outcome(event, source="vqmon:score") + b"\n\n")
    assert read_golden(file) == [event]
    for text in ("", '{"score": 70}\n'):
        file.write_text(text)
        with pytest.raises(SettingsError, match=r"vqmon score --json FILES > golden\.json"):
            read_golden(file)


def test_one_command_writes_table_report_and_history_and_is_a_gate(tmp_path: Path) -> None:
    """CSV, HTML with a picture, the history that `vqmon web` shows; exit code 1, and 0 with a gate that passes."""
    (tmp_path / "small.ts").write_bytes(clip(*x264(), size="192x108", seconds=1))
    run = _vqmon("score", "small.ts", "--csv", "s.csv", "--html", "s.html", "--history", "s.db", "--min", "100")
    assert run.exit_code == 1, run.output
    assert "is below 100" in run.stderr
    with Path("s.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["stream_id"], row["scorer"].split("@")[0]) == ("small.ts", "lite")
    text = Path("s.html").read_text()
    assert "small.ts/file #0" in text
    assert "data:image/jpeg;base64," in text
    assert "<script" not in text
    with open_history(Path("s.db"), "read") as history:
        (outcome,) = history.documents.outcomes_in_write_order()
        assert outcome.segment.rendition.stream_id == "small.ts"
        assert [state.end_reason for state in history.queries.renditions()] == ["ended"]
    golden = _vqmon("score", "--json", "small.ts").stdout
    Path("golden.json").write_text(golden)
    assert _vqmon("score", "small.ts", "--against", "golden.json").exit_code == 0
    higher = json.loads(golden)
    higher["data"]["scores"][0]["value"] = min(100.0, higher["data"]["scores"][0]["value"] + 5)
    Path("golden.json").write_text(json.dumps(higher))
    fell = _vqmon("score", "small.ts", "--against", "golden.json")
    assert fell.exit_code == 1
    assert "below golden" in fell.stderr
    assert _vqmon("score", "small.ts", "--against", "golden.json", "--tolerance", "6").exit_code == 0
