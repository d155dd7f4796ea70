"""Training on human scores: every loss teaches the order, a stop changes nothing, mixed precision works."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402

from models.train.loop import Trainer, train  # noqa: E402
from models.train.scores import LossWeights, ScoreTask, ScoreTrainingConfig, predict  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]


class Head(nn.Module):
    """Two kinds of features to one score."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.score = nn.Linear(6, 1)

    def forward(self, first: Tensor, other: Tensor) -> Tensor:
        return self.score(torch.cat([first, other], 1)).squeeze(1)


def task(plan: ScoreTrainingConfig, rows: int = 60) -> ScoreTask:
    """Scores are a noisy sum of the first feature of each kind; three rows per group."""
    random = np.random.default_rng(0)
    first, other = random.normal(size=(rows, 4)).astype(np.float16), random.normal(size=(rows, 2)).astype(np.float32)
    scores = first[:, 0] + other[:, 0] + 0.1 * random.normal(size=rows)
    scores = ((scores - scores.min()) / np.ptp(scores)).astype(np.float32)
    return ScoreTask(Head(), plan, inputs=[first, other], scores=scores, groups=[f"g{n // 3}" for n in range(rows)])


@pytest.mark.parametrize("name", ["plcc", "plcc_regression", "l1", "l1_rank", "fidelity", "hinge"])
def test_each_loss_alone_teaches_the_order(name: str, tmp_path: Path) -> None:
    """On rows of contents never seen the order is nearly right, where it was not before."""
    weights = LossWeights(**{"plcc": 0, "hinge": 0, name: 1.0})
    trainer = Trainer(
        task(plan := ScoreTrainingConfig(steps=150, validate_every=150, learning_rate=0.03, losses=weights)), plan
    )
    before = trainer.validate().srcc
    train(trainer, tmp_path, report=lambda _: None)
    assert before < 0.6
    assert trainer.best_srcc > 0.9
    checkpoint = torch.load(tmp_path / "best.pt", weights_only=True)
    assert checkpoint["srcc"] == trainer.best_srcc
    assert (tmp_path / "curve.csv").read_text().splitlines()[0] == "step,loss,srcc,plcc"
    for picture in ("curve.png", "scatter.png"):
        assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")


def test_a_stop_changes_nothing(tmp_path: Path) -> None:
    """Ten steps in one go equal four, a file, and six by a new trainer, weight for weight."""
    plan = ScoreTrainingConfig(steps=10, validate_every=4, warm_up=2, learning_rate=0.01)
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
    plan = ScoreTrainingConfig(steps=150, validate_every=150, learning_rate=0.03, precision="bf16")
    trainer = Trainer(task(plan), plan)
    train(trainer, tmp_path, report=lambda _: None)
    assert trainer.best_srcc > 0.9
    assert trainer.network.state_dict()["score.weight"].dtype == torch.float32


def test_scores_do_not_depend_on_the_batch() -> None:
    """One by one, or seven at a time."""
    training_task = task(ScoreTrainingConfig())
    rows = np.arange(20)
    torch.testing.assert_close(
        predict(training_task.network, training_task.inputs, rows, batch=1),
        predict(training_task.network, training_task.inputs, rows, batch=7),
    )


def test_nonsense_is_refused() -> None:
    """Plans and rows that fit nothing."""
    with pytest.raises(ValueError, match="warm_up"):
        ScoreTrainingConfig(steps=5)
    with pytest.raises(ValueError, match="one must be above 0"):
        LossWeights(plcc=0, hinge=0)
    with pytest.raises(ValueError, match="same number of rows"):
        ScoreTask(
            Head(), ScoreTrainingConfig(), inputs=[np.zeros((3, 4))], scores=np.zeros(2, np.float32), groups=["a", "b"]
        )
