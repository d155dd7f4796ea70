"""What the command says by its exit code, and what it makes of the shell that starts it."""

import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.media.clips import clip, x264
from vqmon.cli.main import main
from vqmon.transport.history.history import open_history


def test_a_history_that_fails_is_no_wrong_setting(tmp_path: Path) -> None:
    """4 for a history that cannot be read, 2 for one that is not there and for any other file; both are in the help."""
    path, text = tmp_path / "history.db", tmp_path / "text.db"
    text.write_text("no database at all, but long enough to be looked at" * 20)
    with open_history(path, "write"):
        pass
    codes = {
        (text, tmp_path / "out.csv"): 4,
        (path, tmp_path / "none" / "out.csv"): 2,
        (tmp_path / "none.db", tmp_path / "out.csv"): 2,
        (path, path): 2,
        (path, tmp_path / "out.csv"): 0,
    }
    for (history, file), code in codes.items():
        run = CliRunner().invoke(main, ["export", "--history", str(history), str(file), "--format", "csv"])
        assert run.exit_code == code, (history, file, run.output)
    assert "4 a history that exists" in CliRunner().invoke(main, ["--help"]).output


def test_the_summary_of_each_command_is_a_whole_sentence() -> None:
    """Wrapped on a narrow terminal, not cut off."""
    text = CliRunner().invoke(main, ["--help"], terminal_width=80).output
    assert "..." not in text.partition("Commands:")[2]
    summary = main.commands["switch-inputs"].get_short_help_str(limit=400)
    assert summary.endswith("the webhooks of the settings.")
    assert summary in " ".join(text.split())


def test_child_processes_are_waited_for_where_the_shell_ignores_their_ends() -> None:
    """`trap "" CHLD` is inherited: the exit codes of decoder and encoder processes would be lost."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        run = CliRunner().invoke(main, ["plan", "--difference", "1", "--sd", "5"])
        assert run.exit_code == 0, run.output
        assert signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_output_to_a_full_disk_is_said_with_a_remedy() -> None:
    """One line and exit code 2, also when Python itself ends."""
    command = [sys.executable, "-m", "vqmon", "plan", "--difference", "1", "--sd", "5"]
    with Path("/dev/full").open("w") as full:
        run = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert run.returncode == 2
    assert run.stderr.splitlines() == [
        "vqmon: the output, or the folder for temporary files: cannot be written: No space left on device; "
        "make room there, or name another file"
    ]


@pytest.mark.parametrize("limit_mb", [600, 900])
def test_too_little_memory_is_said_with_a_remedy(tmp_path: Path, limit_mb: int) -> None:
    """Wherever the start of the scorers meets the limit: in numpy, in loading the graph, or in running it."""
    (tmp_path / "clip.ts").write_bytes(clip(*x264(), size="96x54", seconds=1, rate="5", container="mpegts"))
    limit = limit_mb * 1_000_000
    run = subprocess.run(
        [sys.executable, "-m", "vqmon", "score", "clip.ts"],
        cwd=tmp_path,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert run.returncode in (1, 2), run.stderr
    assert "too little memory" in run.stderr
    assert "MemoryMax of its unit" in run.stderr
    assert "Traceback" not in run.stderr
