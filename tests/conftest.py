"""What every test may lean on: real media, and skips that can be made to fail."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.postgres import PostgresServer, programs, running
from vqmon.transport.history.backends.location import HistoryLocation, PostgresAddress

# Property tests are about properties, not about speed: no deadlines.
settings.register_profile("vqmon", deadline=None)
settings.load_profile("vqmon")

REQUIRED = {name for name in os.environ.get("VQMON_REQUIRE", "").split(",") if name}
SHARED = Path(__file__).parents[2] / "shared"


def need(name: str, *, present: bool, remedy: str) -> None:
    """Skip the test when something is absent, or fail it when VQMON_REQUIRE names that thing."""
    if present:
        return
    if name in REQUIRED:
        pytest.fail(f"VQMON_REQUIRE names {name}: {remedy}")
    pytest.skip(f"no {name}: {remedy}")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real media made by others."""
    folder = SHARED / "fixtures"
    need("fixtures", present=folder.is_dir(), remedy=f"put the media at {folder}")
    return folder


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a Chromium browser."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    need("chromium", present=path is not None, remedy="install Debian's `chromium`")
    return str(path)


@pytest.fixture(scope="session")
def alertmanager() -> str:
    """The path of a Prometheus Alertmanager."""
    path = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
    need("alertmanager", present=path is not None, remedy="install Debian's `prometheus-alertmanager`")
    return str(path)


@pytest.fixture(scope="session")
def promtool() -> str:
    """The path of Prometheus' checker of rule files."""
    path = shutil.which("promtool")
    need("promtool", present=path is not None, remedy="install Debian's `prometheus`")
    return str(path)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server; `empty_database` gives one that holds nothing."""
    bin = programs()
    need("postgres", present=bin is not None, remedy="install Debian's `postgresql`")
    assert bin is not None
    with running(bin) as server:
        yield server


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def history_location(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[HistoryLocation]:
    """Where there is no history yet: a file, and a database."""
    if request.param == "sqlite":
        yield tmp_path / "it's 100 %.db"
        return
    server = request.getfixturevalue("postgres")
    with server.empty_database() as url:
        yield PostgresAddress(url=url, password_file=server.password_file)


def pytest_runtest_teardown() -> None:
    """Reset the priority: as root, SVT-AV1 gives the thread that encodes real-time priority, which programs inherit."""
    if sys.platform == "linux" and os.sched_getscheduler(0) != os.SCHED_OTHER:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
