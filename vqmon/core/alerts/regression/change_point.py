"""What a chart says of a change: when it began, and how large the drop is, with an interval."""

import math
from collections.abc import Mapping

from vqmon.core.alerts.regression.baseline import Usual, usual_of
from vqmon.core.alerts.regression.cusum import Chart, Memory, parts, settled, usual_now
from vqmon.core.types import CompanionShift

Beside = tuple[float, ...]

LONGEST = 300.0
"""So many values the usual of a signal rests on; older ones fade."""

DIGITS = 6

OWN_SPREADS = 1.0
"""A mean moved when it went further than so many of its own usual deviations between segments."""


def beside(names: tuple[str, ...], known: Beside, values: Mapping[str, float], *, is_usual: bool) -> Beside:
    """What is remembered after a segment more: a count, then means, then variances, then sums since the change.

    While the series is usual the means learn and the sums are 0; afterwards the sums gather.
    """
    size = len(names)
    if len(known) != 2 + 3 * size:
        return (1.0, 0.0, *(round(values[name], DIGITS) for name in names), *(0.0,) * (2 * size))
    count, since = known[0], known[1]
    means = known[2 : 2 + size]
    now = [values[name] for name in names]
    if not is_usual:
        sums = known[2 + 2 * size :]
        gathered = [round(total + value, DIGITS) for total, value in zip(sums, now, strict=True)]
        return (count, since + 1.0, *known[2 : 2 + 2 * size], *gathered)
    count = min(count + 1.0, LONGEST)
    share = 1.0 / count
    away = [value - mean for value, mean in zip(now, means, strict=True)]
    rest = 1.0 - share
    spread = known[2 + size : 2 + 2 * size]
    return (
        count,
        0.0,
        *[round(mean + share * one, DIGITS) for mean, one in zip(means, away, strict=True)],
        *[round(rest * (old + share * one * one), DIGITS + 2) for old, one in zip(spread, away, strict=True)],
        *(0.0,) * size,
    )


def moved(names: tuple[str, ...], known: Beside) -> tuple[CompanionShift, ...]:
    """What went further than its own usual spread since the change; the largest first, by that spread."""
    size = len(names)
    if len(known) != 2 + 3 * size or not known[1]:
        return ()
    found = []
    for index, name in enumerate(names):
        before, variance, total = (known[2 + part * size + index] for part in range(3))
        after = total / known[1]
        away = abs(after - before)
        # A hundredth of the scale is the least that is worth a word.
        least = 1.0 if "@" in name else 0.01
        if away > max(OWN_SPREADS * variance**0.5, least):
            found.append((away / max(variance**0.5, least), CompanionShift(name=name, before=before, after=after)))
    return tuple(it for _, it in sorted(found, key=lambda pair: (-pair[0], pair[1].name)))


def began_at(chart: Chart) -> float:
    """The last moment at which the series was as usual: where the sum left 0, the second one if it saw a large drop."""
    return chart.fast_at if _is_large(chart) else chart.since_at


def _is_large(chart: Chart) -> bool:
    return chart.fast >= chart.s / 3.0 and chart.fast_count >= 1.0


def drop_of(memory: Memory) -> tuple[float, float, float, float]:
    """Usual level, mean since the change, and the 95 % interval of the drop, in points.

    The noise that neighbours share makes the mean of n of them as sure as that of n (1 - phi) / (1 + phi). One value
    from before the change may be among them: the drop may be larger by its share.
    """
    chart, learned_usual, tail = parts(memory)
    count, total = (chart.fast_count, chart.fast_sum) if _is_large(chart) else (chart.since_count, chart.since_sum)
    usual = usual_now(memory) or Usual(level=chart.last)
    if not learned_usual.number:
        usual = usual_of(settled(chart, tail)) if len(tail) >= 6 else usual
    phi = usual.memory
    count = max(count, 1.0)
    independent = max(count * (1.0 - phi) / (1.0 + phi), 1.0)
    learned_from = max(usual.number * (1.0 - phi) / (1.0 + phi), 1.0)
    unsure = 1.96 * math.sqrt(usual.square * (1.0 / independent + 1.0 / learned_from))
    mean = total / count if chart.since_count else chart.last
    drop = usual.level - mean
    return usual.level, mean, drop - unsure, drop + unsure + max(drop, 0.0) / max(count - 1.0, 1.0)
