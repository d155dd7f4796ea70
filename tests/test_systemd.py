"""The units are valid and stay sealed."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import need

UNITS = sorted((Path(__file__).parents[1] / "systemd").glob("*.service"))
DECODER = next(unit for unit in UNITS if unit.name == "vqmon-decoder@.service")


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_the_exposure_of_each_unit_stays_low(unit: Path) -> None:
    """systemd's own rating of the sandbox is 1.5 or better, that of the decoders 0.5."""
    need("systemd", present=shutil.which("systemd-analyze") is not None, remedy="install systemd")
    threshold = 5 if unit == DECODER else 15
    command = ["systemd-analyze", "security", "--offline=yes", f"--threshold={threshold}", "--no-pager", str(unit)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)

    assert run.returncode == 0, run.stdout[-500:] + run.stderr


def test_systemd_understands_sockets_and_timers(tmp_path: Path) -> None:
    """With the services that they start, all at once; no unknown key or value."""
    need("systemd", present=shutil.which("systemd-analyze") is not None, remedy="install systemd")
    shutil.copytree(UNITS[0].parent, tmp_path / "units")
    files = sorted(path for suffix in ("socket", "timer") for path in (tmp_path / "units").glob(f"*.{suffix}"))
    assert len(files) >= 2
    # an instance, where there is a template
    names = [str(file).replace("@.", "@example.") for file in files]
    for file, name in zip(files, names, strict=True):
        if not Path(name).exists():
            file.rename(name)
    command = ["systemd-analyze", "verify", "--man=no", *names]
    run = subprocess.run(command, capture_output=True, text=True, check=False)

    assert [line for line in run.stderr.splitlines() if "/opt/vqmon/bin/" not in line] == []


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_understands_each_unit_and_its_limits(unit: Path) -> None:
    """No unknown key or value; files, memory and tasks are limited."""
    need("systemd", present=shutil.which("systemd-analyze") is not None, remedy="install systemd")
    command = ["systemd-analyze", "verify", "--man=no", str(unit)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    keys = {line.partition("=")[0] for line in unit.read_text(encoding="utf-8").splitlines()}

    assert [line for line in run.stderr.splitlines() if "/opt/vqmon/bin/" not in line] == []
    assert keys >= {"LimitNOFILE", "MemoryMax", "TasksMax"}


@pytest.mark.parametrize("unit", [unit for unit in UNITS if unit != DECODER], ids=lambda unit: unit.name)
def test_each_unit_runs_the_command_as_its_own_user(unit: Path) -> None:
    """The units agree with the command's words and with the sysusers file."""
    text = unit.read_text(encoding="utf-8")

    assert "ExecStart=/opt/vqmon/bin/vqmon --config /etc/vqmon/vqmon.toml" in text
    assert "User=vqmon" in text


@pytest.mark.parametrize("name", ["vqmon.service", "vqmon-pictures@.service"])
def test_a_stop_leaves_the_decoders_to_the_command(name: str) -> None:
    """Otherwise systemd sends SIGTERM to every process of the unit, and what is in flight cannot be finished."""
    unit = next(unit for unit in UNITS if unit.name == name)
    assert "KillMode=mixed" in unit.read_text(encoding="utf-8").splitlines()
