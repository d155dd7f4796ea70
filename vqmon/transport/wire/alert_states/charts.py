"""The numbers of a control chart and of its companions as one flat row, which is how alert states store them."""

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TypeVar

from vqmon.core.alerts.regression.baseline import Baseline, BlockLows
from vqmon.core.alerts.regression.change_point import Companions
from vqmon.core.alerts.regression.control_chart import (
    EMPTY_CHART,
    SPANS,
    Average,
    BlockCounts,
    ControlChart,
    Recovery,
    chart_from,
)

Numbers = tuple[float, ...]

_CHART_LAYOUT = -3.0
"""First number of the charts of this version; that of version 0.1, the limit of its CUSUM, was never negative."""

_LAYOUT_WITHOUT_CHANGES = -2.0
"""First number of charts that know no changes from block to block: the last two fields of `BlockLows`."""

_RECENT_VALUES = 4

_OLD_CUSUM_LENGTH = 21
_OLD_BASELINE_LENGTH = 8


def pack_chart(chart: ControlChart) -> Numbers:
    """The numbers of a chart."""
    own = (_CHART_LAYOUT, chart.last_end_at, *chart.blocks, *chart.recovery, *(chart.baseline or Baseline()))
    if chart.baseline is None:
        return (*own, *chart.first_values)
    averages = [number for value, lows, *others in chart.averages for number in (value, *lows, *others)]
    return (*own, *chart.recent_values, *averages)


def unpack_chart(memory: Numbers) -> ControlChart:
    """The chart of such numbers, also of those that older versions wrote; raises ValueError when they make none."""
    if memory[0] >= 0.0:
        return _unpack_old_chart(memory)
    if len(memory) < 2 + len(BlockCounts._fields) + len(Recovery._fields) + len(Baseline._fields):
        raise ValueError(f"memory: {len(memory)} numbers are too few for a chart")
    numbers = iter(memory[1:])
    last_end_at = next(numbers)
    blocks = BlockCounts._make(islice(numbers, len(BlockCounts._fields)))
    recovery = Recovery._make(islice(numbers, len(Recovery._fields)))
    baseline = Baseline._make(islice(numbers, len(Baseline._fields)))
    if not baseline.value_count:
        return ControlChart(first_values=tuple(numbers), last_end_at=last_end_at, blocks=blocks, recovery=recovery)
    recent = tuple(islice(numbers, _RECENT_VALUES))
    has_changes = memory[0] != _LAYOUT_WITHOUT_CHANGES
    lows_end = 1 + len(BlockLows._fields) - (0 if has_changes else 2)
    lows_of = BlockLows if has_changes else BlockLows.of_independent_blocks
    rows = list(rows_of(tuple(numbers), lows_end + len(Average._fields) - 2))
    if len(rows) != len(SPANS):
        raise ValueError(f"memory: {len(rows)} averages; a chart has {len(SPANS)}")
    return ControlChart(
        baseline=baseline,
        averages=tuple(Average(row[0], lows_of(*row[1:lows_end]), *row[lows_end:]) for row in rows),
        blocks=blocks,
        last_end_at=last_end_at,
        recent_values=recent,
        recovery=recovery,
    )


def _unpack_old_chart(memory: Numbers) -> ControlChart:
    """A chart of version 0.1, a CUSUM: its usual level goes on, its limits are learned anew.

    An alert that is open resolves when the average of 6 values is at that level again.
    """
    baseline_end = _OLD_CUSUM_LENGTH + _OLD_BASELINE_LENGTH
    if len(memory) < baseline_end:
        raise ValueError(f"memory: {len(memory)} numbers; a chart has {baseline_end} or more")
    last_value, last_end_at = memory[1:3]
    value_count, level, spread, mean_square = memory[_OLD_CUSUM_LENGTH : _OLD_CUSUM_LENGTH + 4]
    if not value_count:
        return EMPTY_CHART
    baseline = Baseline(value_count=value_count, level=level, spread=spread, mean_square=mean_square)
    chart = chart_from(baseline, (last_value,) * _RECENT_VALUES, ends_at=last_end_at)
    lows = BlockLows(last_value)
    averages = tuple([average._replace(value=last_value, lows=lows) for average in chart.averages])
    return chart._replace(averages=averages, recovery=Recovery(level=level))


def pack_companions(companions: Companions) -> Numbers:
    """The numbers of companions, without their names."""
    counts = (companions.count, companions.count_since_change)
    return (*counts, *companions.means, *companions.variances, *companions.sums_since_change)


def unpack_companions(names: tuple[str, ...], numbers: Numbers) -> Companions | None:
    """The companions of such names and numbers; None when there is not one number for each figure of each name."""
    if len(numbers) != 2 + 3 * len(names):
        return None
    count, since_change = numbers[:2]
    means, variances, sums = rows_of(numbers[2:], len(names)) if names else ((), (), ())
    learned = {"means": means, "variances": variances, "sums_since_change": sums}
    return Companions(names=names, count=count, count_since_change=since_change, **learned)


_Item = TypeVar("_Item")


def rows_of(items: Sequence[_Item], length: int) -> Iterable[tuple[_Item, ...]]:
    """The items in rows of this length; raises ValueError when one is left over."""
    if len(items) % length:
        raise ValueError(f"{len(items)} numbers do not fill rows of {length}")
    return [tuple(items[start : start + length]) for start in range(0, len(items), length)]
