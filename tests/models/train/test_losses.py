"""The losses against values worked out by hand."""

import pytest

torch = pytest.importorskip("torch")

from models.train import losses  # noqa: E402

pytestmark = pytest.mark.torch


def test_plcc_is_zero_for_agreement_and_one_for_the_opposite() -> None:
    """A straight line costs nothing, its mirror image costs 1, whatever the scale."""
    target = torch.tensor([0.1, 0.2, 0.4, 0.8])
    assert losses.plcc_loss(3 * target + 1, target).item() == pytest.approx(0, abs=1e-6)
    assert losses.plcc_loss(-target, target).item() == pytest.approx(1, abs=1e-6)


def test_plcc_of_three_values_is_as_by_hand() -> None:
    """For (1, 2, 4) and (1, 3, 2) Pearson is 0.5 / sqrt(7 / 3), so the loss is 0.33634."""
    loss = losses.plcc_loss(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([1.0, 3.0, 2.0]))
    assert loss.item() == pytest.approx((1 - 0.5 / (7 / 3) ** 0.5) / 2, abs=1e-6)


def test_pair_hinge_counts_only_what_falls_short_of_the_margin() -> None:
    """Targets 1 and 0 at margin 0.5: a lead of 0.2 is short by 0.3, and a lead of 0.9 costs nothing."""
    target = torch.tensor([1.0, 0.0])
    assert losses.scaled_hinge_loss(torch.tensor([0.7, 0.5]), target, margin=0.5).item() == pytest.approx(0.3)
    assert losses.scaled_hinge_loss(torch.tensor([0.9, 0.0]), target, margin=0.5).item() == 0


def test_pair_hinge_of_equal_targets_is_zero() -> None:
    """Pictures that people find equal give no order to learn."""
    assert losses.scaled_hinge_loss(torch.tensor([0.1, 0.9]), torch.tensor([0.5, 0.5]), margin=1.0).item() == 0


def test_ladder_hinge_asks_for_a_margin_per_step() -> None:
    """Steps 0, 1, 3 at 0.1 a step: leads 0.05, 0.25, 0.20 against 0.1, 0.3, 0.2 are short by 0.05, 0.05 and 0."""
    predicted, steps = torch.tensor([[0.80, 0.75, 0.55]]), torch.tensor([[0.0, 1.0, 3.0]])
    assert losses.ladder_hinge_loss(predicted, steps, margin=0.1).item() == pytest.approx(0.1 / 3, abs=1e-6)


def test_ladder_hinge_never_compares_two_contents() -> None:
    """A good ladder far below another good ladder costs nothing."""
    predicted, steps = torch.tensor([[0.9, 0.8], [0.2, 0.1]]), torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    assert losses.ladder_hinge_loss(predicted, steps, margin=0.05).item() == 0


def test_l1_is_the_mean_distance() -> None:
    """Distances 0.1 and 0.3 have the mean 0.2."""
    assert losses.l1_loss(torch.tensor([0.1, 0.5]), torch.tensor([0.2, 0.2])).item() == pytest.approx(0.2)


def test_spearman_agrees_with_scipy_also_with_ties() -> None:
    """Ranks of equal values are shared as scipy shares them."""
    from scipy.stats import spearmanr

    a, b = torch.tensor([3.0, 1.0, 2.0, 2.0, 5.0]), torch.tensor([1.0, 1.0, 4.0, 2.0, 6.0])
    assert losses.spearman(a, b) == pytest.approx(spearmanr(a.numpy(), b.numpy()).statistic)


def test_rank_hinge_is_the_same_for_near_and_far_pairs() -> None:
    """Targets 0.9, 0.5, 0 at margin 0.05: leads 0.02, 0.52, 0.5 fall short by 0.03, 0 and 0."""
    loss = losses.rank_hinge_loss(torch.tensor([0.52, 0.5, 0.0]), torch.tensor([0.9, 0.5, 0.0]))
    assert loss.item() == pytest.approx(0.03 / 3, abs=1e-6)


def test_plcc_regression_of_three_values_is_as_by_hand() -> None:
    """For (1, 2, 4) and (1, 3, 2) with r = 0.5 / sqrt(7 / 3): (2 - 2 r + r^2 - 2 r^2 + 1) / 8."""
    r = 0.5 / (7 / 3) ** 0.5
    loss = losses.plcc_regression_loss(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([1.0, 3.0, 2.0]))
    assert loss.item() == pytest.approx(((2 - 2 * r) + (1 - r * r)) / 8, abs=1e-6)


def test_l1_rank_counts_wrong_orders_only() -> None:
    """Predicted 0.2, 0.6 for 0.5, 0.3: mean difference 0.3, and both orders of the one pair are wrong by 0.4."""
    loss = losses.l1_rank_loss(torch.tensor([0.2, 0.6]), torch.tensor([0.5, 0.3]))
    assert loss.item() == pytest.approx(0.3 + 0.4, abs=1e-6)
    assert losses.l1_rank_loss(torch.tensor([0.6, 0.2]), torch.tensor([0.5, 0.3])).item() == pytest.approx(
        0.1, abs=1e-6
    )


def test_fidelity_of_a_pair_is_as_by_hand() -> None:
    """A lead of sqrt 2 gives P = Phi(1) = 0.841345: 1 - sqrt(P) when right, 1 - sqrt(1 - P) when wrong."""
    predicted = torch.tensor([2.0**0.5, 0.0])
    assert losses.fidelity_loss(predicted, torch.tensor([1.0, 0.0])).item() == pytest.approx(
        1 - 0.841345**0.5, abs=1e-5
    )
    assert losses.fidelity_loss(predicted, torch.tensor([0.0, 1.0])).item() == pytest.approx(
        1 - 0.158655**0.5, abs=1e-5
    )
    even = 1 - (0.841345 / 2) ** 0.5 - (0.158655 / 2) ** 0.5
    assert losses.fidelity_loss(predicted, torch.tensor([0.5, 0.5])).item() == pytest.approx(even, abs=1e-5)
