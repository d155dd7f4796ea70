"""False alarms, delays and intervals of the control chart on series as they are, beside three other detectors.

python -m bench.alerts.false_alarms [--series N] [--days N] [--only SHAPE ...] [--seed N]

One day of baseline, in which no detector but ours has a limit, then `days` without a fault, then drops. Everything is
seeded; the default is 50 series per shape over two days after the first, 100 stream-days.
"""

import argparse
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bench.alerts.many_charts import ManyCharts, ManyPeers, Numbers
from bench.alerts.series_shapes import DAY, SHAPES, scores_of
from vqmon.core.alerts.conditions.chart import ChartParameters
from vqmon.core.alerts.regression.control_chart import SPANS

ALLOWED, ALLOWED_FIRST_DAY = 0.05, 0.5
"""Per stream-day."""

_DROPS = (5.0, 7.5, 12.0, 20.0)
"""Points."""
_HOUR = 900
_CALM = ("white, normal", "white, t4", "spikes")
_CALM_LIMIT = 20
"""Segments within which a drop of two deviations of a calm series is to be seen."""


@dataclass(slots=True)
class Result:
    """What was counted on one shape."""

    series: int
    first_day: int = 0
    later: int = 0
    open_segments: int = 0
    peers: dict[str, int] = field(default_factory=dict)
    # drop -> segments until the alert, inf when none opened within an hour
    delays: dict[float, list[float]] = field(default_factory=dict)
    # drop -> where the interval of each alert is: 0 = it holds the drop, -1 = below it, 1 = above it
    intervals: dict[float, list[int]] = field(default_factory=dict)


def simulate(
    names: Sequence[str], *, series: int, days: int, seed: int, parameters: ChartParameters, drops: Sequence[float]
) -> tuple[dict[str, Result], Numbers]:
    """Results by shape, and the distances of the limits at the end: (spans, shapes)."""
    scores = np.concatenate(
        [
            scores_of(name, np.random.default_rng([seed, *name.encode()]), (1 + days) * DAY + _HOUR, series)
            for name in names
        ],
        axis=1,
    )
    results = {name: Result(series=series) for name in names}
    charts, peers = ManyCharts(parameters=parameters), ManyPeers(scores[:DAY])
    for index in range((1 + days) * DAY):
        opened = charts.step(scores[index])
        counts = _by_shape(opened.series, names, series) if opened else [0] * len(names)
        if index < DAY:
            for result, count in zip(results.values(), counts, strict=True):
                result.first_day += count
            continue
        _count(results, counts, charts, peers.step(scores[index]))
    for drop in drops:
        _plant(charts, scores[-_HOUR:] - drop, drop, names, results)
    return results, charts.distances.reshape(4, len(names), series).mean(axis=2)


def _count(
    results: dict[str, Result], counts: Sequence[int], charts: ManyCharts, alarms: dict[str, NDArray[np.bool_]]
) -> None:
    """Add up one segment after the first day."""
    shapes = len(results)
    open_series = charts.is_open.reshape(shapes, -1).sum(axis=1)
    by_peer = {peer: found.reshape(shapes, -1).sum(axis=1) for peer, found in alarms.items()}
    for number, result in enumerate(results.values()):
        result.later += counts[number]
        result.open_segments += int(open_series[number])
        for peer, found in by_peer.items():
            result.peers[peer] = result.peers.get(peer, 0) + int(found[number])


def _plant(
    charts: ManyCharts, scores: Numbers, drop: float, names: Sequence[str], results: dict[str, Result]
) -> None:  # fmt: skip
    """An hour of a drop of all series; those with an open alert are left out."""
    twin = charts.copy()
    total = len(twin.is_open)
    delays, intervals = np.full(total, np.inf), np.zeros(total, dtype=int)
    was_open = twin.is_open.copy()
    for index, row in enumerate(scores, start=1):
        opened = twin.step(row)
        if opened:
            new = opened.series[np.isinf(delays[opened.series])]
            delays[new] = index
            sides = (opened.low > drop).astype(int) - (opened.high < drop).astype(int)
            intervals[new] = sides[np.isin(opened.series, new)]
    series = total // len(names)
    for number, name in enumerate(names):
        chosen = slice(number * series, (number + 1) * series)
        results[name].delays[drop] = delays[chosen][~was_open[chosen]].tolist()
        results[name].intervals[drop] = intervals[chosen][np.isfinite(delays[chosen])].tolist()


