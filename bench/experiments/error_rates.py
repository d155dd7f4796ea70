"""False winners, coverage, power and sample-ratio alarms of our statistics, seeded, with usual practice beside.

    python -m bench experiments            # all of it, about five minutes on one core
    python -m bench experiments --runs 400 # a quick look

Differences are in points of 0..100; a published target of .05 MOS (1..5) is 1.25 points, a s.d. of .2 MOS is 5.
"""

import argparse
import math
import time
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal, getcontext

import numpy as np
from numpy.typing import NDArray

from tests import factories
from vqmon.core.experiments.definition import MIN_SEQUENTIAL_CLUSTERS
from vqmon.core.experiments.stats.distributions import t_two_sided_p, wilson_interval
from vqmon.core.experiments.stats.estimators import paired_difference, ratio_difference, regression_adjusted_difference
from vqmon.core.experiments.stats.power import PowerAssumptions, plan_sample_size
from vqmon.core.experiments.stats.sample_ratio_mismatch import SRM_ALPHA, srm_log_e_value
from vqmon.core.experiments.stats.sequential import (
    anytime_valid_interval,
    confidence_sequence_half_width,
    mixture_rho,
    skewness_corrected_interval,
    t_interval,
)

Floats = NDArray[np.float64]

ALPHA, PLANNED, MOST, EACH, SD = 0.05, 40, 100, 30, 5.0
PER_DAY = 5
"""Clusters that come between two looks of usual practice."""

Draw = Callable[[np.random.Generator], Floats]
"""One null run: (clusters, segments) differences, nan where a cluster has fewer segments."""


def gaussian(icc: float) -> Draw:
    """Normal clusters and segments."""

    def draw(rng: np.random.Generator) -> Floats:
        means = rng.normal(0, SD * math.sqrt(icc), (MOST, 1))
        return means + rng.normal(0, SD * math.sqrt(1 - icc), (MOST, EACH))

    return draw


def heavy(rng: np.random.Generator) -> Floats:
    """Student's t with 3 degrees of freedom in clusters and in segments: some titles are very odd."""
    scale = SD / math.sqrt(3)
    return scale * (math.sqrt(0.3) * rng.standard_t(3, (MOST, 1)) + math.sqrt(0.7) * rng.standard_t(3, (MOST, EACH)))


def skewed(rng: np.random.Generator) -> Floats:
    """A few titles gain much, most lose a little: exponential clusters with mean 0."""
    return SD * (math.sqrt(0.3) * (rng.exponential(1, (MOST, 1)) - 1) + math.sqrt(0.7) * rng.normal(0, 1, (MOST, EACH)))


def drifting(rng: np.random.Generator) -> Floats:
    """Content that changes: scenes of random length, AR(1) inside (.9), titles of 5 to 120 segments."""
    out = np.full((MOST, 120), np.nan)
    for row in out:
        n = int(np.clip(rng.lognormal(3.4, 0.7), 5, 120))
        noise = rng.normal(0, SD * math.sqrt(0.3 * (1 - 0.81)), n)
        for at in range(1, n):
            noise[at] += 0.9 * noise[at - 1]
        scene = np.repeat(rng.normal(0, SD * math.sqrt(0.4), n), rng.integers(3, 15, n))[:n]
        row[:n] = noise + scene + rng.normal(0, SD * math.sqrt(0.3))
    return out


