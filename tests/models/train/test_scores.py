"""Training on human scores, with features and with level words: it learns, it may stop, and only what should moves."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402

from models.data.csv_scores import DataError  # noqa: E402
from models.train.levels import CompareTask, LevelPlan, LevelTask, LowRank, add_low_rank, comparison_of, merge, prepare  # noqa: E402  # noqa: E402
from models.train.loop import Trainer, train  # noqa: E402
from models.train.scores import LossWeights, ScorePlan, ScoreTask, predict  # noqa: E402
from tests.models.owl_weights import network, random_weights  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]


class Head(nn.Module):
    """Two kinds of features to one score."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.score = nn.Linear(6, 1)

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        return self.score(torch.cat([one, other], 1)).squeeze(1)


def task(plan: ScorePlan, rows: int = 60) -> ScoreTask:
    """Scores are a noisy sum of the first feature of each kind; three rows per group."""
    random = np.random.default_rng(0)
    one, other = random.normal(size=(rows, 4)).astype(np.float16), random.normal(size=(rows, 2)).astype(np.float32)
    scores = one[:, 0] + other[:, 0] + 0.1 * random.normal(size=rows)
    scores = ((scores - scores.min()) / np.ptp(scores)).astype(np.float32)
    return ScoreTask(Head(), plan, inputs=[one, other], scores=scores, groups=[f"g{n // 3}" for n in range(rows)])


@pytest.mark.parametrize("name", ["plcc", "plcc_regression", "l1", "l1_rank", "fidelity", "hinge"])
def test_each_loss_alone_teaches_the_order(name: str, tmp_path: Path) -> None:
    """On rows of contents never seen the order is nearly right, where it was not before."""
    weights = LossWeights(**{"plcc": 0, "hinge": 0, name: 1.0})
    trainer = Trainer(task(plan := ScorePlan(steps=150, validate_every=150, learning_rate=0.03, losses=weights)), plan)
    before = trainer.validate().srcc
    train(trainer, tmp_path, report=lambda _: None)
    assert before < 0.6
    assert trainer.best > 0.9
    kept = torch.load(tmp_path / "best.pt", weights_only=True)
    assert kept["srcc"] == trainer.best
    assert (tmp_path / "curve.csv").read_text().splitlines()[0] == "step,loss,srcc,plcc"
    for picture in ("curve.png", "scatter.png"):
        assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")


def test_a_stop_changes_nothing(tmp_path: Path) -> None:
    """Ten steps in one go equal four, a file, and six by a new trainer, weight for weight."""
    plan = ScorePlan(steps=10, validate_every=4, warm_up=2, learning_rate=0.01)
    whole, first, second = (Trainer(task(plan), plan) for _ in range(3))
    for _ in range(10):
        whole.train_step()
    for _ in range(4):
        first.train_step()
    torch.save(first.state(), tmp_path / "last.pt")
    second.restore(torch.load(tmp_path / "last.pt", weights_only=True))
    for _ in range(6):
        second.train_step()
    for name, value in whole.network.state_dict().items():
        assert torch.equal(second.network.state_dict()[name], value)
        assert torch.equal(second.average[name], whole.average[name])


def test_mixed_precision_learns_too(tmp_path: Path) -> None:
    """In bf16 the same head gets as far; its weights stay in float32."""
    plan = ScorePlan(steps=150, validate_every=150, learning_rate=0.03, precision="bf16")
    trainer = Trainer(task(plan), plan)
    train(trainer, tmp_path, report=lambda _: None)
    assert trainer.best > 0.9
    assert trainer.network.state_dict()["score.weight"].dtype == torch.float32


def test_scores_do_not_depend_on_the_batch() -> None:
    """One by one, or seven at a time."""
    some = task(ScorePlan())
    rows = np.arange(20)
    torch.testing.assert_close(
        predict(some.network, some.inputs, rows, batch=1), predict(some.network, some.inputs, rows, batch=7)
    )


