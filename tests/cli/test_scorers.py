"""The commands about scorers, as a person types them."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.scoring.tiny_levels import write_levels
from vqmon.cli.main import main


@pytest.fixture(autouse=True)
def tiny_levels_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_levels(tmp_path)
    monkeypatch.setenv("VQMON_SCORING__FOLDERS", f'["{tmp_path}"]')


def test_scorers_are_listed_with_their_tasks_and_a_mark_for_those_in_use() -> None:
    """The default settings use the built-in scorer only; a name without a version means the newest one."""
    run = CliRunner().invoke(main, ["scorers"])

    assert run.exit_code == 0, run.output
    rows = {line.split()[0]: line for line in run.output.splitlines() if "@" in line}
    assert [name for name, row in rows.items() if "✓" in row] == ["lite@2"]
    for task in ("quality", "aesthetics", "video"):
        assert "✓" not in rows[f"tiny-levels.{task}@1"]
        assert "stretch 16x8" in rows[f"tiny-levels.{task}@1"]


@pytest.mark.parametrize(
    ("used", "marked"),
    [
        ("lite@1", ["lite@1"]),
        ("tiny-levels", ["tiny-levels.quality@1"]),
        ("tiny-levels.video", ["tiny-levels.video@1"]),
        ("tiny-levels.video@1", ["tiny-levels.video@1"]),
    ],
)
def test_the_mark_is_at_the_version_and_task_in_use(
    used: str, marked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VQMON_SCORING__SCORERS", f'["{used}"]')
    run = CliRunner().invoke(main, ["scorers"])

    assert run.exit_code == 0, run.output
    rows = {line.split()[0]: line for line in run.output.splitlines() if "@" in line}
    assert [name for name, row in rows.items() if "✓" in row] == marked


def test_two_bundles_with_one_id_are_one_line_of_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 2, no traceback."""
    (tmp_path / "copy").mkdir()
    write_levels(tmp_path / "copy")
    monkeypatch.setenv("VQMON_SCORING__FOLDERS", f'["{tmp_path}", "{tmp_path / "copy"}"]')
    run = CliRunner().invoke(main, ["scorers"])

    assert run.exit_code == 2
    assert "two scorers have the id tiny-levels@1" in run.output


def test_a_bridge_needs_a_history() -> None:
    """The message says how to create one."""
    run = CliRunner().invoke(main, ["scorers", "bridge", "lite@1", "lite@2", "--history", "none.db"])

    assert run.exit_code == 2
    assert "no history yet; run `vqmon run`" in run.output


@pytest.mark.skipif(find_spec("torch") is not None, reason="torch is installed")
def test_the_models_command_says_what_it_needs() -> None:
    """Without the extra it names the first library that is missing, and how to install it; nothing else needs it."""
    run = CliRunner().invoke(main, ["models", "export", "lite"])
    assert run.exit_code == 2
    assert re.search(r"`vqmon models` needs \w+: \S+ -m pip install 'vqmon\[models\]'", run.output)
    for arguments in ([], ["--help"], ["export", "--help"]):
        shown = CliRunner().invoke(main, ["models", *arguments])
        assert shown.exit_code == 0
        assert "vqmon models verify NAME" in shown.output
        assert re.search(r"once \w+ is there: \S+ -m pip install 'vqmon\[models\]'", shown.output)
    assert "models" in CliRunner().invoke(main, ["--help"]).output