def print_false_winners(runs: int, rng: np.random.Generator) -> None:
    """C1: how often no difference is called one, at any look."""
    print(
        f"\nC1 false winners at alpha 5 %, {runs} null runs each; "
        f"looks from {MIN_SEQUENTIAL_CLUSTERS} to {MOST} clusters"
    )
    print(f"{'':34}{'segments, t,':>14}{'clusters, t,':>14}{'vqmon: the':>12}{'vqmon: the':>12}")
    print(f"{'data':34}{'daily peeks':>14}{'daily peeks':>14}{'sequence':>12}{'verdict':>12}   95 % of the sequence")
    kinds: Sequence[tuple[str, Draw]] = (
        *((f"normal, ICC {icc:g}", gaussian(icc)) for icc in (0.0, 0.1, 0.3, 0.5)),
        ("heavy tails (t3), ICC .3", heavy),
        ("skewed titles, ICC .3", skewed),
        ("drifting scenes, uneven titles", drifting),
    )
    together = 0
    for name, draw in kinds:
        wrong = np.zeros(4, int)
        for _ in range(runs):
            wrong += _called(draw(rng))
        low, high = wilson_interval(int(wrong[2]), runs, alpha=0.05)
        together += int(wrong[2]) if name.startswith("normal") else 0
        print(
            f"{name:34}"
            + "".join(f"{count / runs:>14.1%}" for count in wrong[:2])
            + "".join(f"{count / runs:>12.2%}" for count in wrong[2:])
            + f"   {low:.1%} to {high:.1%}"
        )
    print(f"{'normal, all ICC together':34}{'':28}{together / (4 * runs):>12.2%}   target 5.5 % at most")


def _called(run: Floats) -> NDArray[np.int64]:
    means = np.nanmean(run, 1)
    rho = mixture_rho(alpha=ALPHA, planned_clusters=PLANNED)
    by_segments = by_clusters = by_us = by_verdict = False
    for n in range(MIN_SEQUENTIAL_CLUSTERS, MOST + 1):
        sample = paired_difference(means[:n])
        assert sample is not None
        interval = anytime_valid_interval(sample, rho=rho, alpha=ALPHA)
        is_out = interval.low > 0 or interval.high < 0
        by_us = by_us or is_out
        if is_out and not by_verdict:
            safe = skewness_corrected_interval(sample, interval)
            by_verdict = safe.low > 0 or safe.high < 0
        if n % PER_DAY == 0:
            by_clusters = by_clusters or _p(means[:n]) < ALPHA
            by_segments = by_segments or _p(run[:n][np.isfinite(run[:n])]) < ALPHA
    return np.array([by_segments, by_clusters, by_us, by_verdict], dtype=np.int64)


def _p(values: Floats) -> float:
    """Usual practice: a t-test that takes all values for independent."""
    n = len(values)
    return t_two_sided_p(float(values.mean() / values.std(ddof=1) * math.sqrt(n)), n - 1)


def print_running_together(runs: int, rng: np.random.Generator) -> None:
    """C1 again, of clusters that all run at the same time and are looked at each day while their means still move."""
    days, clusters, each = 28, 30, 24
    wrong = np.zeros(2, int)
    rho = mixture_rho(alpha=ALPHA, planned_clusters=PLANNED)
    for _ in range(runs):
        parts = rng.normal(0, SD * math.sqrt(0.3), (clusters, 1)) + rng.normal(0, SD, (clusters, days)) / math.sqrt(
            each
        )
        running = np.cumsum(parts, 1) / np.arange(1, days + 1)
        intervals = [anytime_valid_interval(s, rho=rho, alpha=ALPHA) for s in map(paired_difference, running.T) if s]
        wrong += [
            any(_p(running[:, day]) < ALPHA for day in range(days)),
            any(interval.low > 0 or interval.high < 0 for interval in intervals),
        ]
    print(f"{'30 streams at once, 28 daily looks':34}{'':14}{wrong[0] / runs:>14.1%}{wrong[1] / runs:>12.2%}")


