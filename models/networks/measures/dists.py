"""DISTS: structure and texture similarity of features of VGG16.

Ding, Ma, Wang, Simoncelli, "Image Quality Assessment: Unifying Structure and Texture Similarity", IEEE TPAMI 44(5),
2022. Of the pixels and of five layers, per channel: the similarity of the means (texture) and of the correlation
(structure) over the whole picture; the weighted sum is subtracted from 1. Max pooling is replaced by L2 pooling with a
Hann window.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torchvision.models import vgg16

_CHANNELS = (3, 64, 128, 256, 512, 512)
# torchvision's `features` between its poolings, without these
_STAGES = ((0, 4), (5, 9), (10, 16), (17, 23), (24, 30))
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_HANN = (0.5, 1.0, 0.5)
_STABILITY = 1e-6
_POOLING_EPSILON = 1e-12


class Dists(nn.Module):
    """The reference and the picture, (pairs, height, width, 3) uint8 RGB -> (pairs,), from 0 for equal pictures.

    The state dict has the names of torchvision's trunk (`features.*`) and of the authors' weights (`alpha`, `beta`).
    """

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(*list(vgg16(weights=None).features)[: _STAGES[-1][1]])
        self.alpha = nn.Parameter(torch.full((1, sum(_CHANNELS), 1, 1), 0.1))
        self.beta = nn.Parameter(torch.full((1, sum(_CHANNELS), 1, 1), 0.1))
        self.register_buffer("mean", torch.tensor(_MEAN)[:, None, None], persistent=False)
        self.register_buffer("deviation", torch.tensor(_DEVIATION)[:, None, None], persistent=False)
        window = torch.outer(torch.tensor(_HANN), torch.tensor(_HANN))
        self.register_buffer("window", (window / window.sum())[None, None], persistent=False)

    def forward(self, reference: Tensor, picture: Tensor) -> Tensor:
        total = self.alpha.sum() + self.beta.sum()
        alphas, betas = (torch.split(weights[0, :, 0, 0] / total, _CHANNELS) for weights in (self.alpha, self.beta))
        similarity = torch.zeros((), device=picture.device)
        for x, y, alpha, beta in zip(self._layers(reference), self._layers(picture), alphas, betas, strict=True):
            mean_x, mean_y = x.mean((2, 3), keepdim=True), y.mean((2, 3), keepdim=True)
            x, y = x - mean_x, y - mean_y
            texture = (2 * mean_x * mean_y + _STABILITY) / (mean_x**2 + mean_y**2 + _STABILITY)
            covariance = (x * y).mean((2, 3))
            structure = (2 * covariance + _STABILITY) / ((x * x).mean((2, 3)) + (y * y).mean((2, 3)) + _STABILITY)
            similarity = similarity + (alpha * texture[:, :, 0, 0]).sum(1) + (beta * structure).sum(1)
        return 1 - similarity

    def _layers(self, pixels: Tensor) -> Iterator[Tensor]:
        planes = pixels.permute(0, 3, 1, 2).float() / 255
        yield planes
        maps = (planes - self.get_buffer("mean")) / self.get_buffer("deviation")
        for index, (start, stop) in enumerate(_STAGES):
            if index:
                maps = self._pool(maps)
            for module in self.features[start:stop]:
                maps = module(maps)
            yield maps

    def _pool(self, maps: Tensor) -> Tensor:
        channels = maps.shape[1]
        window = self.get_buffer("window").expand(channels, 1, 3, 3)
        powers = nn.functional.conv2d(maps * maps, window, stride=2, padding=1, groups=channels)
        return (powers + _POOLING_EPSILON).sqrt()
