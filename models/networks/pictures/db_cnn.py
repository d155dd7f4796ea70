"""DB-CNN: features of a network for synthetic distortions and of VGG-16, joined by bilinear pooling.

Zhang et al., "Blind Image Quality Assessment Using a Deep Bilinear Convolutional Neural Network", IEEE TCSVT 30(1),
2020. Parameter names as published.
"""

from itertools import pairwise

from torch import Tensor, nn
from torchvision.models import vgg16

_VGG_CHANNELS = 512
# channels of the network for synthetic distortions, and whether a layer halves the side
_SYNTHETIC_CHANNELS = (3, 48, 48, 64, 64, 64, 64, 128, 128, 128)
_HALVING_LAYERS = (1, 3, 5, 8)
_EPSILON = 1e-8


class DbCnn(nn.Module):
    """Normalised pictures (pictures, 3, height, width), sides of at least 16 px -> scores (pictures)."""

    def __init__(self) -> None:
        super().__init__()
        self.features1 = nn.Sequential(*list(vgg16(weights=None).features)[:-1])
        layers: list[nn.Module] = []
        for index, (inputs, outputs) in enumerate(pairwise(_SYNTHETIC_CHANNELS)):
            stride = 2 if index in _HALVING_LAYERS else 1
            layers += [nn.Conv2d(inputs, outputs, 3, stride, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
        self.features2 = nn.Sequential(*layers)
        self.fc = nn.Linear(_VGG_CHANNELS * _SYNTHETIC_CHANNELS[-1], 1)

    def forward(self, pixels: Tensor) -> Tensor:
        authentic, synthetic = self.features1(pixels), self.features2(pixels)
        if synthetic.shape[2:] != authentic.shape[2:]:
            synthetic = nn.functional.interpolate(synthetic, authentic.shape[2:], mode="bilinear", align_corners=True)
        cells = authentic.shape[2] * authentic.shape[3]
        joined = (authentic.flatten(2) @ synthetic.flatten(2).transpose(1, 2) / cells).flatten(1)
        return self.fc(nn.functional.normalize((joined + _EPSILON).sqrt()))[:, 0]
