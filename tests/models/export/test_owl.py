"""Scorers made of mPLUG-Owl2, from a checkpoint to two graphs and a manifest, and the checks of what was written."""

import gc
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import onnx  # noqa: E402

from models import __main__ as command  # noqa: E402
from models.export.owl import PRECISIONS, write_language  # noqa: E402
from models.export.owl_recipes import q_align_recipe  # noqa: E402
from models.networks.owl.language import LanguageConfig  # noqa: E402
from models.networks.owl.owl import OwlConfig  # noqa: E402
from tests.models.level_scorers import CONFIG, FACTS  # noqa: E402
from tests.models.owl_weights import random_weights  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]


def test_graphs_say_nothing_of_the_machine(level_scorers: Path) -> None:
    """No path of the exporting checkout or of a library is left in a file."""
    for path in level_scorers.glob("*.onnx"):
        content = path.read_bytes()
        assert str(Path(command.__file__).parents[2]).encode() not in content
        assert b"site-packages" not in content
        onnx.checker.check_model(str(path))


class Watched(Mapping[str, Any]):
    """Weights that are made anew each time they are read; counts the bytes of those that somebody still holds."""

    def __init__(self, weights: Mapping[str, Any]) -> None:
        self._weights, self.alive, self.most = weights, 0, 0

    def __getitem__(self, name: str) -> Any:
        tensor = self._weights[name].clone()
        size = tensor.nbytes
        if ".layers." in name:
            self.alive += size
            self.most = max(self.most, self.alive)
            weakref.finalize(tensor, self._let_go, size)
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._weights)

    def __len__(self) -> int:
        return len(self._weights)

    def _let_go(self, size: int) -> None:
        self.alive -= size


def test_no_more_than_a_layer_is_held_in_memory(tmp_path: Path) -> None:
    """Four layers are exported while at most about one is alive: so 8.2 billion parameters fit where one layer does."""
    config = OwlConfig(
        vision=CONFIG.vision, abstractor=CONFIG.abstractor, language=LanguageConfig(width=64, depth=4, heads=2)
    )
    watched = Watched(random_weights(config))
    one_layer = sum(watched[name].nbytes for name in watched if name.startswith("model.layers.0."))
    gc.collect()
    assert watched.alive == 0
    watched.most = 0
    recipe = q_align_recipe(FACTS, config=config)
    write_language(recipe, watched, precision=PRECISIONS["int4"], target=tmp_path / "x.onnx", max_embedded_bytes=1000)
    assert 0 < watched.most <= 1.1 * one_layer
