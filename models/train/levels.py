"""What mPLUG-Owl2 learns from human scores: level words for pictures, and comparing words for pairs, by LoRA."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from models.data.csv_scores import DataError, split_by_group
from models.networks.owl import compare2score, q_align
from models.networks.owl.owl import Owl
from models.train.loop import Agreement, Schedule, groups_of


class LowRank(nn.Module):
    """A frozen linear layer plus `alpha / rank` times a product of two thin matrices; the same as before at first."""

    def __init__(self, base: nn.Linear, *, rank: int, alpha: float) -> None:
        super().__init__()
        if not 0 < rank <= min(base.in_features, base.out_features):
            raise ValueError(f"rank {rank} does not fit a layer of {base.in_features} x {base.out_features}")
        self.base = base.requires_grad_(requires_grad=False)
        self.scale = alpha / rank
        self.down = nn.Parameter(torch.empty(rank, base.in_features))
        self.up = nn.Parameter(torch.zeros(base.out_features, rank))
        nn.init.kaiming_uniform_(self.down, a=5**0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        change = functional.linear(functional.linear(tokens, self.down), self.up)
        found: Tensor = self.base(tokens) + self.scale * change
        return found

    def merged(self) -> nn.Linear:
        """A plain layer that gives the same."""
        with torch.no_grad():
            self.base.weight += (self.scale * (self.up @ self.down)).to(self.base.weight.dtype)
        return self.base


def add_low_rank(network: nn.Module, chosen: Callable[[str], bool], *, rank: int, alpha: float) -> list[str]:
    """Freeze a network and put low-rank updates on the linear layers that `chosen` picks by name; gives their names.

    Raises ValueError when none is picked.
    """
    network.requires_grad_(requires_grad=False)
    names = [name for name, part in network.named_modules() if isinstance(part, nn.Linear) and chosen(name)]
    if not names:
        raise ValueError("no linear layer was chosen")
    for name in names:
        place, _, last = name.rpartition(".")
        owner = network.get_submodule(place)
        setattr(owner, last, LowRank(getattr(owner, last), rank=rank, alpha=alpha))
    return names


def merge(network: nn.Module) -> None:
    """Put plain layers back in place of low-rank ones, so that all names are the published ones again."""
    for name, part in list(network.named_modules()):
        if isinstance(part, LowRank):
            place, _, last = name.rpartition(".")
            setattr(network.get_submodule(place), last, part.merged())


Pixels = NDArray[np.uint8]
Scores = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelPlan(Schedule):
    """Low-rank updates as published for Q-Align: rank 128, alpha 256; `tuned` says what else learns."""

    learning_rate: float = 2e-5
    rank: int = 128
    alpha: float = 256.0
    batch: int = 8
    share: float = 0.8
    tuned: Literal["language", "language_and_abstractor"] = "language_and_abstractor"


def level_of(scores: Scores) -> NDArray[np.int64]:
    """Five equal intervals between the least and the largest score: 0 = excellent .. 4 = bad, as Q-Align labels.

    >>> level_of(np.array([0.0, 1.0, 2.0, 3.0, 4.0])).tolist()
    [4, 3, 2, 1, 0]
    """
    low, high = float(np.min(scores)), float(np.max(scores))
    if low == high:
        raise DataError("all scores are alike; there are no levels to learn")
    return 4 - np.clip(((scores - low) / (high - low) * 5).astype(np.int64), 0, 4)


def comparison_of(difference: Scores, spread: Scores) -> NDArray[np.int64]:
    """The word for the second picture against the first: 0 = inferior .. 4 = superior, as Compare2Score labels.

    `difference` of mean opinions, second less first; `spread` is the root of the sum of both variances. Within one
    spread they are similar, beyond two inferior or superior.

    >>> comparison_of(np.array([-3.0, -1.5, 1.0, 1.5, 3.0]), np.array([1.0])).tolist()
    [0, 1, 2, 3, 4]
    """
    if not (np.asarray(spread) > 0).all():
        raise DataError("comparisons need the spread of the opinions: give the CSV a column `spread` above 0")
    ratio = difference / spread
    return np.sum([ratio >= -2, ratio >= -1, ratio > 1, ratio > 2], axis=0).astype(np.int64)


def prepare(network: Owl, plan: LevelPlan) -> Owl:
    """Freeze all but low-rank updates on queries and on the pictures' values, and the abstractor when it is tuned."""
    torch.manual_seed(plan.seed)

    def chosen(name: str) -> bool:
        return name.startswith("model.layers.") and name.endswith((".q_proj", ".v_proj.multiway.1"))

    add_low_rank(network, chosen, rank=plan.rank, alpha=plan.alpha)
    if plan.tuned == "language_and_abstractor":
        network.model.visual_abstractor.requires_grad_(requires_grad=True)
    return network.to(plan.device)


