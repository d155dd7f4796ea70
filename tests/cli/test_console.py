"""Shared by all commands: settings with logging, UTC, and the options that several commands have."""

import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from vqmon.cli import console
from vqmon.cli.console import OutputFile, as_utc, open_settings
from vqmon.cli.main import main
from vqmon.errors import SettingsError


@pytest.fixture(autouse=True)
def _restored_logging() -> Iterator[None]:
    root, logger = logging.getLogger(), logging.getLogger("vqmon")
    handlers, root_level, level = list(root.handlers), root.level, logger.level
    yield
    root.handlers[:] = handlers
    root.setLevel(root_level)
    logger.setLevel(level)


def run_with(option: Callable[[Any], Any], *arguments: str) -> Result:
    """The result of a command that has only this option and prints its value."""

    @click.command()
    @option
    def command(**values: object) -> None:
        click.echo(repr(values))

    return CliRunner().invoke(command, arguments)


def test_an_output_file_needs_an_existing_folder(tmp_path: Path) -> None:
    """A usage error before any work; a file that exists is overwritten."""
    option = click.option("--html", type=OutputFile())
    (tmp_path / "old.html").write_text("old")
    for name in ("new.html", "old.html"):
        assert repr(tmp_path / name) in run_with(option, "--html", str(tmp_path / name)).stdout
    for name in ("none/new.html", "old.html/new.html"):
        refused = run_with(option, "--html", str(tmp_path / name))
        assert refused.exit_code == 2
        assert "does not exist; create it" in " ".join(refused.output.split())
    assert run_with(option, "--html", str(tmp_path)).exit_code == 2


@pytest.mark.parametrize(("level", "number"), [("debug", logging.DEBUG), ("error", logging.ERROR)])
def test_settings_decide_the_log_level(tmp_path: Path, level: str, number: int) -> None:
    file = tmp_path / "vqmon.toml"
    file.write_text(f'[log]\nlevel = "{level}"\n')
    assert open_settings(file).log.level == level
    assert logging.getLogger("vqmon").level == number
    assert logging.getLogger().level == logging.WARNING


def test_wrong_settings_leave_the_log_level_alone(tmp_path: Path) -> None:
    file = tmp_path / "vqmon.toml"
    file.write_text('[log]\nlevel = "loud"\n')
    before = logging.getLogger("vqmon").level
    with pytest.raises(SettingsError, match=r"log\.level"):
        open_settings(file)
    assert logging.getLogger("vqmon").level == before


def test_a_time_of_the_command_line_is_utc() -> None:
    assert as_utc(datetime(2026, 11, 20, 20, 30)) == datetime(2026, 11, 20, 20, 30, tzinfo=UTC)  # noqa: DTZ001
    assert as_utc(None) is None


def test_a_prompt_of_2000_characters_is_accepted() -> None:
    result = run_with(console.prompt_option, "--prompt", "x" * 2000)
    assert (result.exit_code, result.output.count("x")) == (0, 2000)
    assert run_with(console.prompt_option).output == "{'prompt': ''}\n"


@pytest.mark.parametrize("command", [("score", "small.ts"), ("publish", "small.ts", "--stream", "film")])
def test_a_longer_prompt_is_refused_before_anything_is_read(command: tuple[str, ...]) -> None:
    result = CliRunner().invoke(main, [*command, "--prompt", "x" * 2001])
    assert result.exit_code == console.EXIT_USAGE
    assert "2001 characters; at most 2000" in result.output


@pytest.mark.parametrize("seconds", ["0", "-1", "soon", ""])
def test_a_run_must_last_longer_than_nothing(seconds: str) -> None:
    assert run_with(console.for_option, "--for", seconds).exit_code == console.EXIT_USAGE


def test_a_run_may_last_part_of_a_second_or_for_ever() -> None:
    assert run_with(console.for_option, "--for", "0.25").output == "{'for_seconds': 0.25}\n"
    assert run_with(console.for_option).output == "{'for_seconds': None}\n"


@pytest.mark.parametrize(("option", "name"), [(console.since_option, "since"), (console.until_option, "until")])
def test_a_time_is_a_date_or_a_date_and_time(option: Callable[[Any], Any], name: str) -> None:
    flag = f"--{name}"
    assert run_with(option, flag, "2026-11-20").output == repr({name: datetime(2026, 11, 20)}) + "\n"  # noqa: DTZ001
    assert "20, 23, 59, 58" in run_with(option, flag, "2026-11-20T23:59:58").output
    for wrong in ("2026-02-30", "20:00", "yesterday", "2026-11-20T20:00:00Z"):
        assert run_with(option, flag, wrong).exit_code == console.EXIT_USAGE, wrong


def test_exit_codes_differ_from_each_other_and_from_a_failed_check() -> None:
    codes = [0, 1, console.EXIT_USAGE, console.EXIT_UNSCORED, console.EXIT_STORE]
    assert codes == [0, 1, 2, 3, 4]
    assert click.UsageError.exit_code == console.EXIT_USAGE


def test_errors_go_to_the_standard_error_stream() -> None:
    assert console.err.stderr
    assert not console.out.stderr
