"""The closed-form refit of lite's head: regression, ranking constraints, and the drawn rungs."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from models.train.builtin.refit_head import (  # noqa: E402
    HeadRefitConfig,
    OrderConstraints,
    draw_rungs,
    fit_head,
    head_inputs,
    order_constraints,
    refit_head,
    set_head,
)
from models.train.lite import predict_pictures  # noqa: E402
from tests.models.lite_training import tiny_trainer, training_set  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

CONFIG = HeadRefitConfig(ladders=2, rungs=3, margin=0.1, weight=1.0, ridge=1e-6)


def test_a_linear_relation_is_found() -> None:
    """Scores that are 0.2 + 0.3 * the first feature come out as such when the ridge is negligible."""
    features = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    constraints = OrderConstraints(differences=torch.tensor([[1.0, 0, 0, 0]]), margins=torch.tensor([0.1]))
    weights, bias = fit_head(features, 0.2 + 0.3 * features[:, 0], constraints, CONFIG)
    torch.testing.assert_close(weights, torch.tensor([0.3, 0, 0, 0]), atol=1e-4, rtol=0)
    assert bias == pytest.approx(0.2, abs=1e-4)


def test_a_violated_order_is_corrected() -> None:
    """A feature that the photos say nothing of gets the weight that gives a pair its margin."""
    constraints = OrderConstraints(differences=torch.tensor([[1.0]]), margins=torch.tensor([0.1]))
    weights, _ = fit_head(torch.zeros(5, 1), torch.zeros(5), constraints, CONFIG)
    assert weights.item() == pytest.approx(0.1, abs=1e-3)


def test_a_larger_ridge_shrinks_the_weights() -> None:
    """The same relation with a ridge of half the squared norm of the feature: two thirds of the weight."""
    features = torch.tensor([[-1.0], [1.0], [-1.0], [1.0]])
    constraints = OrderConstraints(differences=torch.zeros(0, 1), margins=torch.zeros(0))
    weights, _ = fit_head(features, 0.3 * features[:, 0], constraints, HeadRefitConfig(ridge=2.0))
    assert weights.item() == pytest.approx(0.2, abs=1e-5)


def test_a_set_head_decides_the_score() -> None:
    """Without weights, a bias of 0.25 scores every picture 0.25."""
    data = training_set()
    network = tiny_trainer(data).network
    inputs = head_inputs(network, iter(data.rungs[:2]))
    set_head(network, torch.zeros(inputs.shape[1]), 0.25)
    scores = predict_pictures(network, data.canvases, np.array([0, 1]))
    torch.testing.assert_close(scores, torch.tensor([0.25, 0.25]))


def test_every_rung_leads_every_lower_rung_of_its_ladder() -> None:
    """Three rungs and two give three pairs and one, none across ladders; the margin grows per step, up to four."""
    constraints = order_constraints(torch.arange(5.0)[:, None], [[0, 1, 2], [0, 7]], CONFIG)
    assert constraints.differences.squeeze(1).tolist() == [-1, -2, -1, -1]
    torch.testing.assert_close(constraints.margins, torch.tensor([0.1, 0.2, 0.1, 0.4]))


def test_drawn_rungs_stay_in_order() -> None:
    """All rungs of both ladders are drawn when that many are asked for, best first."""
    rows, steps = draw_rungs(training_set(), CONFIG, seed=0)
    assert sorted(rows) == list(range(6))
    assert steps == [[0, 1, 2], [0, 1, 2]]


def test_refitting_changes_only_the_head() -> None:
    """The trunk stays as it was; the SRCC is that of the validation rows."""
    data = training_set()
    network = tiny_trainer(data).network
    before = {name: value.clone() for name, value in network.state_dict().items()}
    srcc = refit_head(network, data, CONFIG, seed=1, validation=2)
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"direct.weight", "score.weight", "score.bias"}
    assert srcc in (-1.0, pytest.approx(1.0), pytest.approx(-1.0))
