"""What tests of the torch side lean on: recorded outputs of reference code."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.conftest import SHARED, need


class OwlGoldens:
    """Outputs of the published code of Q-Align and Compare2Score on weights drawn by name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
        self._archives: dict[str, Any] = {}
        spec = importlib.util.spec_from_file_location("weights_by_name", folder / "weights_by_name.py")
        assert spec is not None
        assert spec.loader is not None
        self._rule: ModuleType = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self._rule)

    def archive(self, name: str) -> Any:
        """One of tiny, full_width, preprocess_map."""
        if name not in self._archives:
            self._archives[name] = np.load(self._folder / f"goldens_{name}.npz")
        return self._archives[name]

    def weight(self, name: str, shape: tuple[int, ...], *, salt: str = "") -> NDArray[np.float32] | None:
        """A tensor by its published name; None for tables that the network computes."""
        values: NDArray[np.float32] | None = self._rule.weight(name, shape, salt=salt)
        return values

    def picture(self, seed: int, height: int = 448, width: int = 448) -> NDArray[np.uint8]:
        """(height, width, 3)."""
        drawn: NDArray[np.uint8] = self._rule.picture(seed, height, width)
        return drawn


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Threads that wait for one another by spinning are many times slower on a machine that does other work too."""
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def owl_goldens() -> OwlGoldens:
    folder = SHARED / "goldens" / "owl"
    need("fixtures", present=folder.is_dir(), remedy=f"put the recorded outputs at {folder}")
    return OwlGoldens(folder)


@pytest.fixture(scope="session")
def rich_goldens() -> Any:
    from tests.models.rich_goldens import RichGoldens

    folder = SHARED / "goldens" / "rich"
    need("fixtures", present=folder.is_dir(), remedy=f"put the recorded outputs at {folder}")
    return RichGoldens(folder)


@pytest.fixture(scope="session")
def level_weights() -> dict[str, Any]:
    """Random weights of a small mPLUG-Owl2."""
    from tests.models.level_scorers import CONFIG
    from tests.models.owl_weights import random_weights

    return random_weights(CONFIG)


@pytest.fixture(scope="session")
def level_checkpoint(level_weights: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with these weights as two shards, and five anchors."""
    from tests.models.level_scorers import write_checkpoint

    folder = tmp_path_factory.mktemp("weights")
    write_checkpoint(level_weights, folder)
    return folder


@pytest.fixture(scope="session")
def level_scorers(level_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with Q-Align and Compare2Score, exported."""
    from tests.models.level_scorers import export_both

    folder = tmp_path_factory.mktemp("built")
    export_both(level_checkpoint, folder)
    return folder
