"""Fine-tunes mPLUG-Owl2 with LoRA on human scores: level words for pictures, comparison words for pairs."""

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
from models.train.loop import TrainingConfig, ValidationResult, parameter_groups

Pixels = NDArray[np.uint8]
Scores = NDArray[np.floating[Any]]


class LoraLinear(nn.Module):
    """A frozen linear layer plus a low-rank update: base(x) + alpha / rank * up(down(x)).

    `up` starts at 0, so that a new layer gives what the frozen one gives (Hu et al., LoRA, 2021).
    """

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
        update = functional.linear(functional.linear(tokens, self.down), self.up)
        output: Tensor = self.base(tokens) + self.scale * update
        return output

    def merged_linear(self) -> nn.Linear:
        """The base layer with the update added to its weight."""
        with torch.no_grad():
            self.base.weight += (self.scale * (self.up @ self.down)).to(self.base.weight.dtype)
        return self.base


def add_lora(network: nn.Module, is_chosen: Callable[[str], bool], *, rank: int, alpha: float) -> list[str]:
    """Freeze a network and wrap the linear layers whose names are chosen in `LoraLinear`; returns these names.

    Raises ValueError when no layer is chosen.
    """
    network.requires_grad_(requires_grad=False)
    names = [name for name, layer in network.named_modules() if isinstance(layer, nn.Linear) and is_chosen(name)]
    if not names:
        raise ValueError("no linear layer was chosen")
    for name in names:
        parent_name, _, attribute = name.rpartition(".")
        parent = network.get_submodule(parent_name)
        setattr(parent, attribute, LoraLinear(getattr(parent, attribute), rank=rank, alpha=alpha))
    return names


def merge_lora(network: nn.Module) -> None:
    """Replace every `LoraLinear` by its merged linear layer, so that all names are the published ones again."""
    for name, layer in list(network.named_modules()):
        if isinstance(layer, LoraLinear):
            parent_name, _, attribute = name.rpartition(".")
            setattr(network.get_submodule(parent_name), attribute, layer.merged_linear())


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelTrainingConfig(TrainingConfig):
    """LoRA with the rank and alpha published for Q-Align; `tuned` says what is trained.

    `share` of the groups are trained on, the others only choose the checkpoint.
    """

    learning_rate: float = 2e-5
    rank: int = 128
    alpha: float = 256.0
    batch: int = 8
    share: float = 0.8
    tuned: Literal["language", "language_and_abstractor"] = "language_and_abstractor"


def level_labels(scores: Scores) -> NDArray[np.int64]:
    """Index of the level word of each score, 0 = excellent .. 4 = bad, as Q-Align labels.

    The levels are five equal intervals between the lowest and the highest score. Raises DataError when all scores are
    equal.

    >>> level_labels(np.array([0.0, 1.0, 2.0, 3.0, 4.0])).tolist()
    [4, 3, 2, 1, 0]
    """
    low, high = float(np.min(scores)), float(np.max(scores))
    if low == high:
        raise DataError("all scores are equal; there are no levels to learn")
    return 4 - np.clip(((scores - low) / (high - low) * 5).astype(np.int64), 0, 4)


def comparison_labels(difference: Scores, spread: Scores) -> NDArray[np.int64]:
    """Index of the comparison word for the second picture, 0 = inferior .. 4 = superior, as Compare2Score labels.

    `difference` is the second mean opinion minus the first; `spread` is the root of the summed variances. Within one
    spread the pictures are similar, beyond two the second is inferior or superior. Raises DataError for a spread of 0.

    >>> comparison_labels(np.array([-3.0, -1.5, 1.0, 1.5, 3.0]), np.array([1.0])).tolist()
    [0, 1, 2, 3, 4]
    """
    if not (np.asarray(spread) > 0).all():
        raise DataError("comparisons need the spread of the opinions: give the CSV a column `spread` above 0")
    ratio = difference / spread
    return np.sum([ratio >= -2, ratio >= -1, ratio > 1, ratio > 2], axis=0).astype(np.int64)


def freeze_and_add_lora(network: Owl, config: LevelTrainingConfig) -> Owl:
    """Freeze all but LoRA on queries and on the pictures' values, and the abstractor when it is tuned."""
    torch.manual_seed(config.seed)

    def is_chosen(name: str) -> bool:
        return name.startswith("model.layers.") and name.endswith((".q_proj", ".v_proj.multiway.1"))

    add_lora(network, is_chosen, rank=config.rank, alpha=config.alpha)
    if config.tuned == "language_and_abstractor":
        network.model.visual_abstractor.requires_grad_(requires_grad=True)
    return network.to(config.device)


