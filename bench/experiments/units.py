"""Unpaired sessions, the sample ratio, and arms that end or lose segments: simulated for `bench.experiments.shapes`."""

import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from tests import factories
from vqmon.core.experiments.results import Comparison
from vqmon.core.experiments.stats.distributions import chi_square_upper_tail, wilson_interval
from vqmon.core.experiments.stats.estimators import ratio_difference
from vqmon.core.experiments.stats.sample_ratio_mismatch import SRM_ALPHA, srm_log_e_value
from vqmon.core.experiments.stats.sequential import (
    MIN_ARM_SESSIONS,
    anytime_valid_interval,
    mixture_rho,
    skewness_corrected_interval,
)

Floats = NDArray[np.float64]

ALPHA = 0.05
_MOST = 3000
_LOOKS = (20, 40, 60, 80, 100, 120, 150, 200, 250, 300, 400, 500, 650, 800, 1000, 1300, 1600, 2000, 2500, 3000)


def even(n: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Scores and segments of sessions: good connections watch longer; 1 to 400 segments."""
    counts = np.clip(rng.lognormal(3, 0.8, n), 1, 400).round()
    return _scores(60 + np.log(counts), counts, rng), counts


def uneven(n: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Sessions of 1 to 5,000 segments."""
    counts = np.clip(rng.lognormal(3, 1.6, n), 1, 5000).round()
    return _scores(60 + np.log(counts), counts, rng), counts


def robots(n: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """One session in a hundred is a robot that watches bad quality for a hundred times as long."""
    scores, counts = even(n, rng)
    is_robot = rng.random(n) < 0.01
    return np.where(is_robot, 30 + rng.normal(0, 2, n), scores), np.where(is_robot, 100 * counts, counts)


def _scores(levels: Floats, counts: Floats, rng: np.random.Generator) -> Floats:
    return levels + rng.normal(0, 6, len(levels)) + rng.normal(0, 4, len(levels)) / np.sqrt(counts)


def print_sessions(runs: int, rng: np.random.Generator) -> None:
    """Wrong winners of unpaired sessions with the defaults, by the split and the kind of sessions."""
    print(f"\nUnpaired sessions, {len(_LOOKS)} looks from 20 to {_MOST} sessions, 40 planned: wrong winners")
    kinds: Mapping[str, Callable[[int, np.random.Generator], tuple[Floats, Floats]]] = {
        "sessions of 1 to 400 segments": even,
        "uneven, 1 to 5,000": uneven,
        "1 % robots": robots,
    }
    for name, draw in kinds.items():
        for share in (0.5, 0.8, 0.95):
            wrong = np.zeros(2, int)
            for _ in range(runs):
                scores, counts = draw(_MOST, rng)
                wrong += _session_verdicts(scores * counts, counts, rng.random(_MOST) < share)
            low, high = wilson_interval(int(wrong[1]), runs, alpha=0.05)
            text = f"sequence from 20 {wrong[0] / runs:.1%}, vqmon {wrong[1] / runs:.1%} ({low:.1%} to {high:.1%})"
            print(f"{f'{name}, {share:.0%}':38}{text}", flush=True)


def _session_verdicts(sums: Floats, counts: Floats, is_arm: NDArray[np.bool_]) -> NDArray[np.int64]:
    rho = mixture_rho(alpha=ALPHA, planned_clusters=40)
    before = now = False
    for n in _LOOKS:
        arm, control = is_arm[:n], ~is_arm[:n]
        if min(arm.sum(), control.sum()) < 2:
            continue
        sides = [(sums[:n][side], counts[:n][side]) for side in (control, arm)]
        before = before or _plain_winner(sides, rho)
        estimate = ratio_difference(sides[0], sides[1])
        if estimate is None or (estimate.smaller_arm or 0) < MIN_ARM_SESSIONS:
            continue
        interval = anytime_valid_interval(estimate, rho=rho, alpha=ALPHA)
        corrected = skewness_corrected_interval(estimate, interval)
        now = now or min(interval.low, corrected.low) > 0 or max(interval.high, corrected.high) < 0
    return np.array([before, now], dtype=np.int64)


def _plain_winner(sides: list[tuple[Floats, Floats]], rho: float) -> bool:
    """The confidence sequence of the ratio of sums, without limits."""
    values = [
        sums.sum() / counts.sum() + (sums - sums.sum() / counts.sum() * counts) / counts.mean()
        for sums, counts in sides
    ]
    n = sum(len(value) for value in values)
    error = math.sqrt(sum(float(value.var(ddof=1)) / len(value) for value in values))
    spread = n * rho * rho + 1
    z = math.sqrt(2 * spread / (n * rho * rho) * math.log(math.sqrt(spread) / ALPHA))
    return abs(float(values[1].mean() - values[0].mean())) > z * error


def print_ratio(runs: int, rng: np.random.Generator) -> None:
    """Sessions until an uneven split is found, beside chi-square at p < .001 at every 8th session."""
    runs = max(20, runs // 5)
    print(
        f"\nSample ratio, alarm at p < {SRM_ALPHA:g} at any look; chi-square at .001 read every 8 sessions, {runs} runs"
    )
    for share, most in ((0.5, 20_000), (0.0, 64), (0.3, 1000), (0.45, 6000), (0.48, 30_000)):
        step = 1 if share == 0 else 8
        first: list[list[float]] = [[], []]
        for _ in range(runs):
            counts = np.cumsum(rng.random(most) < share)[step - 1 :: step]
            n = np.arange(step, most + 1, step)
            chi = (2 * counts - n) ** 2 / n
            is_chi = np.array([chi_square_upper_tail(float(x), 1) < 0.001 for x in chi])
            line = -math.log(SRM_ALPHA)
            is_found = (srm_log_e_value([int(k), int(m - k)], [1, 1]) >= line for k, m in zip(counts, n, strict=True))
            first[0].append(float(n[is_chi.argmax()]) if is_chi.any() else math.inf)
            first[1].append(next((float(m) for m, found in zip(n, is_found, strict=True) if found), math.inf))
        texts = [
            f"{name} {np.isfinite(times).mean():.0%}, median {np.median(times):.0f}"
            for name, times in zip(("chi-square", "vqmon"), first, strict=True)
        ]
        print(f"{f'{share:.0%} of the sessions in one arm':38}{'; '.join(texts)}", flush=True)


def print_sentinels(runs: int, rng: np.random.Generator) -> None:
    """Arms that end, losses that depend on content, repeated contents: what the whole analysis says, by verdict."""
    print(f"\nSentinels, from events to verdict, {runs} runs each: verdicts (checks that blocked)")
    for name, draw in (
        ("an arm ends after 11 of 40 segments", arm_that_ends),
        ("an arm loses what looks bad, the other at random", losses_by_content),
        ("the same with fewer losses, 4 % of each arm", few_losses_by_content),
        ("losses at random, 5 % of each arm", losses_at_random),
        ("all differ by .30", constant_difference),
    ):
        kinds: dict[str, int] = {}
        for _ in range(runs):
            comparison = draw(int(rng.integers(1 << 30)))
            result = comparison.answers[0]
            blocked = [check.name for check in result.checks if not check.is_good and check.weight == "blocks"]
            key = result.verdict.kind + (f" ({', '.join(blocked)})" if blocked else "")
            kinds[key] = kinds.get(key, 0) + 1
        print(f"{name:50}{', '.join(f'{count} {kind}' for kind, count in kinds.items())}", flush=True)


def arm_that_ends(seed: int) -> Comparison:
    """24 streams at once; v2 gains 1 point and ends after 11 segments."""
    outcomes = [
        event
        for event in factories.paired_events(streams=24, segments=40, gain=1.0, seed=seed)
        if event.segment.rendition.name == "v1" or event.segment.sequence < 11
    ]
    return factories.comparison(experiment=factories.experiment(), outcomes=outcomes)


def losses_by_content(seed: int) -> Comparison:
    """Hard segments lose 5 points in v2 and are lost by it mostly; v1 loses as many at random. The truth is -0.24."""
    return _with_losses(seed, share_when_hard=0.7, share_in_control=0.12)


def few_losses_by_content(seed: int) -> Comparison:
    """As `losses_by_content`, with a third of the losses: their number alone blocks nothing."""
    return _with_losses(seed, share_when_hard=0.235, share_in_control=0.04)


def losses_at_random(seed: int) -> Comparison:
    """Both arms lose 5 % of the segments at random."""
    return _with_losses(seed, share_when_hard=None, share_in_control=0.05)


def _with_losses(seed: int, *, share_when_hard: float | None, share_in_control: float) -> Comparison:
    rng = np.random.default_rng(seed)
    outcomes = []
    for stream in range(30):
        level = rng.uniform(40, 80)
        for sequence in range(30):
            is_hard = rng.random() < 0.17
            content = level - 8 * is_hard + rng.normal(0, 4)
            share_in_arm = share_in_control if share_when_hard is None else share_when_hard * is_hard
            for arm, value, share in (
                ("v1", content, share_in_control),
                ("v2", content + (-5.0 if is_hard else 0.74) + rng.normal(0, 0.7), share_in_arm),
            ):
                if rng.random() < share:
                    outcomes.append(factories.arm_failure(arm=arm, stream=stream, sequence=sequence))
                else:
                    outcomes.append(factories.arm_event(arm=arm, stream=stream, sequence=sequence, score=float(value)))
    return factories.comparison(experiment=factories.experiment(), outcomes=outcomes)


def constant_difference(seed: int) -> Comparison:
    """v2 has exactly .3 points more than v1 in every segment."""
    rng = np.random.default_rng(seed)
    outcomes = []
    for stream in range(30):
        for sequence in range(4):
            value = float(rng.uniform(30, 80))
            outcomes += [
                factories.arm_event(arm=arm, stream=stream, sequence=sequence, score=value + 0.3 * (arm == "v2"))
                for arm in ("v1", "v2")
            ]
    return factories.comparison(experiment=factories.experiment(), outcomes=outcomes)
