"""Fine-tunes the trunk of lite@2 before its head is fitted: on crops of ladders, and of photos with human scores.

A frozen ImageNet trunk hardly sees light noise, and likes a soft picture better once it is sharpened. So the trunk
learns to tell rungs of one scene apart; a linear head that reads the crops is trained beside it and thrown away.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, IterableDataset
from tqdm import tqdm  # type: ignore[import-untyped]

from models.data.clean_pictures import open_picture
from models.data.csv_scores import DataError
from models.data.teachers.labels import degradation_labels, quality_labels
from models.data.teachers.ladders import LadderScene, TaughtRung, read_scene
from models.networks.lite2 import DEGRADATIONS, FEATURE_LIMIT, LINES, Lite2, normalised_tiles
from models.train.losses import plcc_loss

_Pixels = NDArray[np.uint8]
_Floats = NDArray[np.float32]
_Pair = tuple[int, int]

_CANVAS_CROP, _HALF_CROP = 128, 160
_SCORE_UNIT = 10.0
"""Scores and labels 0..100 are divided by this within the losses."""
_MAX_GRADIENT_NORM = 3.0
_MAX_ORDER_LOSS = 3.0
_CALIBRATION_BATCHES, _PREFETCHED = 8, 4


@dataclass(frozen=True, slots=True, kw_only=True)
class TrunkTuningConfig:
    """The table `[tuning]` of `lite2.toml`; with 0 steps the trunk stays as published.

    `steps_without_photos` holds where there are no human scores. A step sees `scenes` ladders, of each `rungs`, and
    `photos`. The learning rates rise for a twentieth of the steps and fall along a cosine; `averaging` is the share of
    a step's weights in the running mean that is kept.
    """

    steps: int
    steps_without_photos: int
    seed: int = 0
    scenes: int = 3
    rungs: int = 9
    photos: int = 9
    learning_rate: float = 2.5e-4
    head_learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    averaging: float = 0.02
    ladder_weight: float = 1.5
    order_weight: float = 1.0
    degradation_weight: float = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredPhoto:
    """A photo and its human score 0..100."""

    file: Path
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    """Crops of rungs, scene after scene, then of photos: (crops, side, side, 3) of the canvas and of it at half its
    size. `pairs` are rows (worse, better)."""

    canvas: _Pixels
    half: _Pixels
    labels: _Floats
    degradations: _Floats
    pairs: Sequence[_Pair]
    scores: _Floats


def tune_trunk(
    network: Lite2, scenes: Sequence[Path], photos: Sequence[ScoredPhoto], config: TrunkTuningConfig
) -> None:
    """Replace the trunk's weights by tuned ones. Raises DataError for a scene or photo that cannot be read."""
    steps = config.steps if photos else config.steps_without_photos
    if not steps:
        return
    torch.manual_seed(config.seed)
    source = _BatchSource(scenes, photos, config)
    reader = _CropReader(network)
    batches = iter(DataLoader(source, batch_size=None, num_workers=1, prefetch_factor=_PREFETCHED))
    reader.standardise([next(batches) for _ in range(_CALIBRATION_BATCHES)])
    trunk = [*network.stem.parameters(), *network.stages.parameters()]
    optimizer = torch.optim.AdamW(
        [
            {"params": trunk, "lr": config.learning_rate, "weight_decay": config.weight_decay},
            {"params": reader.linear.parameters(), "lr": config.head_learning_rate, "weight_decay": 0.0},
        ]
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _schedule(steps))
    means = [parameter.detach().clone() for parameter in trunk]
    network.eval()
    progress = tqdm(range(steps), unit="step", desc="trunk")
    for _, batch in zip(progress, batches, strict=False):
        loss = _loss(reader, batch, config)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(trunk, _MAX_GRADIENT_NORM)
        optimizer.step()
        schedule.step()
        for mean, parameter in zip(means, trunk, strict=True):
            mean.lerp_(parameter.detach(), config.averaging)
        progress.set_postfix(loss=f"{loss.item():.3f}")
    with torch.no_grad():
        for mean, parameter in zip(means, trunk, strict=True):
            parameter.copy_(mean)


def _schedule(steps: int) -> Callable[[int], float]:
    def factor(step: int) -> float:
        done = step / steps
        return min(1.0, 0.2 + done / 0.05) * (0.02 + 0.49 * (1 + float(np.cos(np.pi * min(done, 1.0)))))

    return factor


