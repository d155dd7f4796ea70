"""Whether the data of an experiment can be trusted: sample ratio, missing pairs, versions, A/A of the same data."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from vqmon.core.experiments.results import Check
from vqmon.core.experiments.stats.distributions import binomial_cdf, chi_square_tail, fair_coin, t_quantile
from vqmon.core.experiments.stats.nonparametric import Floats

SRM_ALPHA = 0.001
SRM_PRIOR = 100.0
"""Pseudo-counts over all arms: a flatter prior than thousands finds an uneven split sooner (measured)."""

MISSING_ALPHA = 0.001
MISSING_SHARE = 0.01
MISSING_LEAST = 3
"""One or two missing pairs of a small experiment are no imbalance."""

AA_DRAWS = 1000


def ratio_evidence(counts: Sequence[int], shares: Sequence[float]) -> float:
    """ln of the e-value against "arms fill up by their shares" (Lindon and Malek 2020, arXiv:2011.03567).

    A multinomial-Dirichlet mixture: it may be looked at after every session, and 1000 is alarm enough.
    """
    total = sum(shares)
    planned = [share / total for share in shares]
    prior = [SRM_PRIOR * share for share in planned]
    n = sum(counts)
    return (
        math.lgamma(SRM_PRIOR)
        - math.lgamma(SRM_PRIOR + n)
        + sum(math.lgamma(a + k) - math.lgamma(a) for a, k in zip(prior, counts, strict=True))
        - sum(k * math.log(share) for k, share in zip(counts, planned, strict=True))
    )


def ratio_check(counts: Mapping[str, int], shares: Mapping[str, float], *, most: float) -> Check:
    """Sessions per arm as planned? `most` is the largest ln of the e-value seen so far."""
    n, total = sum(counts.values()), sum(shares.values())
    expected = {arm: n * share / total for arm, share in shares.items()}
    chi = sum((counts[arm] - expected[arm]) ** 2 / expected[arm] for arm in counts) if n else 0.0
    fixed = chi_square_tail(chi, len(counts) - 1)
    p = min(1.0, math.exp(-max(0.0, most)))
    split = ", ".join(f"{arm} {counts[arm]} of {expected[arm]:.0f} planned" for arm in counts)
    return Check(
        name="sample ratio",
        is_good=p >= SRM_ALPHA,
        weight="blocks",
        text=f"{split}; p {p:.2g} at any look, {fixed:.2g} by chi-square at this one",
        remedy=""
        if p >= SRM_ALPHA
        else "find out why sessions of one arm are lost or counted twice, mend it, and start the experiment anew",
        p=p,
    )


def missing_check(arm: str, control: str, *, pairs: int, in_arm: int, in_control: int, waiting: int) -> Check:
    """Are segments missing on one side more than on the other?"""
    p = fair_coin(in_arm, in_control)
    uneven = abs(in_arm - in_control)
    share = uneven / max(1, pairs + in_arm + in_control)
    good = p >= MISSING_ALPHA and (share <= MISSING_SHARE or uneven < MISSING_LEAST)
    text = f"{pairs} pairs; {in_arm} without {arm}, {in_control} without {control} (p {p:.2g}, exact binomial)"
    return Check(
        name="missing pairs",
        is_good=good,
        weight="blocks",
        text=text + (f"; {waiting} newest not there yet" if waiting else ""),
        remedy=""
        if good
        else f"what {arm if in_arm > in_control else control} loses may be just what looks bad: see the missing pairs, "
        "mend the loss, and start anew",
        p=p,
    )


def versions_check(seen: Mapping[str, Mapping[str, int]]) -> Check:
    """`seen`: part (scorer, sampling, decoder) -> its versions with how many events each."""
    changed = {part: versions for part, versions in seen.items() if len(versions) > 1}
    if not changed:
        parts = "; ".join(f"{part}: {next(iter(versions))}" for part, versions in seen.items() if versions)
        return Check(name="versions", is_good=True, weight="look", text=parts or "nothing was scored")
    text = "; ".join(
        f"{part} changed inside: " + ", ".join(f"{name} ({count} segments)" for name, count in versions.items())
        for part, versions in changed.items()
    )
    return Check(
        name="versions",
        is_good=False,
        weight="look",
        text=text,
        remedy="set since or until to one side of the change, or score the rest again with one version",
    )


def aa_check(differences: Floats, *, alpha: float, rng: np.random.Generator) -> Check | None:
    """Signs of the cluster differences drawn by lot: t must reject as often as it says, on these very data.

    None below 8 clusters, where too few sign patterns exist.
    """
    n = len(differences)
    if n < 8 or not differences.any():
        return None
    draws = max(100, min(AA_DRAWS, 5_000_000 // n))
    signed = rng.choice((-1.0, 1.0), (draws, n)) * differences
    spread = signed.std(1, ddof=1) / math.sqrt(n)
    reach = np.abs(signed.mean(1)) / np.where(spread > 0, spread, np.inf)
    rejected = int((reach > t_quantile(1 - alpha / 2, n - 1)).sum())
    most = _binomial_edge(draws, alpha)
    good = rejected <= most
    return Check(
        name="a/a",
        is_good=good,
        weight="notes",
        text=f"with signs drawn by lot {rejected} of {draws} were called different ({alpha:.0%} are, {most} at most)",
        remedy="" if good else "few clusters decide everything: read the sign-flip and Wilcoxon tests instead",
    )


def _binomial_edge(n: int, p: float) -> int:
    """The upper end of the 99 % band of a count."""
    low, high = 0, n
    while low < high:
        middle = (low + high) // 2
        if binomial_cdf(middle, n, p) >= 0.995:
            high = middle
        else:
            low = middle + 1
    return low


def doubled_check(doubled: int, *, of: int) -> Check:
    """Two different segments of one arm at one moment: `same` does not tell them apart."""
    good = doubled <= 0.01 * max(1, of)
    return Check(
        name="doubled segments",
        is_good=good,
        weight="blocks",
        text=f"{doubled} segments stand where their arm had one already; the first counts",
        remedy="" if good else 'add "rendition", "height" or a label to `same`, or narrow the arms\' patterns',
    )


def mixed_check(blocks: int, of: int) -> Check:
    """Blocks of a switchback in which the arm changed."""
    good = blocks <= 0.05 * max(1, of)
    return Check(
        name="mixed blocks",
        is_good=good,
        weight="notes",
        text=f"{blocks} of {of} blocks had more than one arm and are left out",
        remedy="" if good else "change the arm at whole multiples of block_seconds since 1970 (UTC)",
    )


def crossed_check(sessions: int, of: int) -> Check:
    """Sessions that saw more than one arm."""
    good = sessions <= 0.01 * max(1, of)
    return Check(
        name="crossed sessions",
        is_good=good,
        weight="blocks",
        text=f"{sessions} of {of} sessions were seen in more than one arm",
        remedy="" if good else "assign by a hash of the session, and take the session as the cluster",
    )
