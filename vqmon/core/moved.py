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
    now = [values.get(name) for name in names]
    if len(known) != 2 + 3 * size:
        first = [0.0 if value is None else round(value, DIGITS) for value in now]
        return (1.0, 0.0, *first, *(0.0 for _ in now), *(0.0 for _ in now))
    count, since = known[0], known[1]
    means, variances, sums = known[2 : 2 + size], known[2 + size : 2 + 2 * size], known[2 + 2 * size :]
    if not is_usual:
        gathered = [
            total + (mean if value is None else value) for total, mean, value in zip(sums, means, now, strict=True)
        ]
        return (count, since + 1.0, *means, *variances, *(round(total, DIGITS) for total in gathered))
    count = min(count + 1.0, LONGEST)
    share = 1.0 / count
    new_means, new_variances = [], []
    for mean, variance, value in zip(means, variances, now, strict=True):
        away = 0.0 if value is None else value - mean
        new_means.append(round(mean + share * away, DIGITS))
        new_variances.append(round((1.0 - share) * (variance + share * away * away), 2 * DIGITS - 4))
    return (count, 0.0, *new_means, *new_variances, *(0.0 for _ in names))


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