def _loss(reader: "_CropReader", batch: _Batch, config: TrunkTuningConfig) -> Tensor:
    """Differences within scenes and their order, degradations, and for photos value and correlation."""
    output = reader(batch.canvas, batch.half)
    count = config.scenes * config.rungs
    read, labels = output[:count, 0], torch.from_numpy(batch.labels) / _SCORE_UNIT
    by_scene = (read - labels).unflatten(0, (config.scenes, config.rungs))
    centred = by_scene - by_scene.mean(1, keepdim=True)
    loss = config.ladder_weight * functional.smooth_l1_loss(centred, torch.zeros_like(centred))
    if batch.pairs:
        worse, better = torch.tensor(batch.pairs).T
        lead = (read[worse] - read[better]) - (labels[worse] - labels[better])
        loss = loss + config.order_weight * functional.relu(lead).clamp_max(_MAX_ORDER_LOSS).mean()
    strengths = torch.from_numpy(batch.degradations)
    loss = loss + config.degradation_weight * functional.mse_loss(output[:count, 1:], strengths)
    if len(batch.scores):
        opinions = torch.from_numpy(batch.scores) / _SCORE_UNIT
        photos = output[count:, 0] + reader.photo_offset
        loss = loss + functional.smooth_l1_loss(photos, opinions) + 2 * plcc_loss(photos, opinions)
    return loss


class _CropReader(nn.Module):
    """Crops -> [crops, 1 + degradations] by the trunk, which it shares with the network, and a linear head."""

    centre: Tensor
    scale: Tensor

    def __init__(self, network: Lite2) -> None:
        super().__init__()
        self.network = network
        (_, canvas_stages), (_, stages), _ = network.config.groups
        self._stages = canvas_stages, stages
        width = sum(network.config.feature_widths[:2])
        self.register_buffer("centre", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))
        self.linear = nn.Linear(width, 1 + len(DEGRADATIONS))
        nn.init.zeros_(self.linear.weight)
        self.photo_offset = nn.Parameter(torch.zeros(()))

    @torch.no_grad()
    def standardise(self, batches: Sequence[_Batch]) -> None:
        """Set the centre and scale of features to those of some batches, and the level to that of their labels."""
        features = torch.cat([self._features(batch.canvas, batch.half) for batch in batches])
        self.centre.copy_(features.mean(0))
        self.scale.copy_(features.std(0) + 1e-3)
        self.linear.bias.zero_()
        self.linear.bias[0] = float(np.mean([batch.labels.mean() for batch in batches])) / _SCORE_UNIT

    def forward(self, canvas: _Pixels, half: _Pixels) -> Tensor:
        features = (self._features(canvas, half) - self.centre) / self.scale
        output: Tensor = self.linear(features.clamp(-FEATURE_LIMIT, FEATURE_LIMIT))
        return output

    def _features(self, canvas: _Pixels, half: _Pixels) -> Tensor:
        parts = zip((canvas, half), self._stages, strict=True)
        return torch.cat(
            [self.network.group_features(normalised_tiles(crops[:, None]), stages) for crops, stages in parts], 1
        )


class _BatchSource(IterableDataset["_Batch"]):
    """Draws batches; scenes are read when they are drawn, because all of them do not fit into memory."""

    def __init__(self, scenes: Sequence[Path], photos: Sequence[ScoredPhoto], config: TrunkTuningConfig) -> None:
        if len(scenes) < config.scenes:
            raise DataError(f"{len(scenes)} ladders; tuning takes {config.scenes} at a time: make more of them")
        self._scenes, self._photos, self._config = scenes, photos, config
        self._random = np.random.default_rng(config.seed)

    def __iter__(self) -> Iterator[_Batch]:
        """Batches without end. Raises DataError."""
        while True:
            yield self._draw()

    def _draw(self) -> _Batch:
        random, config = self._random, self._config
        canvas: list[_Pixels] = []
        half: list[_Pixels] = []
        labels, strengths, scores = [], [], []
        pairs: list[_Pair] = []
        for number in random.choice(len(self._scenes), config.scenes, replace=False):
            scene = read_scene(self._scenes[number])
            rows, pairs_of_scene = draw_pairs(scene.rungs, config.rungs, random)
            pairs += [(len(canvas) + worse, len(canvas) + better) for worse, better in pairs_of_scene]
            for crops, crop in zip((canvas, half), _draw_crops(scene, rows, random), strict=True):
                crops.extend(crop)
            labels.append(quality_labels(scene.rungs)[rows])
            by_name = degradation_labels(scene.rungs)
            strengths.append(np.stack([by_name[name][rows] for name in DEGRADATIONS], 1))
        photo_count = config.photos if self._photos else 0
        for photo in (self._photos[row] for row in random.integers(len(self._photos) or 1, size=photo_count)):
            for crops, crop in zip((canvas, half), _draw_photo_crops(open_picture(photo.file), random), strict=True):
                crops.append(crop)
            scores.append(photo.score)
        return _Batch(
            canvas=np.stack(canvas), half=np.stack(half), labels=np.concatenate(labels).astype(np.float32),
            degradations=np.concatenate(strengths).astype(np.float32), pairs=pairs,
            scores=np.array(scores, np.float32),
        )  # fmt: skip