def print_sessions(runs: int, rng: np.random.Generator) -> None:
    """C1 of unpaired traffic: sessions of uneven length, good connections watch longer."""
    wrong = np.zeros(2, int)
    rho = mixture_rho(alpha=ALPHA, planned_clusters=2000)
    for _ in range(runs):
        lengths = np.clip(rng.lognormal(3, 0.8, (2, 1000)), 1, 400).astype(int).astype(float)
        sums = (rng.normal(60 + np.log(lengths), 6) + rng.normal(0, 4, lengths.shape) / np.sqrt(lengths)) * lengths
        called = [False, False]
        for n in range(100, 1001, 100):
            sample = ratio_difference((sums[0, :n], lengths[0, :n]), (sums[1, :n], lengths[1, :n]))
            assert sample is not None
            interval = anytime_valid_interval(sample, rho=rho, alpha=ALPHA)
            called[1] = called[1] or interval.low > 0 or interval.high < 0
            # By segments: the same means, but every segment independent with s.d. 7.2.
            spread = 7.2 * math.sqrt(1 / lengths[0, :n].sum() + 1 / lengths[1, :n].sum())
            called[0] = called[0] or abs(sample.mean) > 1.96 * spread
        wrong += called
    print(f"{'unpaired sessions, 10 looks':34}{wrong[0] / runs:>14.1%}{'':14}{wrong[1] / runs:>12.2%}")


def print_whole(runs: int) -> None:
    """C1 and C7 with everything: messages in, verdict out; no winner while the sequence contains 0."""
    winners = checked = broken = 0
    for seed in range(runs):
        comparison = factories.comparison(
            experiment=factories.experiment(delta_min=0.0),
            outcomes=factories.paired_events(streams=24, segments=6, seed=seed),
        ).answers[0]
        reading = comparison.effects[0].reading
        assert reading is not None
        is_winner = comparison.verdict.kind in ("better", "worse")
        winners += is_winner
        checked += 1
        broken += is_winner and reading.low <= 0 <= reading.high
    print(
        f"{'events to verdict, 24 clusters':34}{'':28}{winners / checked:>12.2%}   C7: {broken} winners with 0 inside"
    )


def print_coverage(runs: int, rng: np.random.Generator) -> None:
    """C2: how often the final interval holds the truth."""
    print(f"\nC2 coverage of 95 % intervals, {runs} runs each, ICC .3")
    print(f"{'clusters':>10}{'segments, t':>14}{'vqmon':>10}{'heavy tails':>14}{'skewed':>10}{'with correction':>17}")
    for clusters in (5, 10, 20, 30, 50):
        held = np.zeros(5, int)
        for _ in range(runs):
            run = gaussian(0.3)(rng)[:clusters]
            flat = run.ravel()
            held[0] += abs(flat.mean()) <= 1.96 * flat.std(ddof=1) / math.sqrt(len(flat))
            for index, draws in ((1, run), (2, heavy(rng)[:clusters]), (3, skewed(rng)[:clusters])):
                sample = paired_difference(draws.mean(1))
                assert sample is not None
                interval = t_interval(sample, alpha=ALPHA)
                held[index] += interval.low <= 0 <= interval.high
            safe = skewness_corrected_interval(sample, interval)
            held[4] += min(interval.low, safe.low) <= 0 <= max(interval.high, safe.high)
        shares = [count / runs for count in held]
        print(
            f"{clusters:>10}{shares[0]:>14.1%}{shares[1]:>10.1%}{shares[2]:>14.1%}{shares[3]:>10.1%}{shares[4]:>17.1%}"
        )
    print("   target for vqmon: 93 % at least")


def print_power(runs: int, rng: np.random.Generator) -> None:
    """C3: 1.25 points (.05 MOS) with 84 clusters; when it is seen."""
    print(f"\nC3 power, {runs} runs, s.d. 5 points (.2 MOS), ICC .3, 30 segments per cluster")
    rho = mixture_rho(alpha=ALPHA, planned_clusters=PLANNED)
    for gain in (1.25, 2.5):
        stops = []
        for _ in range(runs):
            means = gaussian(0.3)(rng).mean(1) + gain
            stops.append(next(_seen(means, rho), math.inf))
        by = sum(stop <= 84 for stop in stops) / runs
        text = f"median {np.median(stops):.0f}, 90 % by {np.quantile(stops, 0.9):.0f}"
        print(f"   {gain:.2f} points: seen by 84 clusters in {by:.1%}; clusters {text}")
    sized = plan_sample_size(PowerAssumptions(difference=1.25, sd=SD, icc=0.3, segments_per_cluster=30))
    print(
        f"   `vqmon plan` for 80 %: {sized.clusters_anytime} clusters at any time, {sized.clusters_final} for one look"
    )


