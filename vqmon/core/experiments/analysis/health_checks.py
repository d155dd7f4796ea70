"""Health checks: whether the data of an experiment can be trusted (sample ratio, missing pairs, versions, A/A test)."""

import math
from collections.abc import Mapping

import numpy as np

from vqmon.core.experiments.data.pairing import Hindrance
from vqmon.core.experiments.results import HealthCheck
from vqmon.core.experiments.stats.distributions import binomial_cdf, sign_test_p, t_quantile
from vqmon.core.experiments.stats.nonparametric import Floats
from vqmon.plurals import plural

_MISSING_ALPHA = 0.001
_LARGE_MISSING_SHARE = 0.01
_LARGE_MISSING_ALPHA = 0.01
"""An imbalance of more than `_LARGE_MISSING_SHARE` of all pairs needs less evidence, as it can move the answer."""

_DUPLICATE_SHARE = 0.01
_MIXED_BLOCK_SHARE = 0.05
_CROSSOVER_SHARE = 0.01

_AA_DRAWS = 1000
_MIN_AA_DRAWS = 100
_MIN_AA_CLUSTERS = 8
_MAX_AA_VALUES = 5_000_000
_AA_BAND_UPPER_TAIL = 0.005
"""Of the 99 % band of the number of rejections."""


def check_missing_pairs(
    arm: str,
    control: str,
    *,
    pairs: int,
    missing_in_arm: int,
    missing_in_control: int,
    pending: int,
    silent: Mapping[str, int],
) -> HealthCheck:
    """Whether one arm lacks scores more often than the other beyond chance; equal losses at random are balanced.

    Unbalanced is p < .001, or p < .01 when the difference is more than 1 % of all pairs.
    `silent` are arms that have ended while the other goes on, with the segments that wait for them; these are missing.
    More segments that wait (`pending`) than pairs fail too: of an arm that is scored later, or not at all, little is
    compared.
    """
    p = sign_test_p(missing_in_arm, missing_in_control)
    imbalance = abs(missing_in_arm - missing_in_control)
    share = imbalance / max(1, pairs + missing_in_arm + missing_in_control)
    is_balanced = p >= (_LARGE_MISSING_ALPHA if share > _LARGE_MISSING_SHARE else _MISSING_ALPHA)
    is_behind = pending > pairs > 0
    is_good = is_balanced and not silent and not is_behind
    text = (
        f"{plural(pairs, 'pair')}; {missing_in_arm} without {arm}, {missing_in_control} without {control} "
        f"(p {p:.2g}, exact binomial test)"
    )
    worse_arm = arm if missing_in_arm > missing_in_control else control
    return HealthCheck(
        name="missing pairs",
        is_good=is_good,
        weight="blocks",
        text=text
        + "".join(
            f"; {name} is silent: the other arm went on for {plural(count, 'segment')}"
            for name, count in silent.items()
        )
        + (f"; {pending} newest segments still wait for their partner" if pending else "")
        + (", more than are compared" if is_behind else ""),
        remedy=""
        if is_good
        else "wait until both arms are scored; if one of them has ended, set `until`"
        if is_behind and is_balanced and not silent
        else f"find out why {', '.join(silent)} ended; the comparison goes on when its segments come, or set `until`"
        if silent
        else f"{worse_arm} may lose just the segments that look bad: see the missing pairs, repair the loss, and "
        "restart the experiment",
        p=p,
    )


def check_pairing(hindrance: Hindrance | None) -> HealthCheck | None:
    """What keeps most segments from pairing; None when nothing does."""
    if hindrance is None:
        return None
    return HealthCheck(name="pairing", is_good=False, weight="blocks", text=hindrance.text, remedy=hindrance.remedy)


