"""Retry policy: how long to wait between attempts, as exponential backoff with jitter."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Delays between retries: the first, each next one `factor` times longer, none longer than the last.

    `jitter` is the share of each delay that is random: with 0.5 a delay lies between half of its length and all of it.
    """

    first_seconds: float
    last_seconds: float = math.inf
    factor: float = 2.0
    jitter: float = 0.0

    def __post_init__(self) -> None:
        if not (0.0 < self.first_seconds <= self.last_seconds and self.factor >= 1.0 and 0.0 <= self.jitter <= 1.0):
            raise ValueError(f"not a backoff: {self}")

    def delay_seconds(self, failures: int, *, draw: float = 1.0) -> float:
        """Return the delay after this many failures in a row, counted from 1.

        `draw` is a random number, uniform in 0..1, for the jitter; without it the delay has its full length.
        """
        if failures < 1:
            raise ValueError(f"there is no delay after {failures} failures")
        try:
            longest = min(self.first_seconds * self.factor ** (failures - 1), self.last_seconds)
        except OverflowError:
            longest = self.last_seconds
        return longest * (1.0 - self.jitter + self.jitter * draw)


class Retries:
    """Counts failures in a row and gives the delay before the next attempt."""

    def __init__(self, backoff: Backoff) -> None:
        self.failures = 0
        self._backoff = backoff

    def next_delay_seconds(self, *, draw: float = 1.0) -> float:
        """Count one more failure; `draw` is as in `Backoff.delay_seconds`."""
        self.failures += 1
        return self._backoff.delay_seconds(self.failures, draw=draw)

    def reset(self) -> None:
        """An attempt succeeded: the next failure is the first again."""
        self.failures = 0
