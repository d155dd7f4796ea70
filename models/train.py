"""The one training loop: photos with human scores and ladders of degradations in every step, seeded and resumable."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm  # type: ignore[import-untyped]

from models import losses
from models.data import COLUMNS, ROWS, TILE_HEIGHT, TILE_WIDTH, Ladder, Pixels, cut_tiles, split_validation
from models.lite import MEAN, STD, Lite

Report = Callable[[str], None]


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
class Plan:
    """How long, how fast and on what mixture to train."""

    seed: int = 1
    validation: int = 1000
    steps: int = 1800
    validate_every: int = 150
    learning_rate: float = 0.002
    weight_decay: float = 0.05
    warm_up: int = 100
    average: float = 0.995
    tiles: int = 4
    head_share: float = 0.05
    photos: PhotoWeights = field(default_factory=PhotoWeights)
    ladders: LadderWeights = field(default_factory=LadderWeights)

    def __post_init__(self) -> None:
        if not 0 < self.warm_up < self.steps:
            raise ValueError(f"warm_up {self.warm_up} does not fit into {self.steps} steps")


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


def _groups(network: Lite, plan: Plan) -> list[dict[str, Any]]:
    """Parameters with their weight decay and their share of the learning rate; the head of thousands of inputs is slow,
    because one Adam step moves each of its weights by the rate, and the score by the sum of all those moves."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        decay = plan.weight_decay if parameter.ndim > 1 else 0.0
        share = plan.head_share if name.startswith(("direct", "hidden")) else 1.0
        groups.setdefault((decay, share), []).append(parameter)
    return [{"params": held, "weight_decay": decay, "share": share} for (decay, share), held in groups.items()]


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


class Trainer:
    """A network, its moving average and its optimiser, at some step of a plan."""

    def __init__(self, network: Lite, plan: Plan, *, material: Material) -> None:
        self.plan, self.material = plan, material
        self.network = network.to(memory_format=torch.channels_last)
        self.average = {name: value.detach().clone() for name, value in network.state_dict().items()}
        self.optimiser = torch.optim.AdamW(_groups(network, plan), lr=plan.learning_rate)
        self.fit, self.validation = split_validation(len(material.scores), plan.validation, seed=plan.seed)
        self.step, self.best = 0, -1.0

    def rate(self) -> float:
        """The learning rate of this step: linear warm-up, then half a cosine down to nothing."""
        if self.step < self.plan.warm_up:
            return self.plan.learning_rate * (self.step + 1) / self.plan.warm_up
        done = (self.step - self.plan.warm_up) / (self.plan.steps - self.plan.warm_up)
        return self.plan.learning_rate * (0.5 + 0.5 * math.cos(math.pi * done))

    def train_step(self) -> float:
        """One step on a batch that depends on the seed and the step's number alone; returns the loss."""
        random = np.random.default_rng([self.plan.seed, self.step])
        torch.manual_seed(self.plan.seed * 1_000_003 + self.step)
        self.network.train()
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate() * group["share"]
        loss = self._loss(random)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self.optimiser.step()
        self._follow()
        self.step += 1
        return float(loss.detach())

    def _loss(self, random: np.random.Generator) -> Tensor:
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

    def _follow(self) -> None:
        # A short history at first, so that the average forgets the random start.
        decay = min(self.plan.average, (1 + self.step) / (10 + self.step))
        for name, value in self.network.state_dict().items():
            if value.is_floating_point():
                self.average[name].lerp_(value, 1 - decay)
            else:
                self.average[name].copy_(value)

    def validate(self) -> float:
        """SRCC of the averaged weights on the validation rows, whole mosaics."""
        kept = {name: value.clone() for name, value in self.network.state_dict().items()}
        self.network.load_state_dict(self.average)
        predicted = predict(self.network, self.material.canvases, self.validation)
        self.network.load_state_dict(kept)
        return losses.spearman(predicted, torch.from_numpy(self.material.scores[self.validation]))

    def state(self) -> dict[str, Any]:
        return {
            "step": self.step, "best": self.best, "network": self.network.state_dict(), "average": self.average,
            "optimiser": self.optimiser.state_dict(),
        }  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken; the steps that follow are the same as without the stop."""
        self.step, self.best = state["step"], state["best"]
        self.network.load_state_dict(state["network"])
        self.average = {name: value.clone() for name, value in state["average"].items()}
        self.optimiser.load_state_dict(state["optimiser"])


@torch.inference_mode()
def predict(network: Lite, canvases: Pixels, rows: NDArray[np.int64]) -> Tensor:
    """Scores [rows] of whole pictures, one after the other."""
    network.eval()
    count = ROWS * COLUMNS
    found = [network.judge(to_tensor(cut_tiles(canvases[i])), count)[0] for i in rows]
    return torch.cat(found)


def train(trainer: Trainer, folder: Path, *, report: Report) -> Path:
    """Run a plan to its end; keeps `last.pt` (to go on from) and `best.pt` (weights by validation SRCC); returns it."""
    plan, best = trainer.plan, folder / "best.pt"
    with tqdm(total=plan.steps, initial=trainer.step, unit="step", mininterval=5) as bar:
        while trainer.step < plan.steps:
            loss = trainer.train_step()
            bar.update()
            if trainer.step % plan.validate_every == 0 or trainer.step == plan.steps:
                srcc = trainer.validate()
                if srcc > trainer.best:
                    trainer.best = srcc
                    torch.save({"weights": trainer.average, "srcc": srcc, "step": trainer.step}, best)
                torch.save(trainer.state(), folder / "last.pt")
                report(f"step {trainer.step}: loss {loss:.3f}, validation SRCC {srcc:.4f}, best {trainer.best:.4f}")
    return best
