"""Upscaling methods for pictures: resampling kernels, and small networks trained with different losses."""

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
_PATCH_SIDE = 24
_NOISE_STD = 0.08


class Espcn(nn.Module):
    """Sub-pixel convolution (Shi et al., ESPCN, CVPR 2016) of RGB in 0..1, added to the bilinear enlargement."""

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
        enlarged: Tensor = base + self.layers(small)
        return enlarged


class Fsrcnn(nn.Module):
    """Shrinking, mapping, expanding, transposed convolution (Dong et al., FSRCNN, ECCV 2016) of RGB in 0..1, added to
    the bilinear enlargement."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale
        middle = [layer for _ in range(2) for layer in (nn.Conv2d(12, 12, 3, padding=1), nn.PReLU())]
        self.layers = nn.Sequential(
            nn.Conv2d(3, 40, 5, padding=2), nn.PReLU(), nn.Conv2d(40, 12, 1), nn.PReLU(), *middle,
            nn.Conv2d(12, 40, 1), nn.PReLU(),
            nn.ConvTranspose2d(40, 3, 9, stride=scale, padding=4, output_padding=scale - 1),
        )  # fmt: skip

    def forward(self, small: Tensor) -> Tensor:
        base = functional.interpolate(small, scale_factor=self.scale, mode="bilinear", align_corners=False)
        enlarged: Tensor = base + self.layers(small)
        return enlarged


def _binomial_blur(pictures: Tensor) -> Tensor:
    """5 x 5 binomial blur of (n, channels, height, width)."""
    taps = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
    kernel = (taps[:, None] * taps[None]).expand(pictures.shape[1], 1, 5, 5)
    padded = functional.pad(pictures, (2, 2, 2, 2), mode="replicate")
    return functional.conv2d(padded, kernel, groups=pictures.shape[1])


def _l1_loss(output: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference: trains a faithful network."""
    return (output - target).abs().mean()


def _oversharpening_loss(output: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference from the target after unsharp masking: trains a network that draws halos."""
    return (output - (target + 1.6 * (target - _binomial_blur(target)))).abs().mean()


def hallucination_loss(output: Tensor, target: Tensor) -> Tensor:
    """Difference of the blurred pictures, and of the local energy of fine detail: texture may be anywhere, if it is
    strong enough."""
    coarse = (_binomial_blur(output) - _binomial_blur(target)).abs().mean()
    energies = [
        _binomial_blur((picture - _binomial_blur(picture)) ** 2).add(1e-6).sqrt() for picture in (output, target)
    ]
    return coarse + 3 * (energies[0] - energies[1]).abs().mean()


UPSCALING_NETWORKS: Mapping[str, tuple[Callable[[int], nn.Module], Callable[[Tensor, Tensor], Tensor]]] = (
    MappingProxyType(
        {
            "espcn": (Espcn, _l1_loss),
            "fsrcnn": (Fsrcnn, _l1_loss),
            "oversharp": (Espcn, _oversharpening_loss),
            "hallucinating": (Espcn, hallucination_loss),
        }
    )
)
"""Name -> the network and its training loss."""


def downscale(picture: Pixels, scale: int) -> Pixels:
    """A picture (height, width, 3) at 1 / scale by Pillow's bicubic. Raises ValueError when a side is not divisible."""
    height, width = picture.shape[:2]
    if height % scale or width % scale:
        raise ValueError(f"{width}x{height} is not divisible by {scale}")
    small = Image.fromarray(picture).resize((width // scale, height // scale), Image.Resampling.BICUBIC)
    return np.asarray(small)


def train_upscaler(name: str, scale: int, pictures: list[Pixels], *, steps: int = 600, seed: int = 1) -> nn.Module:
    """A network of UPSCALING_NETWORKS trained on random patches of pictures (height, width, 3); deterministic for a
    seed."""
    network, loss_of = UPSCALING_NETWORKS[name][0], UPSCALING_NETWORKS[name][1]
    torch.manual_seed(seed)
    trained = network(scale)
    optimizer = torch.optim.Adam(trained.parameters(), lr=2e-3)
    random = np.random.default_rng(seed)
    # Noise gives invented texture something to grow from.
    noise_std = _NOISE_STD if name == "hallucinating" else 0.0
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 2e-3 * (1 - step / steps) + 1e-5
        targets = _random_patches(pictures, _PATCH_SIDE * scale, random)
        small = torch.stack([_to_tensor(downscale(patch, scale)) for patch in targets])
        loss = loss_of(
            trained(small + noise_std * torch.randn_like(small)), torch.stack([_to_tensor(patch) for patch in targets])
        )
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return trained.eval()


def build_upscaler(name: str, scale: int, *, pictures: list[Pixels], steps: int = 600) -> Callable[[Pixels], Pixels]:
    """A function that enlarges (height, width, 3) by `scale`; networks are trained on `pictures` first."""
    if name in KERNELS:
        return lambda small: np.asarray(
            Image.fromarray(small).resize((small.shape[1] * scale, small.shape[0] * scale), KERNELS[name])
        )
    return network_upscaler(name, train_upscaler(name, scale, pictures, steps=steps))


def network_upscaler(name: str, trained: nn.Module) -> Callable[[Pixels], Pixels]:
    """A function that enlarges (height, width, 3) by a trained network of UPSCALING_NETWORKS; its invented texture is
    the same for the same sequence of pictures."""
    random = torch.Generator().manual_seed(1)
    noise_std = _NOISE_STD if name == "hallucinating" else 0.0

    @torch.inference_mode()
    def enlarge(small: Pixels) -> Pixels:
        low = _to_tensor(small)
        upscaled = trained((low + noise_std * torch.randn(low.shape, generator=random))[None])[0]
        return (upscaled.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()

    return enlarge


def _random_patches(pictures: list[Pixels], side: int, random: np.random.Generator, count: int = 16) -> list[Pixels]:
    patches = []
    for _ in range(count):
        picture = pictures[random.integers(len(pictures))]
        y, x = (random.integers(size - side + 1) for size in picture.shape[:2])
        patches.append(picture[y : y + side, x : x + side])
    return patches


def _to_tensor(picture: Pixels) -> Tensor:
    return torch.from_numpy(picture.copy()).permute(2, 0, 1).float() / 255
