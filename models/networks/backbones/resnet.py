"""ResNet with bottleneck blocks: the maps after its first convolution and after each of its four stages.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, with the stride in the 3 x 3 convolutions, as in
torchvision and timm, whose parameter names it has. The classifier is left out.
"""

from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck, ResNet

RESNET_50 = (3, 4, 6, 3)
"""Blocks per stage."""
STAGE_CHANNELS = (64, 256, 512, 1024, 2048)
"""Channels of the five maps, which have 1/2, 1/4, 1/8, 1/16 and 1/32 of the picture's side."""


class ResNetStages(nn.Module):
    """Normalised pictures (pictures, 3, height, width) -> five maps (pictures, channels, rows, columns)."""

    def __init__(self, depths: tuple[int, ...] = RESNET_50) -> None:
        super().__init__()
        network = ResNet(Bottleneck, list(depths))
        self.conv1, self.bn1 = network.conv1, network.bn1
        self.layer1, self.layer2 = network.layer1, network.layer2
        self.layer3, self.layer4 = network.layer3, network.layer4

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        maps = [self.bn1(self.conv1(pixels)).relu()]
        current = nn.functional.max_pool2d(maps[0], 3, stride=2, padding=1)
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            current = stage(current)
            maps.append(current)
        return tuple(maps)
