"""What lite learns: photos with human scores and ladders of degradations in every step."""

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

from models.data.ladders import CODECS, FINE, Rungs, codec_ladders, photo_clip, synthetic_ladders
from models.data.photos import (
    COLUMNS,
    ROWS,
    TILE_HEIGHT,
    TILE_WIDTH,
    Ladder,
    Pixels,
    cut_tiles,
    read_scores,
    split_validation,
    to_canvas,
)
from models.networks.lite import MEAN, STD, Lite
from models.train import losses
from models.train.loop import Agreement, Schedule, groups_of


@dataclass(frozen=True, slots=True, kw_only=True)
class PhotoWeights:
    """Photos per step and what their losses weigh."""

    batch: int = 32
    plcc: float = 1.0
    hinge: float = 1.0
    margin: float = 0.7
    l1: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LadderWeights:
    """Ladders per step, rungs of each, and what their losses weigh; `margin` is per rung, in native units."""

    batch: int = 5
    rungs: int = 3
    hinge: float = 1.0
    margin: float = 0.06
    kind: float = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan(Schedule):
    """How long, how fast and on what mixture to train."""

    steps: int = 1800
    validate_every: int = 150
    learning_rate: float = 0.002
    weight_decay: float = 0.05
    warm_up: int = 100
    validation: int = 1000
    tiles: int = 4
    head_share: float = 0.05
    photos: PhotoWeights = field(default_factory=PhotoWeights)
    ladders: LadderWeights = field(default_factory=LadderWeights)


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What to learn from: canvases (n, 540, 540, 3) with scores (n,) in 0..1, and ladders with their tiles."""

    canvases: Pixels
    scores: NDArray[np.float32]
    rungs: Pixels
    ladders: list[Ladder]

    @property
    def kinds(self) -> list[str]:
        return sorted({ladder.kind for ladder in self.ladders})


def to_tensor(tiles: Pixels) -> Tensor:
    """Tiles (..., 96, 128, 3) uint8 as the network's input [n, 3, 96, 128]."""
    flat = torch.from_numpy(np.ascontiguousarray(tiles.reshape(-1, TILE_HEIGHT, TILE_WIDTH, 3))).permute(0, 3, 1, 2)
    return (flat.float() / 255 - torch.tensor(MEAN).reshape(3, 1, 1)) / torch.tensor(STD).reshape(3, 1, 1)


