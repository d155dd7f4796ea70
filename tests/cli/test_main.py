"""What the command says by its exit code, and what it makes of the shell that starts it."""

import signal
from pathlib import Path

from click.testing import CliRunner

from vqmon.cli.main import main
from vqmon.transport.history.history import open_history


def test_a_history_that_fails_is_no_wrong_setting(tmp_path: Path) -> None:
    """4 for a file that cannot be read or written, 2 for one that is not there or not meant; both are in the help."""
    path, text = tmp_path / "history.db", tmp_path / "text.db"
    text.write_text("no database at all, but long enough to be looked at" * 20)
    with open_history(path, "write"):
        pass
    codes = {
        (text, tmp_path / "out.csv"): 4,
        (path, tmp_path / "none" / "out.csv"): 4,
        (tmp_path / "none.db", tmp_path / "out.csv"): 2,
        (path, path): 2,
        (path, tmp_path / "out.csv"): 0,
    }
    for (history, file), code in codes.items():
        run = CliRunner().invoke(main, ["export", "--history", str(history), str(file), "--format", "csv"])
        assert run.exit_code == code, (history, file, run.output)
    assert "4 the history" in CliRunner().invoke(main, ["--help"]).output


def test_child_processes_are_waited_for_where_the_shell_ignores_their_ends() -> None:
    """`trap "" CHLD` is inherited: the exit codes of decoder and encoder processes would be lost."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        run = CliRunner().invoke(main, ["plan", "--difference", "1", "--sd", "5"])
        assert run.exit_code == 0, run.output
        assert signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGCHLD, before)
