"""Pixel normalisation inside a network's graph."""

import torch
from torch import Tensor

RgbTriple = tuple[float, float, float]
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def normalise(pixels: Tensor, mean: RgbTriple, std: RgbTriple, *, dtype: torch.dtype) -> Tensor:
    """(p / 255 - mean) / std of uint8 RGB: pictures (pictures, 3, height, width) or clips (clips, 3, frames, height,
    width).

    Computed in float32 and then cast to `dtype`: as precise as outside the graph, with a quarter of the bytes as input.
    """
    channels = (pixels.float() / 255).unbind(1)
    return torch.stack(
        [
            (channel - channel_mean) / channel_std
            for channel, channel_mean, channel_std in zip(channels, mean, std, strict=True)
        ],
        dim=1,
    ).to(dtype)
