"""Trains lite: scored photos and ladders of degradations in every step, and which photos and clips make the ladders."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import skimage.data
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from models.data.ladders import CODECS, FINE_CODECS, LadderTiles, codec_ladders, pan_over_photo, synthetic_ladders
from models.data.photos import (
    COLUMNS,
    ROWS,
    TILE_HEIGHT,
    TILE_WIDTH,
    Ladder,
    Pixels,
    cut_tiles,
    read_scores,
    split_train_validation,
    to_canvas,
)
from models.networks.lite import MEAN, STD, Lite
from models.train import losses
from models.train.loop import TrainingConfig, ValidationResult, parameter_groups


@dataclass(frozen=True, slots=True, kw_only=True)
class PhotoLossConfig:
    """Photos per step and the weights of their losses; `margin` is per unit of score difference."""

    batch: int = 32
    plcc: float = 1.0
    hinge: float = 1.0
    margin: float = 0.7
    l1: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LadderLossConfig:
    """Ladders per step, rungs of each, and the weights of their losses; `margin` is per rung, in native units."""

    batch: int = 5
    rungs: int = 3
    hinge: float = 1.0
    margin: float = 0.06
    kind: float = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class LiteTrainingConfig(TrainingConfig):
    """The top level of `lite.toml`.

    `validation` rows only choose the checkpoint; `tiles` of each picture are seen per step; `head_share` is the head's
    share of the learning rate.
    """

    steps: int = 1800
    validate_every: int = 150
    learning_rate: float = 0.002
    weight_decay: float = 0.05
    warm_up: int = 100
    validation: int = 1000
    tiles: int = 4
    head_share: float = 0.05
    photos: PhotoLossConfig = field(default_factory=PhotoLossConfig)
    ladders: LadderLossConfig = field(default_factory=LadderLossConfig)


@dataclass(frozen=True, slots=True, kw_only=True)
class LiteTrainingSet:
    """Canvases (n, 540, 540, 3) with human scores (n,) in 0..1, and ladders with the tiles of their rungs."""

    canvases: Pixels
    scores: NDArray[np.float32]
    rungs: Pixels
    ladders: list[Ladder]

    @property
    def kinds(self) -> list[str]:
        return sorted({ladder.kind for ladder in self.ladders})


def tiles_to_tensor(tiles: Pixels) -> Tensor:
    """Tiles (..., 96, 128, 3) uint8 as the network's normalised input [n, 3, 96, 128]."""
    flat = torch.from_numpy(np.ascontiguousarray(tiles.reshape(-1, TILE_HEIGHT, TILE_WIDTH, 3))).permute(0, 3, 1, 2)
    return (flat.float() / 255 - torch.tensor(MEAN).reshape(3, 1, 1)) / torch.tensor(STD).reshape(3, 1, 1)


