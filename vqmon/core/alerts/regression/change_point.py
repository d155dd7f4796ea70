"""What a chart says of a change: when it began, and how large the drop is, with an interval."""

import math

from vqmon.core.alerts.regression.baseline import Usual, usual_of
from vqmon.core.alerts.regression.cusum import Chart, Memory, parts, settled, usual_now


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
