"""False alarms, delays, flapping and cost of the regression rules, beside a plain threshold and two detectors of river.

python -m bench.alerts.detectors [--full] [--only PART ...] [--series N] [--processes N]

Parts: noise (A1, A2), collapse (A3), fleet (A4), flapping (A6), cost (A7), tables (A8), ladder (A5 and the noise of
real scores), week (a labelled week with that noise). Everything is seeded; --full takes 400 series-days per shape.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from bench.alerts import labelled_week, tables
from bench.alerts.noise import DAY, SHAPES, Shape, delay, detectors, middle, p95
from vqmon.core.alerts.conditions.regression import Regression

DROPS = (1.0, 2.0, 3.33)
LONGEST = 1000
OTHERS_SEE = 5
"""Series that the detectors beside ours are fed."""
PARAMETERS = Regression(scorer="lite").parameters


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """How much is simulated per shape: series, days after the baseline of each, forks per series and drop."""

    series: int
    days: float
    baseline: int
    forks: int

    @property
    def series_days(self) -> float:
        return self.series * self.days


DAYS = {
    False: Amount(series=10, days=2, baseline=DAY, forks=20),
    True: Amount(series=100, days=4, baseline=DAY, forks=6),
}
HOURS = {
    False: Amount(series=20, days=0.5, baseline=900, forks=10),
    True: Amount(series=400, days=1, baseline=900, forks=3),
}


@dataclass(slots=True)
class Found:
    """What one detector did on one shape of noise."""

    alarms: int
    days: float
    # drop in deviations -> segments
    delays: dict[float, list[int]]


def one_shape(shape: Shape, amount: Amount, seed: int) -> dict[str, Found]:
    """False alarms and delays per detector; the others see a part of the series only, as they are slow or wrong."""
    results: dict[str, Found] = {}
    for number in range(amount.series):
        chance = np.random.default_rng([seed, number])
        ours, *others = detectors(shape.values(chance, amount.baseline), PARAMETERS)
        quiet = shape.values(chance, int(amount.days * DAY))
        for detector in (ours, *others) if number < OTHERS_SEE else (ours,):
            result = results.setdefault(detector.name, Found(alarms=0, days=0.0, delays={drop: [] for drop in DROPS}))
            for drop in DROPS:
                twin_chance = np.random.default_rng([seed, number, int(drop * 100)])
                for _ in range(amount.forks):
                    result.delays[drop].append(delay(detector, shape, twin_chance, drop=drop, longest=LONGEST))
            result.alarms += sum(1 for _ in detector.feed(quiet))
            result.days += amount.days
    return results


def noise(days: Amount, hours: Amount, *, processes: int) -> bool:
    """A1 and A2, and the same for the others."""
    good = True
    for label, amount, allowed in (("a day", days, 0.05), ("an hour", hours, 0.13)):
        print(f"\nbaseline of {label}; {amount.series_days:g} series-days per shape; drops of 1, 2 and 3.33 deviations")
        print(f"{'phi':>4} {'tail':7} {'detector':30} {'false/day':>10}  delay, segments: median/p95")
        shapes = [Shape(phi=phi, tail=tail) for phi, tail in SHAPES]
        total = 0
        with ProcessPoolExecutor(processes) as pool:
            for shape, result in zip(shapes, pool.map(one_shape, shapes, [amount] * 8, range(8)), strict=True):
                _print(shape, result)
                ours = result["vqmon"]
                total += ours.alarms
                good &= _within(ours.alarms, allowed * ours.days, f"A1 {shape}")
                if label == "a day":
                    good &= _soon_enough(shape, ours.delays)
        print(
            f"vqmon over all shapes: {total / amount.series_days / 8:.3f} per stream-day; {allowed} allowed", flush=True
        )
    return good


def _print(shape: Shape, result: dict[str, Found]) -> None:
    for name, shape_result in result.items():
        delays_text = "  ".join(f"{_shown(middle(d))}/{_shown(p95(d))}" for d in shape_result.delays.values())
        print(
            f"{shape.phi:4} {shape.tail:7} {name:30} {shape_result.alarms / shape_result.days:10.3f}  {delays_text}",
            flush=True,
        )


def _within(alarms: int, allowed: float, label: str) -> bool:
    """Not more than allowed, as far as a Poisson count can tell: its lower 97.5 % bound is not above."""
    lower = max(alarms - 1.96 * alarms**0.5, 0.0)
    if lower > allowed:
        print(f"  MISSED {label}: {alarms} false alarms, {allowed:.1f} allowed")
    return lower <= allowed


LIMITS = {(0.0, 2.0): (10, 14), (0.3, 2.0): (13, 20), (0.6, 2.0): (22, 42), (0.0, 1.0): (25, 42)}


def _soon_enough(shape: Shape, delays: dict[float, list[int]]) -> bool:
    good = True
    for (phi, drop), (half, most) in LIMITS.items():
        if phi == shape.phi and (middle(delays[drop]) > half or p95(delays[drop]) > most):
            seen = f"{middle(delays[drop]):g}/{p95(delays[drop]):g}"
            print(f"  MISSED A2 {shape}: drop {drop}: {seen}, {half}/{most} wanted")
            good = False
    return good


def _shown(segments: float) -> str:
    return "-" if segments >= LONGEST else f"{segments:.0f}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts; 1 when a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--series", type=int, help="series per shape of noise, instead of the planned number")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=[])
    chosen = parser.parse_args(arguments)

    def amount(of: dict[bool, Amount]) -> Amount:
        planned = of[chosen.full]
        return replace(planned, series=chosen.series) if chosen.series else planned

    parts: dict[str, Callable[[], bool]] = {
        "tables": tables.tables,
        "cost": tables.cost,
        "collapse": lambda: tables.collapse(series_days=20 if chosen.full else 1),
        "flapping": tables.flapping,
        "fleet": lambda: tables.fleet(weeks=4 if chosen.full else 1),
        "noise": lambda: noise(amount(DAYS), amount(HOURS), processes=chosen.processes),
        "ladder": labelled_week.ladder,
        "week": lambda: labelled_week.week(streams=4 if chosen.full else 1),
    }
    if unknown := set(chosen.only) - set(parts):
        parser.error(f"unknown part {', '.join(sorted(unknown))}; known: {', '.join(parts)}")
    good = True
    for name, part in parts.items():
        if chosen.only and name not in chosen.only:
            continue
        print(f"\n== {name}", flush=True)
        began = time.perf_counter()
        good &= part()
        print(f"   ({time.perf_counter() - began:.0f} s)", flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
