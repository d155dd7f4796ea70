"""Experiments as users have them: wrong winners, held guardrails, silent arms and power, beside usual practice.

    python -m bench experiment-shapes             # all of it: 2,000 runs for each case
    python -m bench experiment-shapes --runs 300  # a quick look

Formulas are written here for arrays (runs, clusters), so that thousands of runs take seconds; `print_agreement`
compares them with the functions of vqmon. Differences are in points of 0..100. Truth is no difference unless stated.
"""

import argparse
import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

import numpy as np
from numpy.typing import NDArray

from bench.experiments import units
from tests import factories
from vqmon.core.experiments.analysis.intervals import conservative_interval
from vqmon.core.experiments.analysis.trajectory import EffectTrajectory
from vqmon.core.experiments.definition import MIN_SEQUENTIAL_CLUSTERS
from vqmon.core.experiments.stats.bounded_loss import GUARDRAIL_LARGEST_LOSS, STAKE_WEIGHTS, STAKES, log_capital
from vqmon.core.experiments.stats.dependence import effective_sample_size
from vqmon.core.experiments.stats.distributions import t_quantile, wilson_interval
from vqmon.core.experiments.stats.estimators import paired_difference
from vqmon.core.experiments.stats.power import PowerAssumptions, plan_sample_size
from vqmon.core.experiments.stats.sequential import (
    MIN_DEPENDENT_CLUSTERS,
    anytime_valid_interval,
    mixture_rho,
    skewness_corrected_interval,
)

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

ALPHA, PLANNED, MOST = 0.05, 40, 100
CLUSTER_SD = 5 * math.sqrt(0.3 + 0.7 / 30)
"""Of a cluster's mean: s.d. 5 points for a segment, ICC .3, 30 segments."""

LARGEST_LOSS = 10.0
DAILY = 5
"""Clusters between two looks of usual practice."""

_EXPERIMENT = factories.experiment()

MSPRT_TAU = 1.25
"""Points: the deviation of the effects that the mixture of an mSPRT expects."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """Moments of the first 1, 2, ... n clusters of every run, each (runs, clusters)."""

    n: Floats
    mean: Floats
    sd: Floats
    skewness: Floats

    @classmethod
    def of(cls, values: Floats) -> "Running":
        n = np.arange(1.0, values.shape[1] + 1)
        mean, square, cube = (np.cumsum(values**power, 1) / n for power in (1, 2, 3))
        variance = np.maximum(0, square - mean**2)
        third = cube - 3 * mean * square + 2 * mean**3
        sd = np.sqrt(variance * n / np.maximum(1, n - 1))
        skewness = np.where(sd > 1e-9, third / np.maximum(sd, 1e-9) ** 3, 0)
        return cls(n=n, mean=mean, sd=sd, skewness=skewness)


def standard_errors(n: Floats, *, alpha: float = ALPHA, planned: int = PLANNED) -> Floats:
    """Half the width of the two-sided confidence sequence, in standard errors."""
    rho2 = mixture_rho(alpha=alpha, planned_clusters=planned) ** 2
    spread = n * rho2 + 1
    width: Floats = np.sqrt(2 * spread / (n * rho2) * np.log(np.sqrt(spread) / alpha))
    return width


def skewness_corrected(error: Floats, scaled_skewness: Floats, z: Floats) -> tuple[Floats, Floats]:
    """The distances of the lower and the upper bound from the mean after Hall's transformation."""
    safe = np.where(np.abs(scaled_skewness) < 1e-9, 1e-9, scaled_skewness)
    below, above = (3 / safe * (np.cbrt(1 + safe * (side * z - safe / 6)) - 1) for side in (1, -1))
    return error * np.maximum(0, below), error * np.minimum(0, above)


def capital(values: Floats, mean: float = 0.0, *, largest_loss: float = LARGEST_LOSS) -> Floats:
    """(runs, clusters) ln of the capital of the bounded-loss bet after each cluster."""
    gains = np.maximum(values - mean, -largest_loss) / largest_loss
    logs = np.stack([np.cumsum(np.log1p(stake * gains), 1) for stake in STAKES])
    highest = logs.max(0)
    result: Floats = highest + np.log((STAKE_WEIGHTS[:, None, None] * np.exp(logs - highest)).sum(0))
    return result


