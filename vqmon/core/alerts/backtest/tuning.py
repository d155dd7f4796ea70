"""Settings of a regression rule for a wanted false-alarm rate, from its series as they were, and what it will see."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from vqmon.core.alerts.backtest.run_length import delay_quantiles, limit_for
from vqmon.core.alerts.regression.baseline import CLIP, usual_of
from vqmon.core.alerts.regression.change_point import drop_of
from vqmon.core.alerts.regression.cusum import (
    FRESH,
    HOT,
    Chart,
    Memory,
    Tuning,
    calmed,
    is_alarm,
    is_back,
    opened,
    step,
    step_open,
)

SHORTEST = 240
"""Values that a series must have before anything is said of it."""

DAY_SECONDS = 86_400.0
STEP = 1.1
LARGEST_H = 40.0
POINTS_PER_MOS = 25.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """One series as it was: (start, end, value), seconds and points, rising."""

    name: str
    values: tuple[tuple[float, float, float], ...]

    @property
    def seconds(self) -> float:
        """How much time was covered."""
        return sum(end - start for start, end, _ in self.values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """What a series' noise is like, in points."""

    name: str
    count: int
    level: float
    deviation: float
    # lag-1 correlation
    memory: float
    # deviation of what is left of it once whitened and clipped
    residual: float
    # share of residuals that are clipped; 0.0027 for a normal
    tail: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """What to write into a rule, and what to expect of it."""

    k: float
    h: float
    # h by the tables, before the series had their say
    h_by_tables: float
    baseline_segments: int
    segment_seconds: float
    wanted: float
    # alerts per stream-day that these settings give on the recorded values, whatever they were
    alarms: float
    stream_days: float
    noise: tuple[Noise, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """How soon a drop is seen by the median series: segments, None where it is not."""

    points: float
    median: float | None
    p95: float | None


def noise_of(series: Recorded) -> Noise:
    """The figures of one series; at least SHORTEST values."""
    values = [value for _, _, value in series.values]
    usual = usual_of(values)
    phi = usual.memory
    residuals = [one - usual.level - phi * (before - usual.level) for before, one in pairwise(values)]
    clipped = sum(abs(one) > CLIP * usual.scale for one in residuals)
    return Noise(
        name=series.name,
        count=len(values),
        level=usual.level,
        deviation=usual.square**0.5,
        memory=phi,
        residual=usual.deviation,
        tail=clipped / len(residuals),
    )


def propose(recorded: Sequence[Recorded], *, wanted: float, drop: float, tuning: Tuning) -> Proposal:
    """Settings for `wanted` false alarms per stream-day that see a drop of so many points soon.

    k is half of the drop in residual deviations of the median series, h what the tables give for the rate; then h is
    raised until the recorded values themselves give no more alarms than wanted. Real incidents among them make it
    too large, which is said by `h_by_tables` beside it. Raises ValueError when no series is long enough.
    """
    enough = [series for series in recorded if len(series.values) >= SHORTEST]
    if not enough:
        raise ValueError(f"no series has {SHORTEST} scored segments; watch for longer, or name another time")
    noise = tuple(noise_of(series) for series in enough)
    seconds = median(end - start for series in enough for start, end, _ in series.values)
    middle = median((1 - it.memory) * drop / it.residual for it in noise)
    k = round(min(max(middle / 2, 0.25), 1.0), 2)
    by_tables = round(limit_for(k, DAY_SECONDS / seconds / wanted), 1)
    h, stream_days = by_tables, sum(series.seconds for series in enough) / DAY_SECONDS
    while True:
        alarms = sum(_alarms(series, tuning._replace(k=k, h=h)) for series in enough) / stream_days
        # One alarm says nothing of a rate that asks for less than one.
        if alarms <= max(wanted, 1.0 / stream_days) or h >= LARGEST_H:
            break
        h = round(min(h * STEP, LARGEST_H), 1)
    return Proposal(
        k=k,
        h=h,
        h_by_tables=by_tables,
        baseline_segments=max(int(DAY_SECONDS / seconds), 1000),
        segment_seconds=seconds,
        wanted=wanted,
        alarms=alarms,
        stream_days=stream_days,
        noise=noise,
    )


def expected(proposal: Proposal, points: Sequence[float]) -> tuple[Expected, ...]:
    """How soon the median series sees drops of so many points, by the tables."""
    middle = sorted(proposal.noise, key=lambda it: (1 - it.memory) / it.residual)[len(proposal.noise) // 2]
    found = []
    for drop in points:
        shift = min((1 - middle.memory) * drop / middle.residual, CLIP)
        try:
            half, most = delay_quantiles(proposal.k, proposal.h, shift)
        except ValueError:
            found.append(Expected(points=drop, median=None, p95=None))
        else:
            found.append(Expected(points=drop, median=half, p95=most))
    return tuple(found)


def _alarms(series: Recorded, tuning: Tuning) -> int:
    """Times that the product's own chart would have opened; what lasts counts once."""
    memory: Memory = FRESH
    count, is_open = 0, False
    for start, end, value in series.values:
        if is_open:
            memory = step_open(tuning, memory, value, at=start, until=end)
            if is_back(tuning, Chart._make(memory[:HOT])):
                memory, is_open = calmed(memory, closed_at=end), False
            continue
        memory = step(tuning, memory, value, at=start, until=end, impact=0.0)
        if is_alarm(tuning, Chart._make(memory[:HOT])):
            usual, mean, _, most = drop_of(memory)
            if most < tuning.delta_min:
                memory = calmed(memory)
            elif usual - mean >= tuning.delta_min:
                count, is_open = count + 1, True
                memory = opened(memory, drop=usual - mean, flap_seconds=0.0, at=end)
    return count
