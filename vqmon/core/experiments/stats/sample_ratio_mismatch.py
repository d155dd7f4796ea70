"""Sample ratio mismatch (SRM): do sessions fall into the arms by the planned shares?"""

import math
from collections.abc import Mapping, Sequence

from vqmon.core.experiments.results import HealthCheck
from vqmon.core.experiments.stats.distributions import (
    chi_square_upper_tail,
)

SRM_ALPHA = 0.02
"""Largest probability of an alarm over the whole life of an experiment with planned shares.

In 1,000 even splits of 20,000 sessions there were 15; chi-square at .001, read every 8 sessions, gave 30.
"""

_SILENCE_ALPHA = 0.001


def check_sample_ratio(
    counts: Mapping[str, int], shares: Mapping[str, float], *, max_log_e_value: float
) -> HealthCheck:
    """Whether sessions fall into the arms by the planned shares (sample ratio mismatch, SRM).

    `shares` are planned shares, or planned numbers of sessions where shares changed, relative to each other.
    `max_log_e_value` is ln of the largest e-value at any look; the check decides by it, and states Pearson's chi-square
    test of this look as well.
    """
    n, total = sum(counts.values()), sum(shares.values())
    expected = {arm: n * share / total if n else 0.0 for arm, share in shares.items()}
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


_SRM_PRIORS = ((1.0, 0.2), (8.0, 0.25), (80.0, 0.3), (1000.0, 0.25))
"""(Dirichlet pseudo-counts over all arms, weight): few for a dead arm, many for shares that are slightly off.

So that an even split that is 50/50 by plan and 0/100 to 48/52 in truth is found with at most 1.2 times the sessions of
chi-square at .001 (49/51: 1.26 times).
"""


def srm_log_e_value(counts: Sequence[int], shares: Sequence[float]) -> float:
    """ln of the e-value against "sessions fall into the arms by the planned shares" (sample ratio mismatch, SRM).

    The multinomial-Dirichlet mixture of Lindon and Malek, "Anytime-valid inference for multinomial count data"
    (arXiv:2011.03567), averaged over priors of several strengths. It may be evaluated after every session; an e-value
    of 50 is an alarm at alpha 0.02.
    """
    total = sum(shares)
    planned = [share / total for share in shares]
    logs = [math.log(weight) + _dirichlet_log_e_value(counts, planned, strength) for strength, weight in _SRM_PRIORS]
    highest = max(logs)
    return highest + math.log(sum(math.exp(value - highest) for value in logs))


def check_silent_arms(run_log_p_values: Mapping[str, float], runs: Mapping[str, int], *, sessions: int) -> HealthCheck:
    """Whether every arm still gets sessions.

    `runs` counts the sessions since each arm's last one, `run_log_p_values` holds ln of the probability of such a run
    by the planned shares. As a run may begin at any of the sessions, its probability is multiplied by their number.
    """
    p_values = {arm: min(1.0, max(1, sessions) * math.exp(log_p)) for arm, log_p in run_log_p_values.items()}
    silent = [arm for arm, p in p_values.items() if p < _SILENCE_ALPHA]
    text = ", ".join(f"{arm} got none of the last {runs[arm]} sessions" for arm in silent)
    return HealthCheck(
        name="silent arm",
        is_good=not silent,
        weight="blocks",
        text=text or "every arm still gets sessions",
        remedy="find out why the arm gets no sessions; restart the experiment after a repair" if silent else "",
        p=min(p_values.values(), default=None),
    )


def _dirichlet_log_e_value(counts: Sequence[int], planned: Sequence[float], strength: float) -> float:
    n = sum(counts)
    return (
        math.lgamma(strength)
        - math.lgamma(strength + n)
        + sum(
            math.lgamma(strength * share + count) - math.lgamma(strength * share) - count * math.log(share)
            for share, count in zip(planned, counts, strict=True)
        )
    )
