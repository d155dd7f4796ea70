"""No process of vqmon opens a socket that its settings do not name, and none leaves anything in the home folder."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import need
from tests.media.clips import clip, x264
from tests.ports import free_port
from vqmon.core.types import QualityEvent
from vqmon.transport.history.history import open_history

SECONDS = 20.0
"""ONNX Runtime asks for the address of its maker within seconds, unless its telemetry is off."""

_ADDRESS = re.compile(r'sin6?_port=htons\((\d+)\).*?"([0-9a-f.:]+)"')
_FOREIGN = re.compile(r"socket\((AF_INET6?|AF_NETLINK|AF_PACKET)")


class Traced:
    """A command under strace, which notes its sockets and those of every process that it starts."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        need("strace", present=shutil.which("strace") is not None, remedy="install Debian's `strace`")
        self._log = folder / "strace.txt"
        self._home = folder / "home"
        self._home.mkdir()
        trace = ["strace", "-f", "-qq", "--seccomp-bpf", "-e", "trace=%network", "-o", str(self._log)]
        # as a stranger would have it: ONNX Runtime is silent where it sees CI
        environment = {name: value for name, value in os.environ.items() if name not in ("CI", "ORT_DISABLE_TELEMETRY")}
        environment |= {"HOME": str(self._home)}
        self._command = [*trace, sys.executable, "-m", "vqmon", *arguments]
        self.process = subprocess.Popen(self._command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)

    def wait(self) -> int:
        """The exit code."""
        self.process.communicate(timeout=250)
        return self.process.returncode

    @property
    def home_files(self) -> list[str]:
        """What the command left in the home folder."""
        return [str(path.relative_to(self._home)) for path in self._home.rglob("*")]

    @property
    def addresses(self) -> set[tuple[str, int]]:
        """Every address that a process connected, bound or sent to."""
        return {
            (found[2], int(found[1]))
            for line in self._log.read_text(encoding="utf-8").splitlines()
            if (found := _ADDRESS.search(line)) and re.search(r"\b(connect|bind|sendto|sendmsg)\(", line)
        }

    @property
    def foreign_sockets(self) -> int:
        """How many sockets were made that can reach beyond this machine."""
        return len(_FOREIGN.findall(self._log.read_text(encoding="utf-8")))


def write_folder(folder: Path, *, port: int) -> None:
    (folder / "media").mkdir()
    (folder / "media" / "a.ts").write_bytes(clip(*x264(), seconds=1))
    settings = f'[source]\nkind = "folder"\nfolder = "media"\n[daemon]\nhealth_port = {port}\n[decode]\nworkers = 1\n'
    (folder / "vqmon.toml").write_text(settings, encoding="utf-8")


def test_scoring_a_file_opens_no_socket(tmp_path: Path) -> None:
    """Neither the command nor its decoder process."""
    (tmp_path / "a.ts").write_bytes(clip(*x264(), seconds=1))
    run = Traced(tmp_path, "score", "a.ts")
    assert run.wait() == 0
    assert (run.foreign_sockets, run.addresses, run.home_files) == (0, set(), [])


@pytest.mark.slow
def test_the_daemon_opens_its_health_port_alone(tmp_path: Path) -> None:
    """While it watches a folder, which has no address."""
    port = free_port()
    write_folder(tmp_path, port=port)
    run = Traced(tmp_path, "run", "--for", str(SECONDS))
    assert run.wait() == 0
    with open_history(tmp_path / "vqmon.db", mode="read") as history:
        (outcome,) = history.documents.outcomes_in_write_order()
    assert isinstance(outcome, QualityEvent)
    assert (run.foreign_sockets, run.addresses, run.home_files) == (1, {("127.0.0.1", port)}, [])


@pytest.mark.slow
def test_the_pages_open_their_own_port_alone(tmp_path: Path) -> None:
    """`vqmon web` over a history, and its background analyses."""
    with open_history(tmp_path / "vqmon.db", mode="write"):
        pass
    port = free_port()
    run = Traced(tmp_path, "web", "--port", str(port))
    time.sleep(SECONDS)
    children = Path(f"/proc/{run.process.pid}/task/{run.process.pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGTERM)
    run.wait()
    assert (run.addresses, run.home_files) == ({("127.0.0.1", port)}, [])