def draw_pairs(rungs: Sequence[TaughtRung], count: int, random: np.random.Generator) -> tuple[list[int], list[_Pair]]:
    """`count` rungs of a scene, and those of their places (worse, better) whose order must be kept.

    First come the clean rung and pairs that a scorer easily gets wrong: noise and clean, a soft picture and its
    sharpened form, sharp and clean, two rates of one encoder, two sizes.
    """
    labels = quality_labels(rungs)
    kinds = np.array([rung.kind for rung in rungs])
    rows: list[int] = [int(random.choice(np.flatnonzero(kinds == "clean")))]
    pairs: list[_Pair] = []

    def add(worse: int, better: int | None = None) -> None:
        """`better` is the clean rung when it is not given."""
        if better is not None:
            rows.append(better)
        pairs.append((len(rows), 0 if better is None else len(rows) - 1))
        rows.append(worse)

    for kinds_of_pair, share in ((("noise", "grain"), 1.0), (("sharp",), 0.4)):
        if len(members := np.flatnonzero(np.isin(kinds, kinds_of_pair))) and random.random() < share:
            add(int(random.choice(members)))
    if len(softs := np.flatnonzero(kinds == "soft")):
        soft = int(random.choice(softs))
        sharpened = [
            row for row in np.flatnonzero(kinds == "softsharp") if rungs[row].pair == rungs[soft].pair
        ]  # fmt: skip
        if sharpened:
            add(int(random.choice(sharpened)), soft)
    for group in (_same_encoder(rungs, random), np.flatnonzero(kinds == "size").tolist()):
        if len(group) > 1:
            worse, better = sorted(random.choice(group, 2, replace=False).tolist(), key=lambda row: labels[row])
            add(worse, better)
    rows += random.integers(len(rungs), size=max(0, count - len(rows))).tolist()
    return rows[:count], [pair for pair in pairs if max(pair) < count]


def _same_encoder(rungs: Sequence[TaughtRung], random: np.random.Generator) -> list[int]:
    """Rungs of one encoder and one size, drawn with one of them."""
    coded = [row for row, rung in enumerate(rungs) if rung.kind in ("codec", "sizecodec")]
    if not coded:
        return []
    drawn = rungs[int(random.choice(coded))]
    return [row for row in coded if (rungs[row].codec, rungs[row].lines) == (drawn.codec, drawn.lines)]


def _draw_crops(scene: LadderScene, rows: Sequence[int], random: np.random.Generator) -> tuple[_Pixels, _Pixels]:
    """Crops (rows, side, side, 3) of the canvas and of it at half its size, at one place in all rungs."""
    is_flipped = random.random() < 0.5
    crops = []
    for name, side in (("canvas", _CANVAS_CROP), ("half", _HALF_CROP)):
        tiles = scene.tiles[name]
        tile = int(random.integers(tiles.shape[1]))
        top, left = (int(random.integers(size - side + 1)) for size in tiles.shape[2:4])
        crop = tiles[rows, tile, top : top + side, left : left + side]
        crops.append(crop[:, :, ::-1] if is_flipped else crop)
    return crops[0], crops[1]


def _draw_photo_crops(photo: Image.Image, random: np.random.Generator) -> tuple[_Pixels, _Pixels]:
    """The same of a photo, whose short side is that of the display; with chroma at a quarter as in a display view."""
    short_side = min(photo.size)
    crops = []
    for lines, side in ((LINES, _CANVAS_CROP), (LINES // 2, _HALF_CROP)):
        extent = side * short_side / lines
        left, top = (random.uniform(0, max(size - extent, 0)) for size in photo.size)
        box = (left, top, min(left + extent, photo.width), min(top + extent, photo.height))
        crop = photo.resize((side, side), Image.Resampling.BICUBIC, box=box).convert("YCbCr")
        luma, *chroma = crop.split()
        coarse = [plane.resize((side // 4, side // 4), Image.Resampling.BOX) for plane in chroma]
        planes = [luma, *(plane.resize((side, side), Image.Resampling.BILINEAR) for plane in coarse)]
        crops.append(np.asarray(Image.merge("YCbCr", planes).convert("RGB")))
    return crops[0], crops[1]