class _OwlTask:
    """Pictures (rows, 448, 448, 3) from `q_align.pad_to_square`, split by content, and the network that is asked."""

    def __init__(self, network: Owl, config: LevelTrainingConfig, *, pictures: Pixels, groups: Sequence[str]) -> None:
        self.network, self.config, self.pictures = network, config, pictures
        self.train_rows, self.validation_rows = split_by_group(groups, share=config.share, seed=config.seed)

    def parameter_groups(self) -> Iterable[dict[str, Any]]:
        """All trainable parameters at the full learning rate."""
        return parameter_groups(self.network, weight_decay=self.config.weight_decay)

    def encode_pictures(self, rows: Sequence[int]) -> Tensor:
        """Features (rows, 65, width); the vision tower is never trained."""
        pixels = torch.from_numpy(q_align.normalise_pictures(self.pictures[list(rows)])).to(self.config.device)
        model = self.network.model
        with torch.no_grad():
            vision_tokens = model.vision_model(pixels)
        features: Tensor = model.visual_abstractor(vision_tokens)
        return features

    def next_token_logits(self, prompt: Sequence[int], pictures: Sequence[Sequence[Tensor]]) -> Tensor:
        """Logits (rows, vocabulary) of the token after the prompt, each row with its own pictures."""
        return torch.stack([self.network.logits(prompt, row_pictures) for row_pictures in pictures])


class LevelTask(_OwlTask):
    """Q-Align's training: the answer to the published question is the word of the picture's level."""

    def __init__(
        self,
        network: Owl,
        config: LevelTrainingConfig,
        *,
        pictures: Pixels,
        scores: NDArray[np.float32],
        groups: Sequence[str],
    ) -> None:
        super().__init__(network, config, pictures=pictures, groups=groups)
        self.scores, self.labels = scores, level_labels(scores)

    def loss(self, random: np.random.Generator) -> Tensor:
        """Cross-entropy of the level word over the whole vocabulary."""
        rows = random.choice(self.train_rows, min(self.config.batch, len(self.train_rows)), replace=False)
        words = torch.tensor(list(q_align.LEVELS.values()))[self.labels[rows]].to(self.config.device)
        return functional.cross_entropy(self._answer_logits(rows), words)

    def validate(self) -> ValidationResult:
        """The expected level of the validation rows."""
        words = list(q_align.LEVELS.values())
        logits = torch.cat([self._answer_logits([row])[:, words].cpu() for row in self.validation_rows])
        predicted = torch.tensor([q_align.score_levels(row).zero_to_one for row in logits.float().numpy()])
        return ValidationResult(predicted=predicted, target=torch.from_numpy(self.scores[self.validation_rows]))

    def _answer_logits(self, rows: Sequence[int] | NDArray[np.int64]) -> Tensor:
        features = self.encode_pictures([int(row) for row in rows])
        return self.next_token_logits(q_align.PROMPTS["quality"], [[picture[None]] for picture in features])


class ComparisonTask(_OwlTask):
    """Compare2Score's training: the answer says how the second of two pictures compares with the first.

    `spreads` are the standard deviations of the opinions, in the unit of `scores`.
    """

    def __init__(
        self,
        network: Owl,
        config: LevelTrainingConfig,
        *,
        pictures: Pixels,
        scores: NDArray[np.float32],
        spreads: NDArray[np.float32],
        groups: Sequence[str],
    ) -> None:
        super().__init__(network, config, pictures=pictures, groups=groups)
        if min(len(self.train_rows), len(self.validation_rows)) < 2:
            raise DataError("comparisons need two pictures or more on both sides of the split")
        self.scores, self.spreads = scores, spreads
        random = np.random.default_rng(config.seed)
        self.validation_pairs = _draw_pairs(self.validation_rows, 4 * len(self.validation_rows), random)
        # refuses a missing spread before the first step
        comparison_labels(np.zeros(len(spreads)), spreads)

    def loss(self, random: np.random.Generator) -> Tensor:
        """Cross-entropy of the comparison word over the whole vocabulary, for random pairs."""
        pairs = _draw_pairs(self.train_rows, self.config.batch, random)
        first, second = pairs.T
        spread = np.hypot(self.spreads[first], self.spreads[second])
        labels = comparison_labels(self.scores[second] - self.scores[first], spread)
        words = torch.tensor(list(compare2score.LEVELS.values()))[labels].to(self.config.device)
        return functional.cross_entropy(self._answer_logits(pairs), words)

    def validate(self) -> ValidationResult:
        """The preference for the second picture, against the difference of the mean opinions, for validation pairs."""
        words = list(compare2score.LEVELS.values())
        logits = torch.cat([self._answer_logits(pair[None])[:, words].cpu() for pair in self.validation_pairs])
        first, second = self.validation_pairs.T
        predicted = torch.from_numpy(compare2score.preference_probability(logits.float().numpy(), temperature=1.0))
        return ValidationResult(predicted=predicted, target=torch.from_numpy(self.scores[second] - self.scores[first]))

    def _answer_logits(self, pairs: NDArray[np.int64]) -> Tensor:
        features = self.encode_pictures(pairs.ravel().tolist()).unflatten(0, (-1, 2))
        return self.next_token_logits(compare2score.PROMPT, [[pair[:1], pair[1:]] for pair in features])


def _draw_pairs(rows: NDArray[np.int64], count: int, random: np.random.Generator) -> NDArray[np.int64]:
    """(count, 2) row numbers, two different rows in each pair."""
    return np.stack([random.choice(rows, 2, replace=False) for _ in range(count)])
