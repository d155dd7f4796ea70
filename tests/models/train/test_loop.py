"""The training loop, which may stop and go on, and the head that is refitted in closed form."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from models.data.photos import Ladder, load_ladders, write_ladders  # noqa: E402
from models.networks.lite import Lite, LiteConfig  # noqa: E402
from models.train import refit_head  # noqa: E402
from models.train.lite import LadderWeights, LiteTask, Material, PhotoWeights, Plan, predict  # noqa: E402
from models.train.loop import Trainer, train  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

PLAN = Plan(
    steps=4,
    validation=2,
    validate_every=2,
    warm_up=1,
    tiles=2,
    photos=PhotoWeights(batch=3),
    ladders=LadderWeights(batch=1, rungs=2),
)


@pytest.fixture(scope="module")
def material() -> Material:
    """Six photos of noise and two ladders of three rungs."""
    random = np.random.default_rng(0)
    return Material(
        canvases=random.integers(0, 256, (6, 540, 540, 3)).astype(np.uint8),
        scores=random.random(6).astype(np.float32),
        rungs=random.integers(0, 256, (6, 12, 96, 128, 3)).astype(np.uint8),
        ladders=[Ladder(content=f"c{n}", kind=f"k{n}", rows=tuple(range(3 * n, 3 * n + 3))) for n in range(2)],
    )


def tiny(material: Material) -> Trainer:
    torch.manual_seed(0)
    network = Lite(LiteConfig(trunk="mobilenetv4_conv_small_050", hidden=8))
    return Trainer(LiteTask(network, PLAN, material=material), PLAN)


def test_resuming_gives_the_same_weights_as_not_stopping(material: Material, tmp_path: Path) -> None:
    """Four steps in one go equal two steps, a saved file, and two more steps by a new trainer."""
    whole, first, second = (tiny(material) for _ in range(3))
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


def test_training_to_the_end_keeps_the_best_and_the_last(material: Material, tmp_path: Path) -> None:
    """A run writes best.pt with its SRCC and last.pt to go on from, and reports each validation."""
    said: list[str] = []
    best = train(tiny(material), tmp_path, report=said.append)
    assert -1 <= torch.load(best, weights_only=True)["srcc"] <= 1
    assert torch.load(tmp_path / "last.pt", weights_only=True)["step"] == 4
    assert [line.split(":")[0] for line in said] == ["step 2", "step 4"]


def test_the_rate_rises_then_falls_to_nothing(material: Material) -> None:
    """Full after the warm-up, half in the middle of what is left, none at the end."""
    trainer = tiny(material)
    rates = []
    for step in (1, 2.5, 4):
        trainer.step = step  # type: ignore[assignment]
        rates.append(trainer.rate() / PLAN.learning_rate)
    assert rates == pytest.approx([1, 0.5, 0], abs=1e-9)


def test_ladders_read_back_as_written(tmp_path: Path) -> None:
    """Tiles come back bit by bit, with the content and the kind they were written under."""
    tiles = [np.full((12, 96, 128, 3), value, np.uint8) for value in (1, 2, 3)]
    assert write_ladders(tmp_path, iter([("a", "blur", tiles[:2]), ("b", "noise", tiles[1:])])) == 4
    rungs, ladders = load_ladders(tmp_path)
    assert [(one.content, one.kind, one.rows) for one in ladders] == [("a", "blur", (0, 1)), ("b", "noise", (2, 3))]
    np.testing.assert_array_equal(rungs[3], tiles[2])


HEAD = refit_head.HeadPlan(ladders=2, rungs=3, margin=0.1, weight=1.0, ridge=1e-6)


def test_the_refitted_head_finds_a_straight_line() -> None:
    """Scores that are 0.2 + 0.3 * the first fact come out as such when the ridge costs nothing."""
    facts = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    pairs = refit_head.Pairs(apart=torch.tensor([[1.0, 0, 0, 0]]), lead=torch.tensor([0.1]))
    weights, bias = refit_head.solve(facts, 0.2 + 0.3 * facts[:, 0], pairs, HEAD)
    torch.testing.assert_close(weights, torch.tensor([0.3, 0, 0, 0]), atol=1e-4, rtol=0)
    assert bias == pytest.approx(0.2, abs=1e-4)


def test_the_refitted_head_turns_a_wrong_order() -> None:
    """A fact that the photos say nothing of gets the weight that gives a pair its lead."""
    pairs = refit_head.Pairs(apart=torch.tensor([[1.0]]), lead=torch.tensor([0.1]))
    weights, _ = refit_head.solve(torch.zeros(5, 1), torch.zeros(5), pairs, HEAD)
    assert weights.item() == pytest.approx(0.1, abs=1e-3)


def test_setting_the_head_makes_the_score_as_said(material: Material) -> None:
    """No weights and a bias of 0.25 score every picture 0.25."""
    network = tiny(material).network
    seen = refit_head.look(network, iter(material.rungs[:2]))
    refit_head.set_head(network, torch.zeros(seen.shape[1]), 0.25)
    torch.testing.assert_close(predict(network, material.canvases, np.array([0, 1])), torch.tensor([0.25, 0.25]))


def test_every_rung_leads_every_lower_one() -> None:
    """Three rungs and two give three pairs and one, none across ladders; the lead grows by the step, up to four."""
    pairs = refit_head.neighbours(torch.arange(5.0)[:, None], [[0, 1, 2], [0, 7]], HEAD)
    assert pairs.apart.squeeze(1).tolist() == [-1, -2, -1, -1]
    torch.testing.assert_close(pairs.lead, torch.tensor([0.1, 0.2, 0.1, 0.4]))


def test_drawn_rungs_stay_in_order(material: Material) -> None:
    """All rungs of both ladders are drawn when that many are asked for, best first."""
    rows, steps = refit_head.draw_rungs(material, HEAD, seed=0)
    assert sorted(rows) == list(range(6))
    assert steps == [[0, 1, 2], [0, 1, 2]]
