"""Lite's weights, read back out of its exported pair: nobody needs the checkpoint of its training."""

import tomllib
from pathlib import Path

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from models import MODELS_FOLDER
from models.networks.lite import Lite, LiteConfig
from models.weights import WeightsError

PAIR = MODELS_FOLDER / "built" / "lite@1.onnx"
_COMPUTED = ("statistics.taps",)
# It tells kinds of degradation apart in training; no graph holds it.
_NOT_EXPORTED = ("kind.",)


def lite_config() -> LiteConfig:
    """The shape in `lite.toml`."""
    with (MODELS_FOLDER / "lite.toml").open("rb") as file:
        return LiteConfig(**tomllib.load(file)["network"])


def read_pair(file: Path, config: LiteConfig) -> Lite:
    """The network of a graph `lite@VERSION.onnx`; raises WeightsError when that holds other weights.

    Exporting folds every norm of the trunk into the convolution before it. So a convolution gets the folded weights,
    and the norm after it adds the folded bias and does nothing else: the same numbers, in evaluation mode alone.
    """
    lite = Lite(config).eval()
    held = {each.name: each for each in onnx.load(str(file)).graph.initializer}
    found: dict[str, Tensor] = {}
    for name, wanted in lite.state_dict().items():
        if name in held:
            found[name] = torch.from_numpy(numpy_helper.to_array(held[name]).copy())
            if found[name].shape != wanted.shape:
                raise WeightsError(f"{file}: {name} is {tuple(found[name].shape)}, not {tuple(wanted.shape)}")
    for conv, norm in _norms(lite.trunk):
        bias = f"trunk.{conv}.weight_bias"
        if bias not in held:
            raise WeightsError(
                f"{file}: holds no {bias}; it is not a graph of this network, or its norms are not folded"
            )
        found |= _idle(lite, f"trunk.{norm}", torch.from_numpy(numpy_helper.to_array(held[bias]).copy()))
    missing = [
        name for name in lite.state_dict()
        if name not in found and name not in _COMPUTED and not name.startswith(_NOT_EXPORTED)
        and not name.endswith(".num_batches_tracked")
    ]  # fmt: skip
    if missing:
        raise WeightsError(f"{file}: holds no {missing[0]}; it is not a graph of this network")
    lite.load_state_dict(found, strict=False)
    return lite.requires_grad_(requires_grad=False)


def _norms(trunk: nn.Module) -> list[tuple[str, str]]:
    """(convolution, the norm after it), by name: a network's layers are named in the order in which they are run."""
    layers = [(name, layer) for name, layer in trunk.named_modules() if isinstance(layer, nn.Conv2d | nn.BatchNorm2d)]
    pairs = list(zip(layers[::2], layers[1::2], strict=True))
    for (conv, before), (norm, after) in pairs:
        if not isinstance(before, nn.Conv2d) or not isinstance(after, nn.BatchNorm2d):
            raise WeightsError(f"trunk: {norm} does not follow a convolution ({conv}); this trunk cannot be read back")
    return [(conv, norm) for (conv, _), (norm, _) in pairs]


def _idle(lite: Lite, name: str, bias: Tensor) -> dict[str, Tensor]:
    """A norm that adds a bias and does nothing else."""
    norm = lite.get_submodule(name)
    assert isinstance(norm, nn.BatchNorm2d)
    one = torch.ones_like(bias)
    return {
        f"{name}.weight": one,
        f"{name}.bias": bias,
        f"{name}.running_mean": torch.zeros_like(bias),
        f"{name}.running_var": one - norm.eps,
    }