def winners(values: Floats, *, planned: int = PLANNED) -> Mapping[str, Flags]:
    """(runs, clusters) whether each rule says better or worse at this look alone, from 20 clusters on."""
    run = Running.of(values)
    error = run.sd / np.sqrt(run.n)
    enough = run.n >= MIN_SEQUENTIAL_CLUSTERS
    z = standard_errors(run.n, planned=planned)
    below, above = skewness_corrected(error, run.skewness / np.sqrt(run.n), z)
    below, above = np.maximum(below, z * error), np.minimum(above, -z * error)
    needed = -math.log(ALPHA)
    better, worse = run.mean > below, run.mean < above
    t = np.array([_t_quantile(max(1.0, n - 1)) for n in run.n])
    return {
        "mSPRT": _msprt(run),
        "t, daily": (np.abs(run.mean) > t * error) & enough & (run.n % DAILY == 0),
        "sequence": (np.abs(run.mean) > z * error) & enough,
        "with skewness": (better | worse) & enough,
        "vqmon": ((better & (capital(values) >= needed)) | (worse & (capital(-values) >= needed))) & enough,
    }


@functools.cache
def _t_quantile(degrees_of_freedom: float) -> float:
    return t_quantile(1 - ALPHA / 2, degrees_of_freedom)


def _msprt(run: Running) -> Flags:
    """(runs, clusters) the mixture sequential probability ratio test of Johari et al., from the second cluster on.

    "Always valid inference", Operations Research 2022: a normal mixture, the variance of the sample taken for the true
    one, one test of all clusters so far, whatever their distribution.
    """
    variance = np.maximum(run.sd**2, 1e-12)
    total = variance + run.n * MSPRT_TAU**2
    log_ratio = 0.5 * np.log(variance / total) + (run.n * MSPRT_TAU * run.mean) ** 2 / (2 * variance * total)
    is_rejected: Flags = (log_ratio >= -math.log(ALPHA)) & (run.n >= 2)
    return is_rejected


def contents(runs: int, rng: np.random.Generator) -> Mapping[str, Floats]:
    """Null differences of clusters, by shape."""
    shape = (runs, MOST)
    return {
        "normal": rng.normal(0, CLUSTER_SD, shape),
        "heavy tails (t3)": CLUSTER_SD / math.sqrt(3) * rng.standard_t(3, shape),
        "exponential": CLUSTER_SD * (rng.exponential(1, shape) - 1),
        "lognormal": CLUSTER_SD * (rng.lognormal(0, 1, shape) - math.exp(0.5)) / 2.161,
        "5 % lose 5, others gain .26": rare(shape, 0.05, 5.0, rng),
        "2 % lose 10, others gain .20": rare(shape, 0.02, 10.0, rng),
        "2 % lose 20, others gain .41": rare(shape, 0.02, 20.0, rng),
    }


def rare(shape: tuple[int, int], share: float, loss: float, rng: np.random.Generator) -> Floats:
    """A share of the clusters loses `loss`, the others gain so that the mean is 0; noise of s.d. .1."""
    gain = share * loss / (1 - share)
    return np.where(rng.random(shape) < share, -loss, gain) + rng.normal(0, 0.1, shape)


def print_contents(runs: int, rng: np.random.Generator) -> None:
    """Wrong winners over clusters that are independent."""
    print(
        f"\nWrong winners at any look from {MIN_SEQUENTIAL_CLUSTERS} to {MOST} clusters, {PLANNED} planned, {runs} runs"
    )
    for name, values in contents(runs, rng).items():
        _row(name, {rule: flags.any(1) for rule, flags in winners(values).items()})


def autoregressive(runs: int, n: int, correlation: float, rng: np.random.Generator) -> Floats:
    """(runs, n) AR(1) with variance 1."""
    values = np.empty((runs, n))
    values[:, 0] = rng.normal(0, 1, runs)
    noise = rng.normal(0, math.sqrt(1 - correlation**2), (runs, n))
    for at in range(1, n):
        values[:, at] = correlation * values[:, at - 1] + noise[:, at]
    return values


