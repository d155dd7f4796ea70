"""What can be seen of a picture without anybody's published weights: lite's trunk, statistics, fragments, saliency."""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from models import data
from models.data import cut_tiles, to_canvas
from models.lite import Lite

Pixels = NDArray[np.uint8]

GRID = 12
"""Maps of all stages are brought to this many rows and columns."""
WIDTHS = (32, 64, 96, 960)
"""Channels of the trunk's stages that are looked at."""
STATISTICS = 238
FRAGMENTS, FRAGMENT = 7, 32
"""Fragments per side of the grid, and their side in pixels."""


def canvas_of(picture: Pixels) -> Pixels:
    """A picture of any size with a short side of 540 px, its long side cut to four times that."""
    return to_canvas(Image.fromarray(picture))[: 4 * data.SHORT_SIDE, : 4 * data.SHORT_SIDE]


def maps_of(lite: Lite, canvas: Pixels) -> NDArray[np.float16]:
    """Maps of four stages of lite's trunk, joined: (1152, 12, 12), of a canvas (height, width, 3)."""
    shares = _tensor(canvas)[None]
    with torch.inference_mode():
        _, mscn = lite.statistics(shares)
        joined = torch.cat([(shares - lite.mean) / lite.std, functional.pad(mscn, (3, 3, 3, 3))], 1)
        stages = lite.trunk(joined)[1:]
        found = torch.cat([functional.adaptive_avg_pool2d(stage, GRID)[0] for stage in stages])
    return found.half().numpy()


def statistics_of(lite: Lite, canvas: Pixels) -> NDArray[np.float32]:
    """Natural-scene statistics: mean and spread over the canvas' 12 tiles, (238,)."""
    with torch.inference_mode():
        tiles = torch.stack([_tensor(tile) for tile in cut_tiles(canvas)])
        values, _ = lite.statistics(tiles)
        return torch.cat([values.mean(0), values.std(0)]).numpy()


def fragments_of(canvas: Pixels, *, seed: int) -> Pixels:
    """A grid of 7 x 7 fragments of 32 px at native scale, one at a drawn place of each cell: (224, 224, 3)."""
    height, width = canvas.shape[:2]
    rows, columns = height / FRAGMENTS, width / FRAGMENTS
    places = np.random.default_rng(seed).random((FRAGMENTS, FRAGMENTS, 2))
    found = np.empty((FRAGMENTS * FRAGMENT, FRAGMENTS * FRAGMENT, 3), np.uint8)
    for row, column in np.ndindex(FRAGMENTS, FRAGMENTS):
        y = int(row * rows + places[row, column, 0] * (rows - FRAGMENT))
        x = int(column * columns + places[row, column, 1] * (columns - FRAGMENT))
        cut = canvas[y : y + FRAGMENT, x : x + FRAGMENT]
        found[row * FRAGMENT : (row + 1) * FRAGMENT, column * FRAGMENT : (column + 1) * FRAGMENT] = cut
    return found


def saliency_of(canvas: Pixels) -> NDArray[np.float16]:
    """Where a picture stands out from what its spectrum lets expect: (1, 12, 12), 0..1 at the most salient place.

    Spectral residual at 64 x 64 (Hou & Zhang, CVPR 2007): a classical stand-in for networks trained on eye tracking.
    """
    grey = np.asarray(Image.fromarray(canvas).convert("L").resize((64, 64), Image.Resampling.BICUBIC), np.float64)
    spectrum = np.fft.fft2(grey)
    log = np.log(np.abs(spectrum) + 1e-9)
    residual = log - _box(log, 3)
    found = np.abs(np.fft.ifft2(np.exp(residual + 1j * np.angle(spectrum)))) ** 2
    for _ in range(3):
        found = _box(found, 5)
    small = functional.adaptive_avg_pool2d(torch.from_numpy(found)[None], GRID)
    return (small / small.max().clamp_min(1e-12)).half().numpy()


class FragmentNet(nn.Module):
    """Fragments (pictures, 224, 224, 3) uint8 -> quality (pictures), 0..1; a small convolution trained from scratch."""

    def __init__(self, width: int = 96) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        taken = 3
        # Strides within 32 px keep fragments apart until each is one place.
        for given in (24, 32, 48, 64, width):
            layers += [nn.Conv2d(taken, given, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(given), nn.ReLU()]
            taken = given
        self.layers = nn.Sequential(*layers)
        self.last = nn.Linear(2 * width, 1)

    def features(self, fragments: Tensor) -> Tensor:
        """Mean and spread over the places (pictures, 2 * width)."""
        maps = self.layers(fragments.permute(0, 3, 1, 2).float() / 127.5 - 1).flatten(2)
        return torch.cat([maps.mean(2), maps.std(2)], 1)

    def forward(self, fragments: Tensor) -> Tensor:
        return torch.sigmoid(self.last(self.features(fragments))).squeeze(1)


def _box(values: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """The mean of each neighbourhood, the border repeated."""
    padded = np.pad(values, side // 2, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (side, side))
    found: NDArray[np.float64] = windows.mean((2, 3))
    return found


def _tensor(pixels: Pixels) -> Tensor:
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255


SPATIAL_WIDTH = 2 * sum(WIDTHS)
FEATURES: Mapping[str, int] = MappingProxyType({"spatial": SPATIAL_WIDTH, "statistics": STATISTICS, "fragments": 192})
"""Feature -> numbers per picture, in the order in which the regression takes them."""
