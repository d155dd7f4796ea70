"""Tests of the difference of two correlations with the same human scores."""

import math
from collections.abc import Sequence

from vqmon.core.experiments.stats.distributions import t_two_sided_p


def williams_test_p(first: float, second: float, *, between: float, items: int) -> float | None:
    """The two-sided p-value of equal dependent correlations: Williams' t with items - 3 degrees of freedom.

    `first` and `second` are the correlations of two predictions with the same scores, `between` that of the predictions
    with each other. None with fewer than four items, or where the test is not defined. Williams, "Regression analysis",
    1959; recommended by Steiger, "Tests for comparing elements of a correlation matrix", Psychological Bulletin 1980.
    """
    if items < 4 or not all(math.isfinite(r) for r in (first, second, between)):
        return None
    if first == second:
        return 1.0
    determinant = 1 - first**2 - second**2 - between**2 + 2 * first * second * between
    mean = (first + second) / 2
    scale = 2 * determinant * (items - 1) / (items - 3) + mean**2 * (1 - between) ** 3
    if scale <= 0:
        return None
    t = (first - second) * math.sqrt((items - 1) * (1 + between) / scale)
    return t_two_sided_p(t, items - 3)


def holm_adjusted_p(p_values: Sequence[float | None]) -> list[float | None]:
    """Each p-value corrected for all of them (Holm 1979): they hold together; None stays None."""
    order = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, index) in enumerate(order):
        largest = max(largest, min(1.0, p * (len(order) - rank)))
        adjusted[index] = largest
    return adjusted