def _by_shape(found: NDArray[np.int64], names: Sequence[str], series: int) -> list[int]:
    return np.bincount(found // series, minlength=len(names)).tolist()


def _poisson_interval(count: int) -> tuple[float, float]:
    """The exact 95 % interval of the mean of a Poisson count (Garwood, Biometrika 1936)."""

    def mean_with(tail: Callable[[float], float]) -> float:
        # `tail` grows with the mean: the mean at which it is 2.5 %
        low, high = 0.0, 20.0 + 2.0 * count
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (low, middle) if tail(middle) > 0.0 else (middle, high)
        return low

    def below(mean: float, most: int) -> float:
        return sum(math.exp(k * math.log(mean) - mean - math.lgamma(k + 1)) for k in range(most + 1))

    lowest = mean_with(lambda mean: 0.975 - below(mean, count - 1)) if count else 0.0
    return lowest, mean_with(lambda mean: 0.025 - below(mean, count))


def rate_text(count: int, stream_days: float) -> str:
    """False alarms per stream-day and their interval."""
    low, high = (mean / stream_days for mean in _poisson_interval(count))
    return f"{count / stream_days:.3f} ({low:.3f}-{high:.3f})"


def is_above(count: int, allowed: float) -> bool:
    """Whether more false alarms were counted than allowed, as far as a Poisson count can tell."""
    return _poisson_interval(count)[0] > allowed


def _print(results: dict[str, Result], distances: Numbers, days: int) -> None:
    peers = next(iter(results.values())).peers
    print(
        f"{'false alarms per stream-day (95 %)':42} {'first day':20} {'later':20} {'  '.join(peers)}   open  "
        f"limits {'/'.join(map(str, SPANS))}   seen within an hour, median minutes: drops of "
        f"{', '.join(f'{drop:g}' for drop in next(iter(results.values())).delays)}"
    )
    for number, (name, result) in enumerate(results.items()):
        stream_days = result.series * days
        others = "  ".join(f"{count / stream_days:8.2f}" for count in result.peers.values())
        seen = "  ".join(
            f"{np.mean(np.isfinite(delays)):4.0%} {np.median(delays) / 15:4.1f}" for delays in result.delays.values()
        )
        limits = "/".join(f"{distance:.1f}" for distance in distances[:, number])
        print(
            f"{name:42} {rate_text(result.first_day, result.series)}  {rate_text(result.later, stream_days)} {others} "
            f"{result.open_segments / stream_days / DAY:6.4f}  {limits:20} {seen}"
        )


def _misses(results: dict[str, Result], days: int) -> list[str]:
    misses = []
    for name, result in results.items():
        for label, count, allowed in (
            ("first day", result.first_day, ALLOWED_FIRST_DAY * result.series),
            ("later", result.later, ALLOWED * result.series * days),
        ):
            if is_above(count, allowed):
                misses.append(f"{name}, {label}: {count} false alarms, {allowed:g} allowed")
        if name in _CALM and np.median(result.delays.get(7.5, [0.0])) > _CALM_LIMIT:
            misses.append(f"{name}: drop of two deviations after {np.median(result.delays[7.5]):g} segments")
    return misses


def simulation_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with the options of every simulation of shapes."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=50)
    parser.add_argument("--days", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="*", default=[])
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 1 when a goal is missed."""
    parser = simulation_parser(__doc__)
    parser.add_argument("--false-alarm-days", type=float, default=ChartParameters().false_alarm_days)
    parser.add_argument("--delta-min", type=float, default=3.0)
    chosen = parser.parse_args(arguments)
    names = [name for name in SHAPES if not chosen.only or name in chosen.only]
    if not names:
        parser.error(f"no such shape; known: {', '.join(SHAPES)}")
    began = time.perf_counter()
    parameters = ChartParameters(false_alarm_days=chosen.false_alarm_days, delta_min=chosen.delta_min)
    results, distances = simulate(
        names, series=chosen.series, days=chosen.days, seed=chosen.seed, parameters=parameters, drops=_DROPS
    )
    _print(results, distances, chosen.days)
    for drop in _DROPS:
        sides = np.array([side for result in results.values() for side in result.intervals[drop]] or [0])
        print(
            f"intervals of a drop of {drop:g} points: {np.mean(sides == 0):.1%} of {len(sides)} hold it, "
            f"{np.mean(sides < 0):.1%} are below, {np.mean(sides > 0):.1%} above"
        )
    misses = _misses(results, chosen.days)
    print("\n".join(f"MISSED {miss}" for miss in misses) or "no goal missed", f"({time.perf_counter() - began:.0f} s)")
    return 1 if misses else 0


if __name__ == "__main__":
    sys.exit(main())
