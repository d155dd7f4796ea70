"""Where histories are kept in tests: both databases. Property tests are about properties, not speed: no deadlines."""

from pathlib import Path

import pytest
from hypothesis import settings

from vqmon.transport.places import Place, Server

settings.register_profile("vqmon", deadline=None)
settings.load_profile("vqmon")


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Where there is no history yet: a file, and a database."""
    if request.param == "sqlite":
        return tmp_path / "it's 100 %.db"
    server = request.getfixturevalue("postgres")
    return Server(url=server.new_database(), password_file=server.password_file)