def _seen(means: Floats, rho: float) -> Iterator[int]:
    for n in range(MIN_SEQUENTIAL_CLUSTERS, len(means) + 1):
        sample = paired_difference(means[:n])
        assert sample is not None
        interval = anytime_valid_interval(sample, rho=rho, alpha=ALPHA)
        if min(interval.low, skewness_corrected_interval(sample, interval).low) > 0:
            yield n


def print_ratio(runs: int, rng: np.random.Generator) -> None:
    """C4: sessions until an uneven split is told."""
    print(f"\nC4 sample ratio, {runs} runs of 60 000 sessions, alarm at p < {SRM_ALPHA}")
    line = -math.log(SRM_ALPHA)
    for share, most in ((0.5, 60_000), (0.45, 60_000), (0.48, 60_000)):
        alarms = []
        for _ in range(runs):
            first = np.cumsum(rng.random(most) < share)[15::16]
            points = ((16 * (k + 1), int(count)) for k, count in enumerate(first))
            alarms.append(next((n for n, k in points if srm_log_e_value([k, n - k], [1, 1]) >= line), math.inf))
        alarm_count = sum(math.isfinite(alarm) for alarm in alarms)
        median = f"median after {np.median(alarms):.0f}" if alarm_count > runs / 2 else "-"
        print(f"   {share:.0%} of sessions in one arm: {alarm_count} of {runs} alarm, {median}")


def print_formula() -> None:
    """C6: the half-width in 50 digits."""
    getcontext().prec = 50
    worst = 0.0
    for n in range(20, 2000, 7):
        alpha = Decimal("0.05")
        rho2 = (-2 * alpha.ln() + (1 - 2 * alpha.ln()).ln()) / PLANNED
        spread = n * rho2 + 1
        exact = float((2 * spread / (n * n * rho2) * (spread.sqrt() / alpha).ln()).sqrt())
        mine = confidence_sequence_half_width(1.0, n, rho=mixture_rho(alpha=0.05, planned_clusters=PLANNED), alpha=0.05)
        worst = max(worst, abs(mine / exact - 1))
    print(f"\nC6 half-width against the formula in 50 digits: largest relative difference {worst:.1e}")


def print_covariates(runs: int, rng: np.random.Generator) -> None:
    """What centring covariates at the sample's own mean would do to a paired answer."""
    held = np.zeros(3, int)
    for _ in range(runs):
        easy = rng.normal(50, 10, 40)
        gain = 0.2 * (easy - 50) + rng.normal(0, 1, 40)
        plain = paired_difference(gain)
        fits = [
            regression_adjusted_difference(gain, easy[:, None], centre=np.array([at]))
            for at in (50.0, float(easy.mean()))
        ]
        for index, sample in enumerate((plain, *(fit[0] for fit in fits if fit))):
            assert sample is not None
            interval = t_interval(sample, alpha=ALPHA)
            held[index] += interval.low <= 0 <= interval.high
    labels = ("plain", "mean of all traffic (vqmon)", "mean of the sample")
    text = ", ".join(f"{word} {count / runs:.1%}" for word, count in zip(labels, held, strict=True))
    print(f"\nCovariates (R2 .8), paired, coverage of 95 %: {text}")


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=20261120)
    chosen = parser.parse_args()
    rng, began = np.random.default_rng(chosen.seed), time.perf_counter()
    runs = chosen.runs
    print_false_winners(runs, rng)
    print_running_together(runs, rng)
    print_sessions(runs // 4, rng)
    print_whole(max(20, runs // 20))
    print_coverage(runs, rng)
    print_power(runs // 2, rng)
    print_ratio(max(20, runs // 10), rng)
    print_formula()
    print_covariates(runs, rng)
    print(f"\n{time.perf_counter() - began:.0f} s, seed {chosen.seed}")


if __name__ == "__main__":
    main()