def test_nonsense_is_refused() -> None:
    """Plans and rows that fit nothing."""
    with pytest.raises(ValueError, match="warm_up"):
        ScorePlan(steps=5)
    with pytest.raises(ValueError, match="one must be above 0"):
        LossWeights(plcc=0, hinge=0)
    with pytest.raises(ValueError, match="same number of rows"):
        ScoreTask(Head(), ScorePlan(), inputs=[np.zeros((3, 4))], scores=np.zeros(2, np.float32), groups=["a", "b"])
    with pytest.raises(DataError, match="column `spread`"):
        comparison_of(np.array([1.0]), np.array([0.0]))


def test_low_rank_layers_change_nothing_at_first_and_merge_exactly() -> None:
    """Names and outputs come back; what was not chosen stays as it was."""
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3)).double()
    seen = torch.randn(4, 5, dtype=torch.float64)
    before, names = net(seen), list(net.state_dict())
    assert add_low_rank(net, lambda name: name == "2", rank=2, alpha=4.0) == ["2"]
    low = net[2]
    assert isinstance(low, LowRank)
    low.double()
    assert torch.equal(net(seen), before)
    torch.nn.init.normal_(low.up)
    changed = net(seen)
    assert not torch.allclose(changed, before)
    merge(net)
    assert list(net.state_dict()) == names
    torch.testing.assert_close(net(seen), changed)
    with pytest.raises(ValueError, match="no linear layer"):
        add_low_rank(net, lambda _: False, rank=1, alpha=1.0)


def pictures(levels: list[int]) -> np.ndarray:
    """Flat squares of these levels with a little noise: brightness is the quality to be learned."""
    random = np.random.default_rng(3)
    flat = np.array(levels)[:, None, None, None] + random.integers(-3, 4, (len(levels), 448, 448, 3))
    return flat.clip(0, 255).astype(np.uint8)


LEVEL_PLAN = LevelPlan(steps=12, validate_every=12, warm_up=2, learning_rate=0.01, rank=4, alpha=8.0, batch=4)


def test_level_words_are_learned_and_only_low_rank_parts_and_the_abstractor_move() -> None:
    """The loss on the training rows falls; frozen weights stay as they were, bit for bit."""
    levels = [20, 60, 110, 160, 210, 250] * 2
    scores = np.array(levels, np.float32) / 255
    net = prepare(network(random_weights()), LEVEL_PLAN)
    frozen = {n: p.detach().clone() for n, p in net.named_parameters() if not p.requires_grad}
    groups = [f"g{n % 6}" for n in range(12)]
    some = LevelTask(net, LEVEL_PLAN, pictures=pictures(levels), scores=scores, groups=groups)
    assert some.levels.tolist() == [4, 4, 3, 1, 0, 0] * 2
    trainer = Trainer(some, LEVEL_PLAN)
    losses = [trainer.train_step() for _ in range(12)]
    assert np.mean(losses[-3:]) < 0.5 * np.mean(losses[:3])
    for name, value in net.named_parameters():
        if name in frozen:
            assert torch.equal(value, frozen[name]), name
    moved = {name.split(".")[1] for name, value in net.named_parameters() if value.requires_grad}
    assert moved == {"layers", "visual_abstractor"}
    assert len(trainer.validate().predicted) == len(some.held)


def test_comparing_words_are_learned() -> None:
    """The same for pairs; spreads decide how far apart two pictures must be."""
    levels = [20, 90, 160, 230] * 2
    scores = np.array(levels, np.float32) / 255
    net = prepare(network(random_weights()), LEVEL_PLAN)
    some = CompareTask(
        net, LEVEL_PLAN, pictures=pictures(levels), scores=scores,
        spreads=np.full(8, 0.15, np.float32), groups=[f"g{n % 4}" for n in range(8)],
    )  # fmt: skip
    trainer = Trainer(some, replace(LEVEL_PLAN, steps=30))
    losses = [trainer.train_step() for _ in range(30)]
    assert np.mean(losses[-3:]) < 0.5 * np.mean(losses[:3])
    assert len(trainer.validate().predicted) == len(some.held_pairs)