def _draw_tiles(canvas: Pixels, count: int, *, random: np.random.Generator) -> Pixels:
    """`count` tiles (count, 96, 128, 3) at random positions in different cells of the grid; all mirrored, or none."""
    height, width = canvas.shape[:2]
    cells = random.choice(ROWS * COLUMNS, count, replace=False)
    offsets = random.random((count, 2))
    tiles = []
    for cell, (u, v) in zip(cells, offsets, strict=True):
        x = int((cell % COLUMNS + u) / COLUMNS * (width - TILE_WIDTH))
        y = int((cell // COLUMNS + v) / ROWS * (height - TILE_HEIGHT))
        tiles.append(canvas[y : y + TILE_HEIGHT, x : x + TILE_WIDTH])
    drawn_tiles = np.stack(tiles)
    return drawn_tiles[:, :, ::-1] if random.random() < 0.5 else drawn_tiles


class LiteTask:
    """Trains lite on scored photos and on ladders in every step; a step's batch depends on its generator alone."""

    def __init__(self, network: Lite, config: LiteTrainingConfig, *, training_set: LiteTrainingSet) -> None:
        self.config, self.training_set = config, training_set
        self.network = network.to(memory_format=torch.channels_last)
        self.train_rows, self.validation_rows = split_train_validation(
            len(training_set.scores), config.validation, seed=config.seed
        )

    def parameter_groups(self) -> Iterator[dict[str, Any]]:
        """The layers that read thousands of inputs learn at `head_share` of the rate: one Adam step moves each weight
        by the rate, and the score by the sum of all these moves."""

        def share(name: str) -> float:
            return self.config.head_share if name.startswith(("direct", "hidden")) else 1.0

        return parameter_groups(self.network, weight_decay=self.config.weight_decay, share=share)

    def loss(self, random: np.random.Generator) -> Tensor:
        """PLCC, L1 and hinge on photos, hinge on ladders, and cross-entropy of the kind of degradation."""
        config, network = self.config, self.network
        photos, scores = self._photos(random)
        rungs, steps, kinds = self._ladders(random)
        predicted, kind_logits = network.score_tiles(tiles_to_tensor(np.concatenate([photos, rungs])), config.tiles)
        photo_scores, rung_scores = predicted[: len(scores)], predicted[len(scores) :].reshape(steps.shape)
        weights = config.photos
        loss: Tensor = weights.plcc * losses.plcc_loss(photo_scores, scores) + weights.l1 * losses.l1_loss(
            photo_scores, scores
        )
        loss = loss + weights.hinge * losses.scaled_hinge_loss(photo_scores, scores, margin=weights.margin)
        loss = loss + config.ladders.hinge * losses.ladder_hinge_loss(rung_scores, steps, margin=config.ladders.margin)
        worst_rung_logits = kind_logits[len(scores) :].reshape(*steps.shape, -1)[:, -1]
        return loss + config.ladders.kind * F.cross_entropy(worst_rung_logits, kinds)

    def _photos(self, random: np.random.Generator) -> tuple[Pixels, Tensor]:
        rows = random.choice(self.train_rows, self.config.photos.batch, replace=False)
        tiles = [_draw_tiles(self.training_set.canvases[i], self.config.tiles, random=random) for i in rows]
        return np.concatenate(tiles), torch.from_numpy(self.training_set.scores[rows])

    def _ladders(self, random: np.random.Generator) -> tuple[Pixels, Tensor, Tensor]:
        """Tiles of random rungs of random ladders, the rungs' step numbers [ladders, rungs], the ladders' kinds
        [ladders]."""
        training_set, config = self.training_set, self.config
        tiles, steps, kinds = [], [], []
        kind_names = training_set.kinds
        for index in random.choice(len(training_set.ladders), config.ladders.batch, replace=False):
            ladder = training_set.ladders[index]
            chosen_steps = np.sort(random.choice(len(ladder.rows), config.ladders.rungs, replace=False))
            tile_numbers = np.sort(random.choice(ROWS * COLUMNS, config.tiles, replace=False))
            rung_tiles = np.concatenate([training_set.rungs[ladder.rows[step]][tile_numbers] for step in chosen_steps])
            tiles.append(rung_tiles[:, :, ::-1] if random.random() < 0.5 else rung_tiles)
            steps.append(chosen_steps)
            kinds.append(kind_names.index(ladder.kind))
        return np.concatenate(tiles), torch.tensor(np.stack(steps), dtype=torch.float32), torch.tensor(kinds)

    def validate(self) -> ValidationResult:
        """Predictions for whole pictures of the validation rows."""
        target = torch.from_numpy(self.training_set.scores[self.validation_rows])
        return ValidationResult(
            predicted=predict_pictures(self.network, self.training_set.canvases, self.validation_rows), target=target
        )


@torch.inference_mode()
def predict_pictures(network: Lite, canvases: Pixels, rows: NDArray[np.int64]) -> Tensor:
    """Scores [rows] of whole pictures, computed one by one."""
    network.eval()
    count = ROWS * COLUMNS
    scores = [network.score_tiles(tiles_to_tensor(cut_tiles(canvases[i])), count)[0] for i in rows]
    return torch.cat(scores)


_CLIP_FILES = (
    "bigbuckbunny.mp4", "bt709_full_range.mp4", "carphone_pristine.mp4", "chaplin.mp4", "fire2.mp4", "h264_10bits.mp4",
    "sample_h265.ts", "sample_with_increasing_timestamps.mp4", "av1_video.mkv",
)  # fmt: skip
_RESIZED_CLIPS = (
    ("bigbuckbunny.mp4", 1, "640:360"), ("fire2.mp4", 1, "854:480"), ("bt709_full_range.mp4", 0, "426:240"),
    ("bigbuckbunny.mp4", 1, "1920:1080"), ("fire2.mp4", 1, "1920:1080"),
)  # fmt: skip
_SMALL_CLIPS = (
    ("bigbuckbunny.mp4", 2, "320:180"), ("bigbuckbunny.mp4", 3, "480:270"), ("fire2.mp4", 0, "320:180"),
    ("fire2.mp4", 1, "640:360"), ("chaplin.mp4", 2, "320:180"), ("chaplin.mp4", 4, "480:270"),
    ("bt709_full_range.mp4", 0, "320:180"), ("sample_h265.ts", 0, "426:240"),
)  # fmt: skip
_SCIKIT_IMAGE_PHOTOS = {"astronaut": 540, "coffee": 720, "chelsea": 540, "rocket": 540}
_PHOTO_SIDES = (512, 512, 512, 1024, 768)
_SMALL_PHOTO_SIDES = (180, 240, 270, 360, 480)
_BEST_PHOTOS, _CODED_PHOTOS, _SMALL_CODED_PHOTOS, _DEGRADED_PHOTOS, _KINDS_PER_PHOTO = 1500, 90, 110, 320, 3
_UNSELECTED_PHOTOS, _UNSELECTED_PHOTO_SIDES = 47, (200, 300, 400, 500, 600, 720)
_SELECTION_SEED, _SMALL_SEED, _DEGRADATION_SEED, _UNSELECTED_SEED = 3, 5, 7, 11


def _best_rated_photos(biq2021: Path, *, config: LiteTrainingConfig) -> list[str]:
    """File names of the best-rated training photos; none of the validation rows or of the test split."""
    rows = read_scores(biq2021, "train")
    train_rows, _ = split_train_validation(len(rows), config.validation, seed=config.seed)
    return [rows[index][0] for index in sorted(train_rows, key=lambda index: -rows[index][1])[:_BEST_PHOTOS]]


def _clip_inputs(clips: Path) -> list[tuple[str, list[str]]]:
    """(name, ffmpeg input arguments) of the training clips, at their own size and resized."""
    originals = [(name, ["-i", str(clips / name), "-frames:v", "20"]) for name in _CLIP_FILES]
    return [
        (name, source)
        for name, source in [*originals, *_resized_clip_inputs(clips, _RESIZED_CLIPS)]
        if (clips / name).exists()
    ]


def _resized_clip_inputs(clips: Path, sizes: tuple[tuple[str, int, str], ...]) -> list[tuple[str, list[str]]]:
    return [
        (
            name,
            [
                "-ss",
                str(start_seconds),
                "-i",
                str(clips / name),
                "-frames:v",
                "20",
                "-vf",
                f"scale={size}:flags=bicubic",
            ],
        )
        for name, start_seconds, size in sizes
    ]


def make_ladders(biq2021: Path, clips: Path | None, *, config: LiteTrainingConfig) -> LadderTiles:
    """Every ladder: synthetic degradations of photos; codecs on clips and on pans over photos; the same for small
    pictures."""
    photo_files = {path.name.lower(): path for path in (biq2021 / "Images").iterdir()}
    best_files = [photo_files[name.lower()] for name in _best_rated_photos(biq2021, config=config)]
    random = np.random.default_rng(_SELECTION_SEED)
    coded_photos, degraded_photos = (
        random.choice(len(best_files), count, replace=False) for count in (_CODED_PHOTOS, _DEGRADED_PHOTOS)
    )
    canvases = ((best_files[index].name, to_canvas(Image.open(best_files[index]))) for index in degraded_photos)
    yield from synthetic_ladders(canvases, kinds=_KINDS_PER_PHOTO, seed=_DEGRADATION_SEED)
    if clips is not None:
        yield from codec_ladders(_clip_inputs(clips), codecs=CODECS, frame_numbers=(4, 9, 18))
    with tempfile.TemporaryDirectory() as folder:
        pans = [(best_files[index], _PHOTO_SIDES[n % len(_PHOTO_SIDES)]) for n, index in enumerate(coded_photos)]
        panned = [(path.name, pan_over_photo(path, side=side, frames=10)) for path, side in pans]
        yield from codec_ladders([*_scikit_image_inputs(Path(folder)), *panned], codecs=CODECS, frame_numbers=(8,))
    yield from _small_picture_ladders(best_files, clips)
    yield from _unselected_photo_ladders(biq2021, photo_files, config=config)


def _unselected_photo_ladders(
    biq2021: Path, photo_files: dict[str, Path], *, config: LiteTrainingConfig
) -> LadderTiles:
    """Finely stepped codec ladders of photos of any rating: a poor source must not score better for being blocky."""
    rows = read_scores(biq2021, "train")
    train_rows, _ = split_train_validation(len(rows), config.validation, seed=config.seed)
    sources = []
    for number, index in enumerate(
        np.random.default_rng(_UNSELECTED_SEED).choice(train_rows, _UNSELECTED_PHOTOS, replace=False)
    ):
        path, side = photo_files[rows[index][0].lower()], _UNSELECTED_PHOTO_SIDES[number % len(_UNSELECTED_PHOTO_SIDES)]
        sources.append((path.name, pan_over_photo(path, side=side, frames=26, speed=number % 4)))
    yield from codec_ladders(sources, codecs=FINE_CODECS, frame_numbers=(10, 24))


def _small_picture_ladders(best: list[Path], clips: Path | None) -> LadderTiles:
    """Codec ladders of pictures of 180 to 480 lines, the size of a stream's low renditions."""
    photo_numbers = np.random.default_rng(_SMALL_SEED).choice(len(best), _SMALL_CODED_PHOTOS, replace=False)
    sources = []
    for number, index in enumerate(photo_numbers):
        side = _SMALL_PHOTO_SIDES[number % len(_SMALL_PHOTO_SIDES)]
        pan = pan_over_photo(best[index], side=side, frames=22, speed=number % 4)
        sources.append((best[index].name, pan))
    if clips is not None:
        sources = [*_resized_clip_inputs(clips, _SMALL_CLIPS), *sources]
    yield from codec_ladders(sources, codecs={name: CODECS[name] for name in FINE_CODECS}, frame_numbers=(8, 20))


def _scikit_image_inputs(folder: Path) -> list[tuple[str, list[str]]]:
    """ffmpeg input arguments of pans over scikit-image's own photos, which are written into `folder`."""
    inputs = []
    for name, side in _SCIKIT_IMAGE_PHOTOS.items():
        path = folder / f"{name}.png"
        Image.fromarray(getattr(skimage.data, name)()).save(path)
        inputs.append((name, pan_over_photo(path, side=side, frames=10)))
    return inputs
