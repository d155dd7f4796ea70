"""Scores that published code gave for weights drawn by name and generated pictures."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import torch
from torch import Tensor, nn

from models.networks.backbones.pixels import RgbTriple, normalise
from models.weights import state_dict_shapes
from vqmon.core.types import View
from vqmon.scoring.manifests.frame_scorer import golden_frames

SCORES: Mapping[str, Any] = json.loads(Path(__file__).with_name("recorded.json").read_text(encoding="utf-8"))
"""Network -> the names of its tensors by their checksum, and its scores of `pictures`.

Recorded from HyperNet, DBCNN, MUSIQ and CFANet of chaofengc/IQA-PyTorch 01ae427 and from MANIQA of IIGROUP/MANIQA, with
the sizes that the tests give.
"""


def draw_weights(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """A tensor for each name, which depends on the name alone; matrices keep the scale of their input."""
    return {name: torch.from_numpy(_draw(name, shape)) for name, shape in shapes.items()}


def _draw(name: str, shape: tuple[int, ...]) -> Any:
    generator = np.random.Generator(np.random.PCG64(crc32(name.encode())))
    values = generator.standard_normal(shape, dtype=np.float32)
    if name.endswith("running_var"):
        return np.float32(1) + np.abs(values) / np.float32(10)
    if len(shape) > 1 and not name.endswith(("emb", "embed", "token", "cls", "table")):
        return values * np.float32(1.4 / np.prod(shape[1:]) ** 0.5)
    is_scale = len(shape) == 1 and name.endswith("weight")
    return values * np.float32(0.1) + np.float32(is_scale)


def pictures(height: int, width: int, *, mean: RgbTriple, std: RgbTriple) -> Tensor:
    """Two generated pictures (2, 3, height, width), normalised."""
    frames = golden_frames(View(kind="stretch", width=width, height=height), seed=7, frames=2)
    return normalise(torch.from_numpy(frames).permute(0, 3, 1, 2), mean, std, dtype=torch.float32)


def fill(network: nn.Module) -> nn.Module:
    """The network with drawn weights."""
    shapes = {name: shape for name, shape in state_dict_shapes(network).items() if not name.endswith("tracked")}
    network.load_state_dict(draw_weights(shapes), strict=False)
    return network.eval()


def names_checksum(network: nn.Module) -> int:
    """Of the sorted names and shapes of the network's tensors."""
    shapes = state_dict_shapes(network)
    return crc32("\n".join(f"{name} {shapes[name]}" for name in sorted(shapes)).encode())
