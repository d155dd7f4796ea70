"""Reads lite's weights back from its exported ONNX file, so that nobody needs the checkpoint of its training."""

import tomllib
from pathlib import Path

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from models import MODELS_FOLDER
from models.networks.lite import Lite, LiteConfig
from models.weights import WeightsError
from vqmon.scoring.manifests.frame_scorer import builtin_folder

LITE_ONNX = builtin_folder() / "lite@1.onnx"
_COMPUTED_TENSORS = ("statistics.taps",)
# The head that classifies degradations is used in training only.
_NOT_EXPORTED = ("kind.",)


def lite_config() -> LiteConfig:
    """The table `[network]` of `lite.toml`."""
    with (MODELS_FOLDER / "lite.toml").open("rb") as file:
        return LiteConfig(**tomllib.load(file)["network"])


def read_lite_weights(file: Path, config: LiteConfig) -> Lite:
    """The network of `lite@VERSION.onnx`; raises WeightsError when the file holds other weights.

    The export folds every batch norm of the trunk into the convolution before it. So the convolution gets the folded
    weights and the norm after it only adds the folded bias: the same output, in evaluation mode alone.
    """
    lite = Lite(config).eval()
    initializers = {tensor.name: tensor for tensor in onnx.load(str(file)).graph.initializer}
    tensors: dict[str, Tensor] = {}
    for name, expected in lite.state_dict().items():
        if name in initializers:
            tensors[name] = torch.from_numpy(numpy_helper.to_array(initializers[name]).copy())
            if tensors[name].shape != expected.shape:
                raise WeightsError(f"{file}: {name} is {tuple(tensors[name].shape)}, not {tuple(expected.shape)}")
    for conv, norm in _conv_norm_pairs(lite.trunk):
        bias = f"trunk.{conv}.weight_bias"
        if bias not in initializers:
            raise WeightsError(f"{file}: has no {bias}; it is not a graph of this network, or its norms are not folded")
        folded_bias = torch.from_numpy(numpy_helper.to_array(initializers[bias]).copy())
        tensors |= _bias_only_norm(lite, f"trunk.{norm}", folded_bias)
    missing = [
        name for name in lite.state_dict()
        if name not in tensors and name not in _COMPUTED_TENSORS and not name.startswith(_NOT_EXPORTED)
        and not name.endswith(".num_batches_tracked")
    ]  # fmt: skip
    if missing:
        raise WeightsError(f"{file}: has no {missing[0]}; it is not a graph of this network")
    lite.load_state_dict(tensors, strict=False)
    return lite.requires_grad_(requires_grad=False)


def _conv_norm_pairs(trunk: nn.Module) -> list[tuple[str, str]]:
    """(name of a convolution, name of the batch norm after it): modules are registered in the order of execution."""
    layers = [(name, layer) for name, layer in trunk.named_modules() if isinstance(layer, nn.Conv2d | nn.BatchNorm2d)]
    pairs = list(zip(layers[::2], layers[1::2], strict=True))
    for (conv, first), (norm, second) in pairs:
        if not isinstance(first, nn.Conv2d) or not isinstance(second, nn.BatchNorm2d):
            raise WeightsError(f"trunk: {norm} does not follow a convolution ({conv}); this trunk cannot be read back")
    return [(conv, norm) for (conv, _), (norm, _) in pairs]


def _bias_only_norm(lite: Lite, name: str, bias: Tensor) -> dict[str, Tensor]:
    """State of a batch norm that adds a bias and changes nothing else."""
    norm = lite.get_submodule(name)
    assert isinstance(norm, nn.BatchNorm2d)
    ones = torch.ones_like(bias)
    return {
        f"{name}.weight": ones,
        f"{name}.bias": bias,
        f"{name}.running_mean": torch.zeros_like(bias),
        f"{name}.running_var": ones - norm.eps,
    }
