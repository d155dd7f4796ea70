"""Levels of sound samples: silence, clipping, a lost channel, mono in stereo, phase.

Windows are 100 ms. A window is silent under -60 dBFS (root mean square) in every channel. Clipped samples are those in
runs of three or more at 98.5 % of full scale or above. In stereo a channel is lost when it is under -60 dBFS as a whole
while the other is above -40 dBFS, and the sound is mono when the difference of both channels is 40 dB below their sum.
The phase is the correlation of both channels: 1 for mono, -1 when one of them is inverted.
"""

import numpy as np
from numpy.typing import NDArray

_WINDOW_SECONDS = 0.1
_SILENT = 10 ** (-60 / 20)
_PRESENT = 10 ** (-40 / 20)
_CLIPPED = 0.985
_CLIPPED_RUN = 3
_MONO_RATIO = 10 ** (-40 / 20)

Samples = NDArray[np.float32]
"""(channels, samples), full scale is 1."""


class LevelMeter:
    """Collects samples of one format in order."""

    def __init__(self, *, rate_hz: int) -> None:
        self._window = max(1, round(rate_hz * _WINDOW_SECONDS))
        self._rest: Samples | None = None
        # mean squares, (windows, channels)
        self._squares: list[NDArray[np.float64]] = []
        self._clipped = 0
        self._count = 0
        self._products = np.zeros(5)

    def add(self, samples: Samples) -> None:
        """Note samples; the number of channels stays the same."""
        joined = samples if self._rest is None else np.concatenate([self._rest, samples], axis=1)
        whole = joined.shape[1] // self._window * self._window
        self._measure(joined[:, :whole])
        self._rest = joined[:, whole:]

    def finish(self) -> dict[str, float | int | bool | None]:
        """The fields of `AudioFacts` that come from levels."""
        if self._rest is not None and not self._squares:
            self._measure(self._rest, window=self._rest.shape[1])
        squares = np.concatenate(self._squares) if self._squares else np.zeros((0, 1))
        is_silent = (squares < _SILENT**2).all(axis=1)
        levels = np.sqrt(squares.mean(axis=0)) if len(squares) else np.zeros(1)
        is_stereo = len(levels) == 2
        has_lost = is_stereo and levels.min() < _SILENT and levels.max() > _PRESENT
        first, second, product, difference, total = self._products
        energy = np.sqrt(first * second)
        return {
            "silent_share": float(is_silent.mean()) if len(squares) else 1.0,
            "clipped_share": self._clipped / self._count if self._count else 0.0,
            "lost_channels": int(has_lost),
            "is_mono": bool(is_stereo and total > 0 and difference < _MONO_RATIO**2 * total),
            "phase_correlation": float(np.clip(product / energy, -1, 1)) if is_stereo and energy > 0 else None,
        }

    def _measure(self, samples: Samples, *, window: int | None = None) -> None:
        window = window or self._window
        channels, count = samples.shape
        if not count:
            return
        parts = samples.reshape(channels, count // window, window).astype(np.float64)
        self._squares.append((parts * parts).mean(axis=2).T)
        self._count += channels * count
        self._clipped += sum(_count_in_runs(np.abs(channel) >= _CLIPPED) for channel in samples)
        if channels == 2:
            first, second = samples.astype(np.float64)
            difference, total = first - second, first + second
            pairs = ((first, first), (second, second), (first, second), (difference, difference), (total, total))
            self._products += [float(a @ b) for a, b in pairs]


def _count_in_runs(is_high: NDArray[np.bool_]) -> int:
    """How many samples are in runs of at least `_CLIPPED_RUN`."""
    edges = np.diff(np.concatenate([[0], is_high.astype(np.int8), [0]]))
    lengths = np.flatnonzero(edges == -1) - np.flatnonzero(edges == 1)
    return int(lengths[lengths >= _CLIPPED_RUN].sum())