def random_tiles(canvas: Pixels, count: int, *, random: np.random.Generator) -> Pixels:
    """`count` tiles (count, 96, 128, 3) at random places of different cells of the grid, all mirrored or none."""
    height, width = canvas.shape[:2]
    cells = random.choice(ROWS * COLUMNS, count, replace=False)
    places = random.random((count, 2))
    tiles = []
    for cell, (u, v) in zip(cells, places, strict=True):
        x = int((cell % COLUMNS + u) / COLUMNS * (width - TILE_WIDTH))
        y = int((cell // COLUMNS + v) / ROWS * (height - TILE_HEIGHT))
        tiles.append(canvas[y : y + TILE_HEIGHT, x : x + TILE_WIDTH])
    together = np.stack(tiles)
    return together[:, :, ::-1] if random.random() < 0.5 else together


class LiteTask:
    """Lite on its material; all that is random in a step comes from the step's own generator."""

    def __init__(self, network: Lite, plan: Plan, *, material: Material) -> None:
        self.plan, self.material = plan, material
        self.network = network.to(memory_format=torch.channels_last)
        self.fit, self.validation = split_validation(len(material.scores), plan.validation, seed=plan.seed)

    def groups(self) -> Iterator[dict[str, Any]]:
        """The head of thousands of inputs is slow: one Adam step moves each of its weights by the rate, and the score
        by the sum of all those moves."""

        def share(name: str) -> float:
            return self.plan.head_share if name.startswith(("direct", "hidden")) else 1.0

        return groups_of(self.network, weight_decay=self.plan.weight_decay, share=share)

    def loss(self, random: np.random.Generator) -> Tensor:
        plan, network = self.plan, self.network
        photos, scores = self._photos(random)
        rungs, steps, kinds = self._ladders(random)
        predicted, guessed = network.judge(to_tensor(np.concatenate([photos, rungs])), plan.tiles)
        seen, ranked = predicted[: len(scores)], predicted[len(scores) :].reshape(steps.shape)
        weights = plan.photos
        loss: Tensor = weights.plcc * losses.plcc(seen, scores) + weights.l1 * losses.l1(seen, scores)
        loss = loss + weights.hinge * losses.pair_hinge(seen, scores, margin=weights.margin)
        loss = loss + plan.ladders.hinge * losses.ladder_hinge(ranked, steps, margin=plan.ladders.margin)
        worst = guessed[len(scores) :].reshape(*steps.shape, -1)[:, -1]
        return loss + plan.ladders.kind * F.cross_entropy(worst, kinds)

    def _photos(self, random: np.random.Generator) -> tuple[Pixels, Tensor]:
        chosen = random.choice(self.fit, self.plan.photos.batch, replace=False)
        tiles = [random_tiles(self.material.canvases[i], self.plan.tiles, random=random) for i in chosen]
        return np.concatenate(tiles), torch.from_numpy(self.material.scores[chosen])

    def _ladders(self, random: np.random.Generator) -> tuple[Pixels, Tensor, Tensor]:
        """Tiles of some rungs of some ladders, the rungs' numbers [ladders, rungs], the ladders' kinds [ladders]."""
        material, plan = self.material, self.plan
        tiles, steps, kinds = [], [], []
        names = material.kinds
        for number in random.choice(len(material.ladders), plan.ladders.batch, replace=False):
            ladder = material.ladders[number]
            chosen = np.sort(random.choice(len(ladder.rows), plan.ladders.rungs, replace=False))
            places = np.sort(random.choice(ROWS * COLUMNS, plan.tiles, replace=False))
            seen = np.concatenate([material.rungs[ladder.rows[step]][places] for step in chosen])
            tiles.append(seen[:, :, ::-1] if random.random() < 0.5 else seen)
            steps.append(chosen)
            kinds.append(names.index(ladder.kind))
        return np.concatenate(tiles), torch.tensor(np.stack(steps), dtype=torch.float32), torch.tensor(kinds)

    def validate(self) -> Agreement:
        """On the validation rows, whole mosaics."""
        wanted = torch.from_numpy(self.material.scores[self.validation])
        return Agreement(predicted=predict(self.network, self.material.canvases, self.validation), wanted=wanted)


@torch.inference_mode()
def predict(network: Lite, canvases: Pixels, rows: NDArray[np.int64]) -> Tensor:
    """Scores [rows] of whole pictures, one after the other."""
    network.eval()
    count = ROWS * COLUMNS
    found = [network.judge(to_tensor(cut_tiles(canvases[i])), count)[0] for i in rows]
    return torch.cat(found)


HELD_OUT = ("bikes", "nasa_13013", "cockatoo", "portrait_4k60")
CLIPS = (
    "bigbuckbunny.mp4", "bt709_full_range.mp4", "carphone_pristine.mp4", "chaplin.mp4", "fire2.mp4", "h264_10bits.mp4",
    "sample_h265.ts", "sample_with_increasing_timestamps.mp4", "av1_video.mkv",
)  # fmt: skip
RESIZED = (
    ("bigbuckbunny.mp4", 1, "640:360"), ("fire2.mp4", 1, "854:480"), ("bt709_full_range.mp4", 0, "426:240"),
    ("bigbuckbunny.mp4", 1, "1920:1080"), ("fire2.mp4", 1, "1920:1080"),
)  # fmt: skip
SMALL = (
    ("bigbuckbunny.mp4", 2, "320:180"), ("bigbuckbunny.mp4", 3, "480:270"), ("fire2.mp4", 0, "320:180"),
    ("fire2.mp4", 1, "640:360"), ("chaplin.mp4", 2, "320:180"), ("chaplin.mp4", 4, "480:270"),
    ("bt709_full_range.mp4", 0, "320:180"), ("sample_h265.ts", 0, "426:240"),
)  # fmt: skip
BUNDLED = {"astronaut": 540, "coffee": 720, "chelsea": 540, "rocket": 540}
SIDES = (512, 512, 512, 1024, 768)
SMALL_SIDES = (180, 240, 270, 360, 480)
BEST, CODED, CODED_SMALL, DEGRADED, KINDS = 1500, 90, 110, 320, 3
PLAIN, PLAIN_SIDES = 47, (200, 300, 400, 500, 600, 720)
PICK_SEED, SMALL_SEED, DEGRADE_SEED, PLAIN_SEED = 3, 5, 7, 11


def best_photos(biq2021: Path, *, plan: Plan) -> list[str]:
    """File names of the best-rated photos to fit on; no photo of the validation rows or of the test split."""
    rows = read_scores(biq2021, "train")
    fit, _ = split_validation(len(rows), plan.validation, seed=plan.seed)
    return [rows[index][0] for index in sorted(fit, key=lambda index: -rows[index][1])[:BEST]]


def clip_sources(clips: Path) -> list[tuple[str, list[str]]]:
    """(name, ffmpeg input arguments) of the clips to train on, at their size and at others."""
    found = [(name, ["-i", str(clips / name), "-frames:v", "20"]) for name in CLIPS]
    return [(name, source) for name, source in [*found, *_resized(clips, RESIZED)] if (clips / name).exists()]


def _resized(clips: Path, sizes: tuple[tuple[str, int, str], ...]) -> list[tuple[str, list[str]]]:
    return [
        (name, ["-ss", str(at), "-i", str(clips / name), "-frames:v", "20", "-vf", f"scale={size}:flags=bicubic"])
        for name, at, size in sizes
    ]


def all_rungs(biq2021: Path, clips: Path | None, *, plan: Plan) -> Rungs:
    """Every ladder: synthetic kinds on photos; codecs on clips and on photos that are panned over; the same, small."""
    photos = {path.name.lower(): path for path in (biq2021 / "Images").iterdir()}
    best = [photos[name.lower()] for name in best_photos(biq2021, plan=plan)]
    random = np.random.default_rng(PICK_SEED)
    coded, degraded = (random.choice(len(best), count, replace=False) for count in (CODED, DEGRADED))
    canvases = ((best[index].name, to_canvas(Image.open(best[index]))) for index in degraded)
    yield from synthetic_ladders(canvases, kinds=KINDS, seed=DEGRADE_SEED)
    if clips is not None:
        yield from codec_ladders(clip_sources(clips), codecs=CODECS, looks=(4, 9, 18))
    with tempfile.TemporaryDirectory() as room:
        pans = [(best[index], SIDES[n % len(SIDES)]) for n, index in enumerate(coded)]
        panned = [(path.name, photo_clip(path, side=side, frames=10)) for path, side in pans]
        yield from codec_ladders([*_bundled(Path(room)), *panned], codecs=CODECS, looks=(8,))
    yield from small_rungs(best, clips)
    yield from plain_rungs(biq2021, photos, plan=plan)


def plain_rungs(biq2021: Path, photos: dict[str, Path], *, plan: Plan) -> Rungs:
    """Codec ladders in finer steps of photos of any rating: a poor source must not look better for being blocky."""
    rows = read_scores(biq2021, "train")
    fit, _ = split_validation(len(rows), plan.validation, seed=plan.seed)
    sources = []
    for number, index in enumerate(np.random.default_rng(PLAIN_SEED).choice(fit, PLAIN, replace=False)):
        path, side = photos[rows[index][0].lower()], PLAIN_SIDES[number % len(PLAIN_SIDES)]
        sources.append((path.name, photo_clip(path, side=side, frames=26, speed=number % 4)))
    yield from codec_ladders(sources, codecs=FINE, looks=(10, 24))


def small_rungs(best: list[Path], clips: Path | None) -> Rungs:
    """Codec ladders of pictures of 180..480 lines, as the low renditions of a stream are."""
    chosen = np.random.default_rng(SMALL_SEED).choice(len(best), CODED_SMALL, replace=False)
    sources = []
    for number, index in enumerate(chosen):
        side = SMALL_SIDES[number % len(SMALL_SIDES)]
        pan = photo_clip(best[index], side=side, frames=22, speed=number % 4)
        sources.append((best[index].name, pan))
    if clips is not None:
        sources = [*_resized(clips, SMALL), *sources]
    yield from codec_ladders(sources, codecs={name: CODECS[name] for name in FINE}, looks=(8, 20))


def _bundled(room: Path) -> list[tuple[str, list[str]]]:
    """scikit-image's own photos, panned over."""
    found = []
    for name, side in BUNDLED.items():
        path = room / f"{name}.png"
        Image.fromarray(getattr(skimage.data, name)()).save(path)
        found.append((name, photo_clip(path, side=side, frames=10)))
    return found
