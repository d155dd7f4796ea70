"""Whether the data of an experiment can be trusted: sample ratio, missing pairs, versions, A/A of the same data."""

import math
from collections.abc import Mapping

import numpy as np

from vqmon.core.experiments.results import HealthCheck
from vqmon.core.experiments.stats.distributions import binomial_cdf, chi_square_upper_tail, sign_test_p, t_quantile
from vqmon.core.experiments.stats.nonparametric import Floats

SRM_ALPHA = 0.001

MISSING_ALPHA = 0.001
MISSING_SHARE = 0.01
MISSING_LEAST = 3
"""One or two missing pairs of a small experiment are no imbalance."""

AA_DRAWS = 1000


def check_sample_ratio(counts: Mapping[str, int], shares: Mapping[str, float], *, most: float) -> HealthCheck:
    """Sessions per arm as planned? `most` is the largest ln of the e-value seen so far."""
    n, total = sum(counts.values()), sum(shares.values())
    expected = {arm: n * share / total for arm, share in shares.items()}
    chi = sum((counts[arm] - expected[arm]) ** 2 / expected[arm] for arm in counts) if n else 0.0
    fixed = chi_square_upper_tail(chi, len(counts) - 1)
    p = min(1.0, math.exp(-max(0.0, most)))
    split = ", ".join(f"{arm} {counts[arm]} of {expected[arm]:.0f} planned" for arm in counts)
    return HealthCheck(
        name="sample ratio",
        is_good=p >= SRM_ALPHA,
        weight="blocks",
        text=f"{split}; p {p:.2g} at any look, {fixed:.2g} by chi-square at this one",
        remedy=""
        if p >= SRM_ALPHA
        else "find out why sessions of one arm are lost or counted twice, mend it, and start the experiment anew",
        p=p,
    )


def check_missing_pairs(
    arm: str, control: str, *, pairs: int, in_arm: int, in_control: int, waiting: int
) -> HealthCheck:
    """Are segments missing on one side more than on the other?"""
    p = sign_test_p(in_arm, in_control)
    uneven = abs(in_arm - in_control)
    share = uneven / max(1, pairs + in_arm + in_control)
    good = p >= MISSING_ALPHA and (share <= MISSING_SHARE or uneven < MISSING_LEAST)
    text = f"{pairs} pairs; {in_arm} without {arm}, {in_control} without {control} (p {p:.2g}, exact binomial)"
    return HealthCheck(
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


def check_versions(seen: Mapping[str, Mapping[str, int]]) -> HealthCheck:
    """`seen`: part (scorer, sampling, decoder) -> its versions with how many events each."""
    changed = {part: versions for part, versions in seen.items() if len(versions) > 1}
    if not changed:
        parts = "; ".join(f"{part}: {next(iter(versions))}" for part, versions in seen.items() if versions)
        return HealthCheck(name="versions", is_good=True, weight="look", text=parts or "nothing was scored")
    text = "; ".join(
        f"{part} changed inside: " + ", ".join(f"{name} ({count} segments)" for name, count in versions.items())
        for part, versions in changed.items()
    )
    return HealthCheck(
        name="versions",
        is_good=False,
        weight="look",
        text=text,
        remedy="set since or until to one side of the change, or score the rest again with one version",
    )


def run_aa_test(differences: Floats, *, alpha: float, rng: np.random.Generator) -> HealthCheck | None:
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
    return HealthCheck(
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


def check_duplicate_segments(doubled: int, *, of: int) -> HealthCheck:
    """Two different segments of one arm at one moment: `same` does not tell them apart."""
    good = doubled <= 0.01 * max(1, of)
    return HealthCheck(
        name="doubled segments",
        is_good=good,
        weight="blocks",
        text=f"{doubled} segments stand where their arm had one already; the first counts",
        remedy="" if good else 'add "rendition", "height" or a label to `same`, or narrow the arms\' patterns',
    )


def check_mixed_blocks(blocks: int, of: int) -> HealthCheck:
    """Blocks of a switchback in which the arm changed."""
    good = blocks <= 0.05 * max(1, of)
    return HealthCheck(
        name="mixed blocks",
        is_good=good,
        weight="notes",
        text=f"{blocks} of {of} blocks had more than one arm and are left out",
        remedy="" if good else "change the arm at whole multiples of block_seconds since 1970 (UTC)",
    )


def check_crossover_sessions(sessions: int, of: int) -> HealthCheck:
    """Sessions that saw more than one arm."""
    good = sessions <= 0.01 * max(1, of)
    return HealthCheck(
        name="crossed sessions",
        is_good=good,
        weight="blocks",
        text=f"{sessions} of {of} sessions were seen in more than one arm",
        remedy="" if good else "assign by a hash of the session, and take the session as the cluster",
    )
