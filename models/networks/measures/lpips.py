"""LPIPS 0.1: weighted differences of normalized features of AlexNet or VGG16.

Zhang, Isola, Efros, Shechtman, Wang, "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", CVPR
2018, version 0.1 of the weights. Of each of five layers the features of both pictures are divided by their length per
pixel; a layer's value is the mean over the pixels of the weighted squared differences, the measure is their sum.
"""

from collections.abc import Iterator, Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torchvision.models import alexnet, vgg16

Trunk = Literal["alex", "vgg"]

_LAYERS: Mapping[Trunk, tuple[tuple[int, int], ...]] = {
    # (behind the last module of torchvision's `features`, channels): the outputs of ReLU
    "alex": ((2, 64), (5, 192), (8, 384), (10, 256), (12, 256)),
    "vgg": ((4, 64), (9, 128), (16, 256), (23, 512), (30, 512)),
}
# from -1..1 to pixels normalized by the mean and deviation of ImageNet
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
_EPSILON = 1e-10


class Lpips(nn.Module):
    """The reference and the picture, (pairs, height, width, 3) uint8 RGB -> (pairs,), from 0 for equal pictures.

    The state dict has the names of torchvision's trunk (`features.*`) and of the authors' heads (`lin0.model.1.weight`
    to `lin4`).
    """

    def __init__(self, trunk: Trunk) -> None:
        super().__init__()
        layers = _LAYERS[trunk]
        features = (alexnet if trunk == "alex" else vgg16)(weights=None).features
        self.features = nn.Sequential(*list(features)[: layers[-1][0]])
        self._ends = tuple(end for end, _ in layers)
        self.register_buffer("shift", torch.tensor(_SHIFT)[:, None, None], persistent=False)
        self.register_buffer("scale", torch.tensor(_SCALE)[:, None, None], persistent=False)
        for index, (_, channels) in enumerate(layers):
            convolution = nn.Conv2d(channels, 1, 1, bias=False)
            self.add_module(f"lin{index}", nn.ModuleDict({"model": nn.ModuleDict({"1": convolution})}))

    def forward(self, reference: Tensor, picture: Tensor) -> Tensor:
        total = torch.zeros((), device=picture.device)
        for index, (x, y) in enumerate(zip(self._layers(reference), self._layers(picture), strict=True)):
            weight = self.get_parameter(f"lin{index}.model.1.weight")
            difference = x - y
            total = total + nn.functional.conv2d(difference * difference, weight).mean((1, 2, 3))
        return total

    def _layers(self, pixels: Tensor) -> Iterator[Tensor]:
        planes = pixels.permute(0, 3, 1, 2).float() / 127.5 - 1
        maps = (planes - self.get_buffer("shift")) / self.get_buffer("scale")
        for number, module in enumerate(self.features, start=1):
            maps = module(maps)
            if number in self._ends:
                yield maps / ((maps * maps).sum(1, keepdim=True).sqrt() + _EPSILON)