class _OwlTask:
    """What both tasks share: pictures (rows, 448, 448, 3) as `q_align.to_square` gives them, and a split by content."""

    def __init__(self, network: Owl, plan: LevelPlan, *, pictures: Pixels, groups: Sequence[str]) -> None:
        self.network, self.plan, self.pictures = network, plan, pictures
        self.fit, self.held = split_by_group(groups, share=plan.share, seed=plan.seed)

    def groups(self) -> Iterable[dict[str, Any]]:
        """All at one rate."""
        return groups_of(self.network, weight_decay=self.plan.weight_decay)

    def see(self, rows: Sequence[int]) -> Tensor:
        """Features (rows, 65, width); the vision tower never learns."""
        pixels = torch.from_numpy(q_align.normalise(self.pictures[list(rows)])).to(self.plan.device)
        model = self.network.model
        with torch.no_grad():
            seen = model.vision_model(pixels)
        features: Tensor = model.visual_abstractor(seen)
        return features

    def answers(self, ids: Sequence[int], pictures: Sequence[Sequence[Tensor]]) -> Tensor:
        """Logits of every word (rows, vocabulary) after a prompt, each row with its own pictures."""
        return torch.stack([self.network.logits(ids, each) for each in pictures])


class LevelTask(_OwlTask):
    """Q-Align: the published question about a picture is to be answered with the word of its level."""

    def __init__(
        self, network: Owl, plan: LevelPlan, *, pictures: Pixels, scores: NDArray[np.float32], groups: Sequence[str]
    ) -> None:
        super().__init__(network, plan, pictures=pictures, groups=groups)
        self.scores, self.levels = scores, level_of(scores)

    def loss(self, random: np.random.Generator) -> Tensor:
        """Cross-entropy of the answer's word among all words."""
        rows = random.choice(self.fit, min(self.plan.batch, len(self.fit)), replace=False)
        words = torch.tensor(list(q_align.LEVELS.values()))[self.levels[rows]].to(self.plan.device)
        return functional.cross_entropy(self._ask(rows), words)

    def validate(self) -> Agreement:
        """The expected level against people, on the rows of the other groups."""
        words = list(q_align.LEVELS.values())
        said = torch.cat([self._ask([row])[:, words].cpu() for row in self.held])
        predicted = torch.tensor([q_align.verdict(row).zero_to_one for row in said.float().numpy()])
        return Agreement(predicted=predicted, wanted=torch.from_numpy(self.scores[self.held]))

    def _ask(self, rows: Sequence[int] | NDArray[np.int64]) -> Tensor:
        features = self.see([int(row) for row in rows])
        return self.answers(q_align.PROMPTS["quality"], [[one[None]] for one in features])


class CompareTask(_OwlTask):
    """Compare2Score: of two pictures the second is to be called inferior .. superior, by how far opinions are apart."""

    def __init__(
        self,
        network: Owl,
        plan: LevelPlan,
        *,
        pictures: Pixels,
        scores: NDArray[np.float32],
        spreads: NDArray[np.float32],
        groups: Sequence[str],
    ) -> None:
        super().__init__(network, plan, pictures=pictures, groups=groups)
        if min(len(self.fit), len(self.held)) < 2:
            raise DataError("comparisons need two pictures or more on both sides of the split")
        self.scores, self.spreads = scores, spreads
        order = np.random.default_rng(plan.seed)
        self.held_pairs = _pairs(self.held, 4 * len(self.held), order)
        comparison_of(np.zeros(len(spreads)), spreads)

    def loss(self, random: np.random.Generator) -> Tensor:
        """Cross-entropy of the answer's word among all words, for random pairs."""
        pairs = _pairs(self.fit, self.plan.batch, random)
        first, second = pairs.T
        spread = np.hypot(self.spreads[first], self.spreads[second])
        labels = comparison_of(self.scores[second] - self.scores[first], spread)
        words = torch.tensor(list(compare2score.LEVELS.values()))[labels].to(self.plan.device)
        return functional.cross_entropy(self._ask(pairs), words)

    def validate(self) -> Agreement:
        """The preference for the second picture against the difference of opinions, on pairs of held rows."""
        words = list(compare2score.LEVELS.values())
        said = torch.cat([self._ask(pair[None])[:, words].cpu() for pair in self.held_pairs])
        first, second = self.held_pairs.T
        predicted = torch.from_numpy(compare2score.preferences(said.float().numpy(), temperature=1.0))
        return Agreement(predicted=predicted, wanted=torch.from_numpy(self.scores[second] - self.scores[first]))

    def _ask(self, pairs: NDArray[np.int64]) -> Tensor:
        features = self.see(pairs.ravel().tolist()).unflatten(0, (-1, 2))
        return self.answers(compare2score.PROMPT, [[both[:1], both[1:]] for both in features])


def _pairs(rows: NDArray[np.int64], count: int, random: np.random.Generator) -> NDArray[np.int64]:
    """(count, 2) of different rows."""
    return np.stack([random.choice(rows, 2, replace=False) for _ in range(count)])