def check_versions(versions: Mapping[str, Mapping[str, int]]) -> HealthCheck:
    """Whether every component (scorer, sampling, decoder) kept its version; `versions` counts events by version."""
    changed = {component: counts for component, counts in versions.items() if len(counts) > 1}
    if not changed:
        text = "; ".join(f"{component}: {next(iter(counts))}" for component, counts in versions.items() if counts)
        return HealthCheck(name="versions", is_good=True, weight="look", text=text or "no segment was scored")
    text = "; ".join(
        f"{component} changed during the experiment: "
        + ", ".join(f"{version} ({plural(count, 'segment')})" for version, count in counts.items())
        for component, counts in changed.items()
    )
    return HealthCheck(
        name="versions",
        is_good=False,
        weight="look",
        text=text,
        remedy="set since or until to one side of the change, or score all segments with one version",
    )


def run_aa_test(differences: Floats, *, alpha: float, rng: np.random.Generator) -> HealthCheck | None:
    """An A/A test by randomized signs of the cluster differences: t must reject about as often as alpha states.

    None below 8 clusters, which have too few sign patterns.
    """
    n = len(differences)
    if n < _MIN_AA_CLUSTERS or not differences.any():
        return None
    draws = max(_MIN_AA_DRAWS, min(_AA_DRAWS, _MAX_AA_VALUES // n))
    signed = rng.choice((-1.0, 1.0), (draws, n)) * differences
    standard_errors = signed.std(1, ddof=1) / math.sqrt(n)
    t = np.abs(signed.mean(1)) / np.where(standard_errors > 0, standard_errors, np.inf)
    rejected = int((t > t_quantile(1 - alpha / 2, n - 1)).sum())
    most = _binomial_quantile(1 - _AA_BAND_UPPER_TAIL, draws, alpha)
    is_good = rejected <= most
    return HealthCheck(
        name="a/a",
        is_good=is_good,
        weight="notes",
        text=f"with random signs, {rejected} of {draws} draws are significant ({alpha:.0%} expected, {most} at most)",
        remedy="" if is_good else "a few clusters decide everything: see the sign-flip and Wilcoxon tests instead",
    )


def check_duplicate_segments(duplicates: int, *, pairs: int) -> HealthCheck:
    """Whether an arm has several segments at one moment, which `same` does not tell apart: at most 1 % of the pairs."""
    is_good = duplicates <= _DUPLICATE_SHARE * max(1, pairs)
    return HealthCheck(
        name="doubled segments",
        is_good=is_good,
        weight="blocks",
        text=f"{duplicates} segments start at a moment for which their arm already has a segment; the first counts",
        remedy="" if is_good else 'add "rendition", "height" or a label to `same`, or narrow the patterns of the arms',
    )


def check_mixed_blocks(mixed: int, *, blocks: int) -> HealthCheck:
    """Whether the arm of a switchback changes only between blocks: at most 5 % of the blocks have several arms."""
    is_good = mixed <= _MIXED_BLOCK_SHARE * max(1, blocks)
    return HealthCheck(
        name="mixed blocks",
        is_good=is_good,
        weight="notes",
        text=f"{mixed} of {blocks} blocks have more than one arm and are left out",
        remedy="" if is_good else "change the arm at whole multiples of block_seconds since 1970 (UTC)",
    )


def check_crossover_sessions(crossovers: int, *, sessions: int) -> HealthCheck:
    """Whether each session sees one arm only: at most 1 % see several."""
    is_good = crossovers <= _CROSSOVER_SHARE * max(1, sessions)
    return HealthCheck(
        name="crossed sessions",
        is_good=is_good,
        weight="blocks",
        text=f"{crossovers} of {sessions} sessions saw more than one arm",
        remedy="" if is_good else "assign arms by a hash of the session, and use the session as the cluster",
    )


def _binomial_quantile(p: float, n: int, success_probability: float) -> int:
    """The smallest k with P(X <= k) >= p of a binomial distribution."""
    low, high = 0, n
    while low < high:
        middle = (low + high) // 2
        if binomial_cdf(middle, n, success_probability) >= p:
            high = middle
        else:
            low = middle + 1
    return low
