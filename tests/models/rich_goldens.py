"""Recorded outputs of five published quality networks on weights drawn by name, and how to compare with them."""

import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

SALT = "open-2026:"


class RichGoldens:
    """The folder of recorded outputs: archives, inputs by seed, weights by name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text())["models"]
        self._weights = _module(folder / "weights_by_name.py")
        self._inputs = _module(folder / "inputs_by_seed.py")
        self._archives: dict[str, Any] = {}

    def archive(self, name: str) -> Any:
        """One of fastvqa_b, dover, liqe, slowfast_r50, rq_vqa."""
        if name not in self._archives:
            self._archives[name] = np.load(self._folder / f"{name}.npz")
        return self._archives[name]

    def frames(self, seed: int, count: int, height: int, width: int) -> NDArray[np.uint8]:
        """(count, height, width, 3)."""
        drawn: NDArray[np.uint8] = self._inputs.frames(seed, count, height, width)
        return drawn

    def clip(self, seed: int, count: int, side: int) -> Tensor:
        """(3, count, side, side) uint8."""
        return torch.from_numpy(self.frames(seed, count, side, side)).permute(3, 0, 1, 2)

    def features(self, seed: int, name: str, shape: tuple[int, ...]) -> Tensor:
        """Standard normal values of a named block."""
        return torch.from_numpy(self._inputs.features(seed, name, shape))

    def shapes(self, model: str) -> dict[str, tuple[int, ...]]:
        """Name -> shape of everything that is drawn."""
        drawn = self.manifest[model]["state_dict"]["drawn_state"]
        return {name: tuple(shape) for name, shape in drawn.items()}

    def weights(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
        """Tensors by their published names."""
        return {
            name: torch.from_numpy(self._weights.weight(name, shape, SALT))
            for name, shape in shapes.items()
            if not self._weights.is_computed(name)
        }


def fill(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load tensors, all of them and no others; counters of batches are nobody's."""
    missing, extra = network.load_state_dict(weights, strict=False, assign=True)
    assert not extra
    assert all(name.endswith("num_batches_tracked") for name in missing)
    network.eval()


def near(actual: Any, expected: Any, *, share: float = 1e-4) -> None:
    """Within a share of the largest value."""
    actual, expected = np.asarray(actual, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    assert actual.shape == expected.shape
    apart, largest = float(np.abs(actual - expected).max()), float(np.abs(expected).max())
    assert apart <= share * largest, f"{apart:.2e} apart, the largest value is {largest:.2e}"


def near_stats(actual: Tensor, expected: NDArray[np.float64]) -> None:
    """Mean, deviation, ends, mean size and norm of a whole tensor."""
    values = actual.double()
    stats = [values.mean(), values.std(correction=0), values.min(), values.max(), values.abs().mean(), values.norm()]
    slack = 1e-4 * np.abs(expected)
    slack[0] = 1e-4 * expected[1]
    assert (np.abs(np.array([float(value) for value in stats]) - expected) <= slack).all()


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
