"""HyperIQA: a network whose last layers have weights that another part of it derives from the picture's content.

Su et al., "Blindly Assess Image Quality in the Wild Guided by a Self-Adaptive Hyper Network", CVPR 2020. Parameter
names as in IQA-PyTorch's file.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from models.networks.backbones.resnet import RESNET_50, STAGE_CHANNELS, ResNetStages

CROP_SIDE = 224
_CONTENT_CHANNELS = 112
_CELLS = 7
# layers of the target network, from its input to its only output
_TARGET_SIZES = (224, 112, 56, 28, 14, 1)
_DISTORTION_FEATURES = 16


class HyperIqa(nn.Module):
    """Normalised crops (crops, 3, 224, 224) -> scores (crops)."""

    def __init__(self, depths: tuple[int, ...] = RESNET_50) -> None:
        super().__init__()
        self.base_model = ResNetStages(depths)
        self.lda_modules = _distortion_modules()
        pairs = pairwise(_TARGET_SIZES[:-1])
        weights: list[nn.Module] = [
            nn.Conv2d(_CONTENT_CHANNELS, inputs * outputs // _CELLS**2, 3, padding=1) for inputs, outputs in pairs
        ]
        self.fc_w_modules = nn.ModuleList([*weights, _pooled_linear(_TARGET_SIZES[-2])])
        self.fc_b_modules = nn.ModuleList(_pooled_linear(size) for size in _TARGET_SIZES[1:])
        self.conv1 = nn.Sequential(
            nn.Conv2d(STAGE_CHANNELS[-1], 1024, 1), nn.ReLU(),
            nn.Conv2d(1024, 512, 1), nn.ReLU(),
            nn.Conv2d(512, _CONTENT_CHANNELS, 1), nn.ReLU(),
        )  # fmt: skip

    def forward(self, pixels: Tensor) -> Tensor:
        maps = self.base_model(pixels)[1:]
        distortion = torch.cat([module(each) for module, each in zip(self.lda_modules, maps, strict=True)], dim=1)
        content = self.conv1(maps[-1])
        values = distortion[:, None]
        last = len(self.fc_w_modules) - 1
        for index, (weights, biases) in enumerate(zip(self.fc_w_modules, self.fc_b_modules, strict=True)):
            matrix = weights(content).flatten(1).unflatten(1, (_TARGET_SIZES[index + 1], _TARGET_SIZES[index]))
            values = values @ matrix.transpose(1, 2) + biases(content)[:, None]
            values = values.sigmoid() if index < last else values
        return values[:, 0, 0]


def _distortion_modules() -> nn.ModuleList:
    """Local distortions of each stage's map, as vectors that make up the target network's input."""
    modules = []
    for stage, (channels, reduced) in enumerate(zip(STAGE_CHANNELS[1:-1], (16, 32, 64), strict=True), start=2):
        cells = (CROP_SIDE // 2**stage // _CELLS) ** 2
        modules.append(
            nn.Sequential(
                nn.Conv2d(channels, reduced, 1, bias=False),
                nn.AvgPool2d(_CELLS),
                nn.Flatten(),
                nn.Linear(reduced * cells, _DISTORTION_FEATURES),
            )
        )
    remaining = _TARGET_SIZES[0] - len(modules) * _DISTORTION_FEATURES
    last = nn.Sequential(nn.AvgPool2d(_CELLS), nn.Flatten(), nn.Linear(STAGE_CHANNELS[-1], remaining))
    return nn.ModuleList([*modules, last])


def _pooled_linear(outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(_CONTENT_CHANNELS, outputs))
