"""The mean score of a picture's crops, for networks that rate one crop at a time."""

from typing import cast

from torch import Tensor, nn

from models.networks.backbones.pixels import IMAGENET_MEAN, IMAGENET_STD, RgbTriple, normalise


class MeanOfCrops(nn.Module):
    """Crops (pictures, crops, 3, height, width) uint8 RGB -> the mean of their scores (pictures)."""

    def __init__(self, network: nn.Module, *, mean: RgbTriple = IMAGENET_MEAN, std: RgbTriple = IMAGENET_STD) -> None:
        super().__init__()
        self.network = network
        self._mean, self._std = mean, std

    def forward(self, crops: Tensor) -> Tensor:
        dtype = next(self.network.parameters()).dtype
        pixels = normalise(crops.flatten(0, 1), self._mean, self._std, dtype=dtype)
        scores = cast("Tensor", self.network(pixels))
        return scores.float().unflatten(0, crops.shape[:2]).mean(1)
