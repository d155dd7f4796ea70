"""Random weights of a small mPLUG-Owl2, laid out as the published checkpoints are."""

import torch
from torch import Tensor

from models.networks.owl.owl import Owl, OwlConfig, tiny_config

CONFIG = tiny_config()


def random_weights(config: OwlConfig = CONFIG, *, seed: int = 0) -> dict[str, Tensor]:
    """Every tensor by its published name, lively enough that each detail shows in the answer."""
    generator = torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in Owl(config).state_dict().items()}
    return {name: _draw(name, shape, generator) for name, shape in shapes.items() if "pos_embed" not in name}


def _draw(name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
    noise = torch.randn(shape, generator=generator)
    if len(shape) > 1:
        return noise * (1.5 / shape[1:].numel() ** 0.5 if "embed_tokens" not in name else 0.5)
    return noise * 0.1 + (1.0 if "norm" in name and name.endswith("weight") else 0.0)


def network(weights: dict[str, Tensor], config: OwlConfig = CONFIG) -> Owl:
    """The plain network with these weights."""
    net = Owl(config)
    missing, extra = net.load_state_dict(weights, strict=False)
    assert not extra
    assert all("pos_embed" in name for name in missing)
    return net.eval()
