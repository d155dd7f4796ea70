"""Trains BRISQUE's regression: kernel ridge in closed form on ladders of openly licensed pictures with teachers.

Only pristine scenes: their labels say how far a picture is from a clean one, whatever it shows. Scenes of one picture
are held out together, so that the correlations are those on pictures that were never seen.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from models.data.csv_scores import DataError
from models.data.teachers.labels import quality_labels
from models.data.teachers.ladders import LadderScene
from models.networks.measures.brisque import Brisque
from vqmon.core.evaluation.correlations import pearson, spearman

_Floats = NDArray[np.float64]
_CHUNK = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class BrisqueTrainingConfig:
    """`brisque.toml`: the weight of the squared norm, into how many parts the pictures are divided to be held out, and
    what is read of each scene: every `rung_step`-th rung and these tiles of the canvas."""

    ridge: float
    folds: int
    rung_step: int
    tiles: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.ridge <= 0 or self.folds < 2 or self.rung_step < 1 or not self.tiles:
            raise ValueError("the ridge must be above 0, with 2 folds or more, a step of 1 or more, and tiles")


@dataclass(frozen=True, slots=True, kw_only=True)
class RungStatistics:
    """Of the rungs of all scenes: features [rungs, 36], labels [rungs] 0..100, the scene and the picture of each."""

    features: _Floats
    labels: _Floats
    scenes: NDArray[np.int64]
    pictures: NDArray[np.str_]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOutCorrelations:
    """On pictures that were held out: over all rungs, and the mean of the rank correlations within each scene."""

    spearman: float
    pearson: float
    within_scenes: float
    rungs: int
    pictures: int


@torch.inference_mode()
def rung_statistics(network: Brisque, scenes: Iterable[LadderScene], config: BrisqueTrainingConfig) -> RungStatistics:
    """Features and labels of the rungs of all scenes."""
    features, labels, numbers, pictures = [], [], [], []
    for number, scene in enumerate(scenes):
        tiles = scene.tiles["canvas"][:: config.rung_step, list(config.tiles)]
        for start in range(0, len(tiles), _CHUNK):
            chunk = np.ascontiguousarray(tiles[start : start + _CHUNK])
            pixels = torch.from_numpy(chunk).permute(0, 1, 4, 2, 3).float() / 255
            values = network.tile_features(pixels.flatten(0, 1)).unflatten(0, pixels.shape[:2])
            features.append(values.mean(1).double().numpy())
        labels.append(quality_labels(scene.rungs)[:: config.rung_step])
        numbers += [number] * len(tiles)
        pictures += [scene.source] * len(tiles)
    return RungStatistics(
        features=np.concatenate(features),
        labels=np.concatenate(labels),
        scenes=np.array(numbers),
        pictures=np.array(pictures),
    )


@torch.no_grad()
def fit_brisque(features: _Floats, labels: _Floats, config: BrisqueTrainingConfig) -> Brisque:
    """A network whose centres are these features [rungs, 36], fitted to their labels [rungs]."""
    network = Brisque(centre_count=len(labels)).eval()
    network.middle.copy_(torch.from_numpy(features.mean(0)))
    network.scale.copy_(torch.from_numpy(features.std(0) + 1e-6))
    network.centres.copy_(network.standardise(torch.from_numpy(features).float()))
    kernel = network.similarity(torch.from_numpy(features).float()).double().numpy()
    weights = np.linalg.solve(kernel + config.ridge * np.eye(len(labels)), labels - labels.mean())
    network.weights.copy_(torch.from_numpy(weights))
    network.bias.fill_(float(labels.mean()))
    return network


def held_out_correlations(rungs: RungStatistics, config: BrisqueTrainingConfig) -> HeldOutCorrelations:
    """How well networks that have not seen a picture order its rungs. Raises DataError for too few pictures."""
    pictures = np.unique(rungs.pictures)
    if len(pictures) < config.folds:
        raise DataError(
            f"ladders of {len(pictures)} pictures; to hold out one of {config.folds} parts, make those of more pictures"
        )
    fold_of = dict(zip(pictures, np.arange(len(pictures)) % config.folds, strict=True))
    folds = np.array([fold_of[picture] for picture in rungs.pictures])
    values = np.empty(len(rungs.labels))
    for fold in range(config.folds):
        network = fit_brisque(rungs.features[folds != fold], rungs.labels[folds != fold], config)
        held_out = torch.from_numpy(rungs.features[folds == fold]).float()
        values[folds == fold] = network.read(held_out).double().numpy()
    within = [
        float(spearman(values[rungs.scenes == scene], rungs.labels[rungs.scenes == scene]))
        for scene in np.unique(rungs.scenes)
    ]
    return HeldOutCorrelations(
        spearman=float(spearman(values, rungs.labels)),
        pearson=float(pearson(values, rungs.labels)),
        within_scenes=float(np.mean(within)),
        rungs=len(values),
        pictures=len(pictures),
    )
