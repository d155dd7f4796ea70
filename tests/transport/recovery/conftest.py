"""A sound history that tests copy and damage."""

import shutil
from pathlib import Path

import pytest

from tests.transport.recovery.damaged import write_history


@pytest.fixture(scope="session")
def sound_history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a history at rest; not to be changed."""
    path = tmp_path_factory.mktemp("sound") / "history.db"
    write_history(path)
    return path


@pytest.fixture
def damaged_history(sound_history: Path, tmp_path: Path) -> Path:
    """A copy of it to damage."""
    return Path(shutil.copy(sound_history, tmp_path / "damaged.db"))
