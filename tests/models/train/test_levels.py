"""LoRA fine-tuning of mPLUG-Owl2: labels, what is trained, and that level and comparison words are learned."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from models.data.csv_scores import DataError  # noqa: E402
from models.train.levels import (  # noqa: E402
    ComparisonTask,
    LevelTask,
    LevelTrainingConfig,
    LoraLinear,
    add_lora,
    comparison_labels,
    freeze_and_add_lora,
    level_labels,
    merge_lora,
)
from models.train.loop import Trainer  # noqa: E402
from tests.models.owl_weights import network, random_weights  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]


def test_levels_are_equal_intervals_of_the_scores() -> None:
    """The best score is excellent (0), the worst bad (4), and a score on an edge belongs to the better level."""
    assert level_labels(np.array([10.0, 19.9, 20.0, 55.0, 60.0])).tolist() == [4, 4, 3, 0, 0]
    with pytest.raises(DataError, match="no levels to learn"):
        level_labels(np.array([3.0, 3.0]))


def test_comparisons_count_in_spreads() -> None:
    """Exactly one spread is similar, exactly two is better; the labels mirror each other."""
    differences = np.array([-2.1, -2.0, -1.1, -1.0, 0.0, 1.0, 1.1, 2.0, 2.1])
    assert comparison_labels(differences, np.array([1.0])).tolist() == [0, 1, 1, 2, 2, 2, 3, 3, 4]
    with pytest.raises(DataError, match="column `spread`"):
        comparison_labels(np.array([1.0]), np.array([0.0]))


def test_lora_changes_nothing_at_first_and_merges_exactly() -> None:
    """Names and outputs come back; what was not chosen stays as it was."""
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3)).double()
    seen = torch.randn(4, 5, dtype=torch.float64)
    before, names = net(seen), list(net.state_dict())
    assert add_lora(net, lambda name: name == "2", rank=2, alpha=4.0) == ["2"]
    low = net[2]
    assert isinstance(low, LoraLinear)
    low.double()
    assert torch.equal(net(seen), before)
    torch.nn.init.normal_(low.up)
    changed = net(seen)
    assert not torch.allclose(changed, before)
    merge_lora(net)
    assert list(net.state_dict()) == names
    torch.testing.assert_close(net(seen), changed)
    with pytest.raises(ValueError, match="no linear layer"):
        add_lora(net, lambda _: False, rank=1, alpha=1.0)


def pictures(levels: list[int]) -> np.ndarray:
    """Flat squares of these levels with a little noise: brightness is the quality to be learned."""
    random = np.random.default_rng(3)
    flat = np.array(levels)[:, None, None, None] + random.integers(-3, 4, (len(levels), 448, 448, 3))
    return flat.clip(0, 255).astype(np.uint8)


CONFIG = LevelTrainingConfig(steps=12, validate_every=12, warm_up=2, learning_rate=0.01, rank=4, alpha=8.0, batch=4)


def test_level_words_are_learned_and_only_low_rank_parts_and_the_abstractor_move() -> None:
    """The loss on the training rows falls; frozen weights stay as they were, bit for bit."""
    levels = [20, 60, 110, 160, 210, 250] * 2
    scores = np.array(levels, np.float32) / 255
    net = freeze_and_add_lora(network(random_weights()), CONFIG)
    frozen = {n: p.detach().clone() for n, p in net.named_parameters() if not p.requires_grad}
    groups = [f"g{n % 6}" for n in range(12)]
    task = LevelTask(net, CONFIG, pictures=pictures(levels), scores=scores, groups=groups)
    assert task.labels.tolist() == [4, 4, 3, 1, 0, 0] * 2
    trainer = Trainer(task, CONFIG)
    losses = [trainer.train_step() for _ in range(12)]
    assert np.mean(losses[-3:]) < 0.5 * np.mean(losses[:3])
    for name, value in net.named_parameters():
        if name in frozen:
            assert torch.equal(value, frozen[name]), name
    moved = {name.split(".")[1] for name, value in net.named_parameters() if value.requires_grad}
    assert moved == {"layers", "visual_abstractor"}
    assert len(trainer.validate().predicted) == len(task.validation_rows)


def test_comparing_words_are_learned() -> None:
    """The same for pairs; spreads decide how far apart two pictures must be."""
    levels = [20, 90, 160, 230] * 2
    scores = np.array(levels, np.float32) / 255
    net = freeze_and_add_lora(network(random_weights()), CONFIG)
    task = ComparisonTask(
        net, CONFIG, pictures=pictures(levels), scores=scores,
        spreads=np.full(8, 0.15, np.float32), groups=[f"g{n % 4}" for n in range(8)],
    )  # fmt: skip
    trainer = Trainer(task, replace(CONFIG, steps=30))
    losses = [trainer.train_step() for _ in range(30)]
    assert np.mean(losses[-3:]) < 0.5 * np.mean(losses[:3])
    assert len(trainer.validate().predicted) == len(task.validation_pairs)
