"""A tiny training set and trainer of lite, for tests."""

import numpy as np
import torch

from models.data.photos import Ladder
from models.networks.lite import Lite, LiteConfig
from models.train.lite import LadderLossConfig, LiteTask, LiteTrainingConfig, LiteTrainingSet, PhotoLossConfig
from models.train.loop import Trainer

CONFIG = LiteTrainingConfig(
    steps=4,
    validation=2,
    validate_every=2,
    warm_up=1,
    tiles=2,
    photos=PhotoLossConfig(batch=3),
    ladders=LadderLossConfig(batch=1, rungs=2),
)


def training_set() -> LiteTrainingSet:
    """Six photos of noise and two ladders of three rungs."""
    random = np.random.default_rng(0)
    return LiteTrainingSet(
        canvases=random.integers(0, 256, (6, 540, 540, 3)).astype(np.uint8),
        scores=random.random(6).astype(np.float32),
        rungs=random.integers(0, 256, (6, 12, 96, 128, 3)).astype(np.uint8),
        ladders=[Ladder(content=f"c{n}", kind=f"k{n}", rows=tuple(range(3 * n, 3 * n + 3))) for n in range(2)],
    )


def tiny_trainer(data: LiteTrainingSet) -> Trainer:
    """The same network and weights on every call."""
    torch.manual_seed(0)
    network = Lite(LiteConfig(trunk="mobilenetv4_conv_small_050", hidden=8))
    return Trainer(LiteTask(network, CONFIG, training_set=data), CONFIG)
