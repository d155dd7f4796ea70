"""Sample ratio mismatch (SRM): do sessions fall into the arms by the planned shares?"""

import math
from collections.abc import Mapping, Sequence

from vqmon.core.experiments.results import HealthCheck
from vqmon.core.experiments.stats.distributions import (
    chi_square_upper_tail,
)

SRM_ALPHA = 0.001


def check_sample_ratio(
    counts: Mapping[str, int], shares: Mapping[str, float], *, max_log_e_value: float
) -> HealthCheck:
    """Whether sessions fall into the arms by the planned shares (sample ratio mismatch, SRM).

    `max_log_e_value` is ln of the largest e-value at any look; the check decides by it, and states Pearson's
    chi-square test of this look as well.
    """
    n, total = sum(counts.values()), sum(shares.values())
    expected = {arm: n * share / total for arm, share in shares.items()}
    chi_square = sum((counts[arm] - expected[arm]) ** 2 / expected[arm] for arm in counts) if n else 0.0
    p_now = chi_square_upper_tail(chi_square, len(counts) - 1)
    p_anytime = min(1.0, math.exp(-max(0.0, max_log_e_value)))
    is_good = p_anytime >= SRM_ALPHA
    split = ", ".join(f"{arm} {counts[arm]} of {expected[arm]:.0f} planned" for arm in counts)
    return HealthCheck(
        name="sample ratio",
        is_good=is_good,
        weight="blocks",
        text=f"{split}; p {p_anytime:.2g} at any look, {p_now:.2g} by chi-square at this look",
        remedy=""
        if is_good
        else "find out why sessions of one arm are lost or counted twice, repair that, and restart the experiment",
        p=p_anytime,
    )


_SRM_PRIOR = 100.0
"""Dirichlet pseudo-counts over all arms; measured to detect an uneven split sooner than a prior of thousands."""


def srm_log_e_value(counts: Sequence[int], shares: Sequence[float]) -> float:
    """ln of the e-value against "sessions fall into the arms by the planned shares" (sample ratio mismatch, SRM).

    The multinomial-Dirichlet mixture of Lindon and Malek, "Anytime-valid inference for multinomial count data"
    (arXiv:2011.03567). It may be evaluated after every session; an e-value of 1000 is an alarm at alpha 0.001.
    """
    total = sum(shares)
    planned = [share / total for share in shares]
    prior = [_SRM_PRIOR * share for share in planned]
    n = sum(counts)
    return (
        math.lgamma(_SRM_PRIOR)
        - math.lgamma(_SRM_PRIOR + n)
        + sum(math.lgamma(a + k) - math.lgamma(a) for a, k in zip(prior, counts, strict=True))
        - sum(k * math.log(share) for k, share in zip(counts, planned, strict=True))
    )
