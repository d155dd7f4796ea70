"""The training loop: it resumes exactly, keeps the best averaged weights, and follows its learning rate schedule."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402

from models.train.loop import Trainer, TrainingConfig, ValidationResult, parameter_groups, train  # noqa: E402
from tests.models.lite_training import tiny_trainer, training_set  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]


class LineTask:
    """Fits y = 2 x with one weight; validation returns prepared correlations, one per call."""

    def __init__(self, validations: Iterable[list[float]] = ()) -> None:
        self.network = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(self.network.weight)
        self.validations = iter(validations)

    def parameter_groups(self) -> Iterable[dict[str, Any]]:
        return parameter_groups(self.network, weight_decay=0.0)

    def loss(self, random: np.random.Generator) -> Tensor:
        x = torch.from_numpy(random.normal(size=(8, 1)).astype(np.float32))
        return ((self.network(x) - 2 * x) ** 2).mean()

    def validate(self) -> ValidationResult:
        return ValidationResult(predicted=torch.tensor(next(self.validations)), target=torch.tensor([0.0, 1.0, 2.0]))


def test_resuming_gives_the_same_weights_as_not_stopping(tmp_path: Path) -> None:
    """Four steps in one go equal two steps, a saved file, and two more steps by a new trainer."""
    data = training_set()
    whole, first, second = (tiny_trainer(data) for _ in range(3))
    for _ in range(4):
        whole.train_step()
    for _ in range(2):
        first.train_step()
    torch.save(first.state(), tmp_path / "last.pt")
    second.restore(torch.load(tmp_path / "last.pt", weights_only=True))
    for _ in range(2):
        second.train_step()
    for name, value in whole.network.state_dict().items():
        torch.testing.assert_close(second.network.state_dict()[name], value, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(second.average[name], whole.average[name], rtol=1e-4, atol=1e-5)


def test_training_writes_the_best_and_the_last_weights(tmp_path: Path) -> None:
    """A run writes best.pt with its SRCC and last.pt to resume from, and reports each validation."""
    reports: list[str] = []
    best = train(tiny_trainer(training_set()), tmp_path, report=reports.append)
    assert -1 <= torch.load(best, weights_only=True)["srcc"] <= 1
    assert torch.load(tmp_path / "last.pt", weights_only=True)["step"] == 4
    assert [line.split(":")[0] for line in reports] == ["step 2", "step 4"]


def test_the_checkpoint_is_that_of_the_best_validation(tmp_path: Path) -> None:
    """Of SRCC 0.5, 1.0 and -1.0 the second is kept, with its step, its predictions and the given facts."""
    config = TrainingConfig(steps=6, validate_every=2, warm_up=1)
    task = LineTask([[0.0, 2.0, 1.0], [0.0, 1.0, 3.0], [2.0, 1.0, 0.0]])
    best = torch.load(train(Trainer(task, config), tmp_path, report=lambda _: None, facts={"rows": "3"}))
    assert (best["step"], best["srcc"], best["rows"]) == (4, pytest.approx(1.0), "3")
    assert best["predicted"].tolist() == [0.0, 1.0, 3.0]
    rows = (tmp_path / "curve.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["step", "2", "4", "6"]


def test_the_learning_rate_warms_up_and_decays_to_zero() -> None:
    """A share per warm-up step, the full rate after it, half in the middle of the rest, none at the end."""
    trainer = Trainer(LineTask(), TrainingConfig(steps=24, warm_up=4, learning_rate=0.1))
    rates = []
    for trainer.step in (0, 1, 3, 4, 14, 24):
        rates.append(trainer.learning_rate())
    assert rates == pytest.approx([0.025, 0.05, 0.1, 0.1, 0.05, 0.0], abs=1e-9)


def test_validation_uses_the_average_and_puts_the_weights_back() -> None:
    """The weights during validation are the averaged ones; afterwards training continues with its own."""
    task = LineTask([[0.0, 1.0, 2.0]])
    trainer = Trainer(task, TrainingConfig(steps=10, warm_up=1, learning_rate=0.1))
    for _ in range(5):
        trainer.train_step()
    in_training, during = task.network.weight.item(), []
    task.network.register_forward_pre_hook(lambda *_: None)
    validate = task.validate
    task.validate = lambda: (during.append(task.network.weight.item()), validate())[1]  # type: ignore[method-assign]
    trainer.validate()
    assert during == [pytest.approx(trainer.average["weight"].item())]
    assert during[0] != pytest.approx(in_training)
    assert task.network.weight.item() == in_training


def test_without_averaging_the_last_weights_are_kept() -> None:
    """A decay of 0 makes the average equal to the weights after each step."""
    trainer = Trainer(LineTask(), TrainingConfig(steps=10, warm_up=1, learning_rate=0.1, average=0.0))
    for _ in range(3):
        trainer.train_step()
    assert torch.equal(trainer.average["weight"], trainer.network.state_dict()["weight"])


def test_weight_decay_and_shares_group_the_parameters() -> None:
    """Biases and norms have no weight decay, frozen parameters no group, and a share multiplies the rate."""
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 1))
    network[2].requires_grad_(requires_grad=False)
    groups = list(parameter_groups(network, weight_decay=0.1, share=lambda name: 0.5 if name == "0.weight" else 1.0))
    assert [(group["weight_decay"], group["share"], len(group["params"])) for group in groups] == [
        (0.1, 0.5, 1),
        (0.0, 1.0, 3),
    ]


@pytest.mark.parametrize(
    ("fields", "message"),
    [({"warm_up": 1000}, "warm_up"), ({"average": 1.0}, "below 1"), ({"precision": "fp16"}, "fp32 or bf16")],
)
def test_impossible_configurations_are_refused(fields: dict[str, Any], message: str) -> None:
    """A warm-up longer than the run, an average that never moves, an unknown precision."""
    with pytest.raises(ValueError, match=message):
        TrainingConfig(**fields)
