"""Ways to make a picture two or four times as large: plain kernels, and small networks trained to a taste."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

Pixels = NDArray[np.uint8]

KERNELS = MappingProxyType(
    {
        "nearest": Image.Resampling.NEAREST,
        "bilinear": Image.Resampling.BILINEAR,
        "bicubic": Image.Resampling.BICUBIC,
        "lanczos": Image.Resampling.LANCZOS,
    }
)
PATCH = 24
GRAIN = 0.08


class Espcn(nn.Module):
    """Sub-pixel convolution (Shi et al., ESPCN, CVPR 2016) of RGB in 0..1, added to the nearest neighbour's picture."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.layers = nn.Sequential(
            nn.Conv2d(3, 48, 5, padding=2), nn.ReLU(),
            nn.Conv2d(48, 32, 3, padding=1), nn.ReLU(),
            nn.Conv2d(32, 3 * scale * scale, 3, padding=1), nn.PixelShuffle(scale),
        )  # fmt: skip

    def forward(self, small: Tensor) -> Tensor:
        base = functional.interpolate(small, scale_factor=self.scale, mode="bilinear", align_corners=False)
        found: Tensor = base + self.layers(small)
        return found


class Fsrcnn(nn.Module):
    """Shrinks, maps, expands, then a transposed convolution (Dong et al., FSRCNN, ECCV 2016); RGB in 0..1."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale
        middle = [part for _ in range(2) for part in (nn.Conv2d(12, 12, 3, padding=1), nn.PReLU())]
        self.layers = nn.Sequential(
            nn.Conv2d(3, 40, 5, padding=2), nn.PReLU(), nn.Conv2d(40, 12, 1), nn.PReLU(), *middle,
            nn.Conv2d(12, 40, 1), nn.PReLU(),
            nn.ConvTranspose2d(40, 3, 9, stride=scale, padding=4, output_padding=scale - 1),
        )  # fmt: skip

    def forward(self, small: Tensor) -> Tensor:
        base = functional.interpolate(small, scale_factor=self.scale, mode="bilinear", align_corners=False)
        found: Tensor = base + self.layers(small)
        return found


def blurred(pictures: Tensor) -> Tensor:
    """A 5 x 5 binomial blur of (n, channels, height, width)."""
    taps = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
    kernel = (taps[:, None] * taps[None]).expand(pictures.shape[1], 1, 5, 5)
    padded = functional.pad(pictures, (2, 2, 2, 2), mode="replicate")
    return functional.conv2d(padded, kernel, groups=pictures.shape[1])


def faithful(found: Tensor, wanted: Tensor) -> Tensor:
    """Mean absolute difference: as near to the truth as the network can."""
    return (found - wanted).abs().mean()


def oversharp(found: Tensor, wanted: Tensor) -> Tensor:
    """The truth with its edges doubled and haloed by unsharp masking is what is aimed at."""
    return (found - (wanted + 1.6 * (wanted - blurred(wanted)))).abs().mean()


def hallucinating(found: Tensor, wanted: Tensor) -> Tensor:
    """Right when blurred, and with as much fine texture as the truth in each neighbourhood, wherever it lies."""
    coarse = (blurred(found) - blurred(wanted)).abs().mean()
    energies = [blurred((one - blurred(one)) ** 2).add(1e-6).sqrt() for one in (found, wanted)]
    return coarse + 3 * (energies[0] - energies[1]).abs().mean()


TASTES: Mapping[str, tuple[Callable[[int], nn.Module], Callable[[Tensor, Tensor], Tensor]]] = MappingProxyType(
    {
        "espcn": (Espcn, faithful),
        "fsrcnn": (Fsrcnn, faithful),
        "oversharp": (Espcn, oversharp),
        "hallucinating": (Espcn, hallucinating),
    }
)
"""Name -> the network and what it is trained for."""


def shrink(picture: Pixels, scale: int) -> Pixels:
    """(height, width, 3) at 1 / scale, by Pillow's antialiased bicubic; both sides must be divisible."""
    height, width = picture.shape[:2]
    if height % scale or width % scale:
        raise ValueError(f"{width}x{height} is not divisible by {scale}")
    small = Image.fromarray(picture).resize((width // scale, height // scale), Image.Resampling.BICUBIC)
    return np.asarray(small)


def train_upscaler(name: str, scale: int, pictures: list[Pixels], *, steps: int = 600, seed: int = 1) -> nn.Module:
    """A network of TASTES trained on random patches of pictures (height, width, 3); the same for the same seed."""
    network, loss_of = TASTES[name][0], TASTES[name][1]
    torch.manual_seed(seed)
    net = network(scale)
    optimiser = torch.optim.Adam(net.parameters(), lr=2e-3)
    random = np.random.default_rng(seed)
    # So that invented texture has something to grow from.
    grain = GRAIN if name == "hallucinating" else 0.0
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = 2e-3 * (1 - step / steps) + 1e-5
        wanted = _patches(pictures, PATCH * scale, random)
        small = torch.stack([_tensor(shrink(patch, scale)) for patch in wanted])
        loss = loss_of(net(small + grain * torch.randn_like(small)), torch.stack([_tensor(patch) for patch in wanted]))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return net.eval()


def upscaler(name: str, scale: int, *, pictures: list[Pixels], steps: int = 600) -> Callable[[Pixels], Pixels]:
    """What makes (height, width, 3) `scale` times as large; networks are trained on `pictures` first."""
    if name in KERNELS:
        return lambda small: np.asarray(
            Image.fromarray(small).resize((small.shape[1] * scale, small.shape[0] * scale), KERNELS[name])
        )
    net = train_upscaler(name, scale, pictures, steps=steps)
    random = torch.Generator().manual_seed(1)
    grain = GRAIN if name == "hallucinating" else 0.0

    @torch.inference_mode()
    def enlarge(small: Pixels) -> Pixels:
        given = _tensor(small)
        found = net((given + grain * torch.randn(given.shape, generator=random))[None])[0]
        return (found.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()

    return enlarge


def _patches(pictures: list[Pixels], side: int, random: np.random.Generator, count: int = 16) -> list[Pixels]:
    found = []
    for _ in range(count):
        picture = pictures[random.integers(len(pictures))]
        y, x = (random.integers(size - side + 1) for size in picture.shape[:2])
        found.append(picture[y : y + side, x : x + side])
    return found


def _tensor(picture: Pixels) -> Tensor:
    return torch.from_numpy(picture.copy()).permute(2, 0, 1).float() / 255
