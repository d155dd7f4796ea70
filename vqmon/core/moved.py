"""What moved together with a score: running means of the signals and of the other scorers, beside one series."""

from collections.abc import Mapping

from vqmon.core.types import Moved

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


def moved(names: tuple[str, ...], known: Beside) -> tuple[Moved, ...]:
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
            found.append((away / max(variance**0.5, least), Moved(name=name, before=before, after=after)))
    return tuple(it for _, it in sorted(found, key=lambda pair: (-pair[0], pair[1].name)))