def programmes(runs: int, n: int, noise: float, rng: np.random.Generator) -> Floats:
    """(runs, n) ten-minute blocks of programmes of 30 to 90 minutes, each with a difference of its own."""
    lengths = rng.integers(30, 91, (runs, n // 2))
    ends = np.cumsum(lengths, 1) - rng.integers(0, 30, (runs, 1))
    levels = rng.normal(0, 1, (runs, n // 2 + 1))
    minutes = np.arange(n * 10)
    values = np.empty((runs, n))
    for row in range(runs):
        index = np.searchsorted(ends[row], minutes, side="right")
        values[row] = levels[row][np.minimum(index, levels.shape[1] - 1)].reshape(n, 10).mean(1)
    return values + rng.normal(0, noise, (runs, n))


def print_blocks(runs: int, rng: np.random.Generator) -> None:
    """Wrong winners over blocks of one stream, and how many blocks until a verdict is possible."""
    most = 300
    print(f"\nBlocks of one live stream: wrong winners from 20 to {most}; when half may have a verdict")
    looks = [*range(20, 100, 5), *range(100, most + 1, 20)]
    for name, unscaled in {
        "independent": rng.normal(0, 1, (runs, most)),
        **{f"AR({r:g})": autoregressive(runs, most, r, rng) for r in (0.3, 0.5, 0.7)},
        "programmes, little noise": programmes(runs, most, 0.05, rng),
        "programmes, noise .3": programmes(runs, most, 0.3, rng),
        "programmes, noise 1": programmes(runs, most, 1.0, rng),
    }.items():
        values = CLUSTER_SD * unscaled
        before = winners(values)["with skewness"][:, np.array(looks) - 1].any(1)
        now, ready = np.zeros(runs, bool), np.full(runs, np.inf)
        for run in range(runs):
            for look in looks:
                if now[run] and np.isfinite(ready[run]):
                    break
                is_enough, is_winner = _block_verdict(values[run, :look])
                now[run] |= is_winner
                ready[run] = min(ready[run], look) if is_enough else ready[run]
        _row(name, {"before": before, "vqmon": now}, f"half may have one after {np.median(ready):.0f}")


def _block_verdict(values: Floats) -> tuple[bool, bool]:
    """Whether there is an interval, and whether it excludes 0."""
    effective = effective_sample_size([values])
    if effective < MIN_SEQUENTIAL_CLUSTERS or len(values) < MIN_DEPENDENT_CLUSTERS:
        return False, False
    estimate = paired_difference(values)
    assert estimate is not None
    estimate = replace(estimate, effective_n=effective)
    rho = mixture_rho(alpha=ALPHA, planned_clusters=PLANNED)
    interval = conservative_interval(
        _EXPERIMENT, estimate, anytime_valid_interval(estimate, rho=rho, alpha=ALPHA), within=(0.0, 0.0)
    )
    return True, interval.low > 0 or interval.high < 0


def print_streams_at_once(runs: int, rng: np.random.Generator) -> None:
    """Wrong winners when all streams run together and their means become ever more precise."""
    print("\nStreams that run at once, 150 looks from 1 to 20,000 segments of each")
    looks = np.unique(np.round(np.geomspace(1, 20_000, 150)).astype(int))
    for streams in (20, 30):
        for icc in (0.0, 0.02, 0.3):
            common = rng.normal(0, 5 * math.sqrt(icc), (runs, streams))
            sums, before_segments = np.zeros((runs, streams)), 0
            before, now, first = np.zeros(runs, bool), np.zeros(runs, bool), np.zeros(runs)
            for segments in looks:
                more = segments - before_segments
                sums += rng.normal(0, 5 * math.sqrt((1 - icc) * more), (runs, streams))
                before_segments = segments
                means = common + sums / segments
                mean, sd = means.mean(1), means.std(1, ddof=1)
                first = np.where(first == 0, sd, first)
                error, n = sd / math.sqrt(streams), np.full(runs, float(streams))
                before |= np.abs(mean) > standard_errors(n) * error
                informed = n * np.maximum(1, first**2 / sd**2)
                side = np.where(mean > 0, 1, -1)[:, None] * means
                is_won = capital(side)[:, -1] >= -math.log(ALPHA)
                now |= (np.abs(mean) > standard_errors(informed) * error) & is_won
            _row(f"{streams} streams, ICC {icc:g}", {"before": before, "vqmon": now})


def print_guardrails(runs: int, rng: np.random.Generator) -> None:
    """How often a guardrail whose metric is exactly at its margin is said to hold, at any look."""
    print("\nGuardrails at their margin (1): held wrongly at any look, 20 to 100 clusters")
    shape = (runs, MOST)
    for name, values in {
        "normal": rng.normal(1, 1, shape),
        "exponential": rng.exponential(1, shape),
        "gamma, shape .5": rng.gamma(0.5, 2, shape),
        "lognormal": rng.lognormal(-0.5, 1, shape),
        "10 % worse by 10": np.where(rng.random(shape) < 0.1, 10.0, 0.0) + rng.normal(0, 0.05, shape),
    }.items():
        run = Running.of(values)
        error, enough = run.sd / np.sqrt(run.n), run.n >= MIN_SEQUENTIAL_CLUSTERS
        rho2 = mixture_rho(alpha=2 * ALPHA, planned_clusters=PLANNED) ** 2
        spread = run.n * rho2 + 1
        z = np.sqrt(2 * spread / (run.n * rho2) * np.log(1 + np.sqrt(spread) / (2 * ALPHA)))
        _, above = skewness_corrected(error, run.skewness / np.sqrt(run.n), z)
        plain = run.mean + z * error
        safe = np.maximum(plain, run.mean - above)
        seen = np.maximum.accumulate(values, 1) - run.mean
        won = np.zeros(shape, bool)
        for column in range(MIN_SEQUENTIAL_CLUSTERS - 1, MOST):
            loss = np.maximum(GUARDRAIL_LARGEST_LOSS, seen[:, column])[:, None]
            gains = np.maximum(1 - values[:, : column + 1], -loss) / loss
            logs = np.log1p(STAKES[:, None, None] * gains).sum(2)
            won[:, column] = np.log((STAKE_WEIGHTS[:, None] * np.exp(logs)).sum(0)) >= -math.log(ALPHA)
        _row(name, {"before": ((plain < 1) & enough).any(1), "vqmon": ((safe < 1) & won & enough).any(1)})


def print_flips(runs: int, rng: np.random.Generator) -> None:
    """Runs of a true gain in which a verdict "better" is later withdrawn."""
    print("\nA gain of .4 s.d. (s.d. 5): better, and later undecided again, within 100 clusters")
    values = rng.normal(2.0, 5.0, (runs, MOST))
    before = winners(values)["with skewness"]
    now = np.array([_better_at_looks(run) for run in values])
    rules = {"before": before, "vqmon": now}
    withdrawn = {name: (np.logical_or.accumulate(flags, 1) & ~flags).any(1) for name, flags in rules.items()}
    _row(f"gain 2, s.d. 5, {runs} runs", withdrawn)


def _better_at_looks(values: Floats) -> Flags:
    """(clusters,) whether the verdict at each look is "better", with what all intervals so far have in common."""
    trajectory = EffectTrajectory(experiment=_EXPERIMENT)
    hypothesis, flags = ("v2", "lite"), np.zeros(len(values), bool)
    for n in range(MIN_SEQUENTIAL_CLUSTERS, len(values) + 1):
        estimate = paired_difference(values[:n])
        assert estimate is not None
        trajectory.advance_to(factories.START + timedelta(minutes=n), lambda: {hypothesis: estimate})  # noqa: B023
        interval = anytime_valid_interval(estimate, rho=trajectory.rho, alpha=ALPHA)
        flags[n - 1] = trajectory.common_intervals(hypothesis, interval)[1].low > 0
    return flags


def print_power(runs: int, rng: np.random.Generator) -> None:
    """The power that plans reach: from known deviations, and from pilots of few clusters."""
    print("\nPower of plans for 80 %: share of runs that say better within the planned clusters")
    for difference, sd in ((1.25, CLUSTER_SD), (2.5, CLUSTER_SD), (1.0, 1.5), (0.5, 1.0), (0.5, 0.5)):
        plan = plan_sample_size(PowerAssumptions(difference=difference, sd=sd, icc=1.0, segments_per_cluster=1))
        n = plan.clusters_anytime
        hits = winners(rng.normal(difference, sd, (runs, n)), planned=n)["vqmon"]
        _row(f"{difference:g} points, s.d. {sd:.2g}: {n} clusters", {"vqmon": hits.any(1)})
    for clusters in (5, 10, 20):
        powers, naive = [], []
        for _ in range(max(40, runs // 5)):
            pilot = float(rng.normal(0, 3.0, clusters).std(ddof=1))
            for pilot_clusters, into in ((clusters, powers), (0, naive)):
                assumed = PowerAssumptions(
                    difference=1.5, sd=pilot, icc=1.0, segments_per_cluster=1, pilot_clusters=pilot_clusters
                )
                n = plan_sample_size(assumed).clusters_anytime
                hits = winners(rng.normal(1.5, 3.0, (100, n)), planned=n)["vqmon"]
                into.append(float(hits.any(1).mean()))
        text = f"pilots of {clusters} clusters: power on average {np.mean(powers):.0%}"
        print(f"{text}, as measured {np.mean(naive):.0%}")


def print_agreement(rng: np.random.Generator) -> None:
    """The largest relative difference between the array formulas here and the functions of vqmon."""
    worst = 0.0
    rho = mixture_rho(alpha=ALPHA, planned_clusters=PLANNED)
    for _ in range(200):
        values = rng.lognormal(0, 1, int(rng.integers(20, 100))) - 1
        estimate = paired_difference(values)
        assert estimate is not None
        run = Running.of(values[None, :])
        n, error = len(values), estimate.standard_error
        interval = anytime_valid_interval(estimate, rho=rho, alpha=ALPHA)
        corrected = skewness_corrected_interval(estimate, interval)
        z = standard_errors(np.array([float(n)]))
        # The skewness of a sample of n is measured with n - 1 in vqmon, as here.
        below, above = skewness_corrected(np.array([error]), run.skewness[:, -1] / math.sqrt(n), z)
        bets = log_capital(values, 0.0, largest_loss=LARGEST_LOSS), float(capital(values[None, :])[0, -1])
        for mine, theirs in (
            (estimate.mean - float(z[0]) * error, interval.low),
            (estimate.mean - float(below[0]), corrected.low),
            (estimate.mean - float(above[0]), corrected.high),
            bets,
        ):
            worst = max(worst, abs(mine - theirs) / max(1e-3, abs(theirs)))
    print(f"\nArray formulas against vqmon's functions: largest relative difference {worst:.1e}")


def _row(name: str, wrong: Mapping[str, Flags], remark: str = "") -> None:
    cells = []
    for rule, flags in wrong.items():
        low, high = wilson_interval(int(flags.sum()), len(flags), alpha=0.05)
        interval = f" ({low:.1%} to {high:.1%})" if rule == "vqmon" else ""
        cells.append(f"{rule} {flags.mean():.1%}{interval}")
    print(f"{name:38}{', '.join(cells)}{'; ' + remark if remark else ''}", flush=True)


PARTS: Sequence[tuple[str, Callable[[int, np.random.Generator], None]]] = (
    ("contents", print_contents),
    ("blocks", print_blocks),
    ("streams", print_streams_at_once),
    ("sessions", units.print_sessions),
    ("ratio", units.print_ratio),
    ("guardrails", print_guardrails),
    ("flips", print_flips),
    ("power", print_power),
    ("sentinels", lambda runs, rng: units.print_sentinels(max(10, runs // 10), rng)),
)


def main() -> None:
    """Print all tables, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=20261129)
    parser.add_argument("--only", nargs="*", choices=[name for name, _ in PARTS])
    chosen = parser.parse_args()
    rng, began = np.random.default_rng(chosen.seed), time.perf_counter()
    print_agreement(rng)
    for name, part in PARTS:
        if not chosen.only or name in chosen.only:
            part(chosen.runs, rng)
    print(f"\n{time.perf_counter() - began:.0f} s, seed {chosen.seed}")


if __name__ == "__main__":
    main()
