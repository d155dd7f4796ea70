"""The product's control chart over many series at once, in numpy, and the detectors that it is held against.

`ManyCharts` is `core.alerts.regression` value by value, with a series per column; a test holds the two together.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vqmon.core.alerts.conditions.chart import ChartParameters
from vqmon.core.alerts.regression.baseline import (
    BEYOND_LIMIT,
    CHANGE_FACTOR,
    FIRST_VALUES,
    HEAVY_TAILS,
    MIN_BLOCKS,
    MIN_SPREAD,
    TAIL_VALUES,
    limit_factor,
)
from vqmon.core.alerts.regression.change_point import FEW_VALUES, HIGH_DEVIATIONS, LOW_DEVIATIONS
from vqmon.core.alerts.regression.control_chart import DETECTED_SHARE, SPANS

Numbers = NDArray[np.float64]

SEGMENT_SECONDS = 4.0
_DAY_SECONDS = 86_400.0
_LENGTHS = np.array([1.0, *SPANS])
_SPANS = np.array(SPANS, dtype=float)[:, None]
_SHARES = 2.0 / (_SPANS + 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """Alerts that open at one segment: the series, and the drops with their intervals in points."""

    series: NDArray[np.int64]
    points: Numbers
    low: Numbers
    high: Numbers


@dataclass(slots=True, kw_only=True)
class ManyCharts:
    """Charts of many series; `step` takes a score of each, NaN for a missing one."""

    parameters: ChartParameters
    min_open_segments: int = 30
    first: list[Numbers] = field(default_factory=list)
    state: dict[str, Numbers] = field(default_factory=dict)

    @property
    def is_open(self) -> NDArray[np.bool_]:
        """Series with an open alert."""
        return np.asarray(self.state["is_open"], dtype=bool)

    @property
    def distances(self) -> Numbers:
        """From the usual level to the limits, in points: (spans, series)."""
        return self.state["level"] - self.state["limit"]

    def copy(self) -> "ManyCharts":
        """Charts that go on by themselves."""
        state = {name: figures.copy() for name, figures in self.state.items()}
        return ManyCharts(parameters=self.parameters, min_open_segments=self.min_open_segments, state=state)

    def step(self, scores: Numbers) -> Opened | None:
        """The alerts that open with one more segment of each series."""
        if not self.state:
            self.first.append(scores)
            if len(self.first) == FIRST_VALUES:
                self._start(np.array(self.first))
            return None
        self._learn(scores)
        self._end_blocks()
        self._resolve(~np.isnan(scores))
        return self._open(~np.isnan(scores))

    def _start(self, values: Numbers) -> None:
        level = np.nanmedian(values, axis=0)
        spread = np.maximum(1.4826 * np.nanmedian(np.abs(values - level), axis=0), MIN_SPREAD)
        filled = np.where(np.isnan(values), level, values)
        square = np.minimum(np.abs(filled - level), 4 * spread) ** 2
        averages = np.repeat(level[None], len(SPANS), axis=0)
        zeros, spans = np.zeros_like(level), np.zeros_like(averages)
        self.state = {
            "level": level, "spread": spread, "count": zeros + len(values), "square": square.mean(axis=0),
            "recent": filled[-4:], "average": averages, "lowest": averages.copy(), "low_mean": spans.copy(),
            "low_variance": spans.copy(), "limit": spans.copy(), "last_low": spans.copy(),
            "change_square": spans.copy(), "average_square": square.mean(axis=0) / _SPANS,
            "cusum": spans.copy(), "since": spans.copy(), "total": spans.copy(), "blocks": zeros.copy(),
            "in_block": zeros.copy(), "is_open": zeros.copy(), "index": zeros.copy(), "recovered": zeros.copy(),
            "open_for": zeros.copy(), "missing": zeros.copy(),
        }  # fmt: skip

    def _forget(self, present: NDArray[np.bool_]) -> None:
        """After ten minutes without a segment the averages begin again at the usual level."""
        state = self.state
        is_back = present & (state["missing"] * SEGMENT_SECONDS >= 600.0)
        state["missing"] = np.where(present, 0.0, state["missing"] + 1.0)
        if is_back.any():
            for name in ("average", "recent"):
                state[name] = np.where(is_back, state["level"], state[name])
            for name in ("cusum", "since", "total"):
                state[name] = np.where(is_back, 0.0, state[name])

    def _learn(self, scores: Numbers) -> None:
        state, present = self.state, ~np.isnan(scores)
        self._forget(present)
        values = np.where(present, scores, state["recent"][-1])
        window = np.concatenate([state["recent"], values[None]])
        middle = np.partition(window, 2, axis=0)[2]
        state["recent"] = np.where(present, window[1:], state["recent"])
        count = np.minimum(state["count"] + 1.0, self.parameters.baseline_segments)
        share, deviation = np.where(present, 1.0 / count, 0.0), values - state["level"]
        distance = np.minimum(np.abs(deviation), 4.0 * state["spread"])
        is_beyond = distance > 0.6745 * state["spread"]
        state["count"] = np.where(present, count, state["count"])
        state["square"] += share * (distance**2 - state["square"])
        state["level"] = state["level"] + share * 1.2533 * state["spread"] * np.sign(deviation)
        state["spread"] = np.maximum(state["spread"] * (1.0 + 2.3326 * share * (is_beyond - 0.5)), MIN_SPREAD)
        has_limits = state["blocks"] >= MIN_BLOCKS
        is_bounded = has_limits & (state["count"] >= TAIL_VALUES) & ~self.is_open
        is_bounded &= state["square"] > HEAVY_TAILS * state["spread"] ** 2
        step = np.where(is_bounded, np.maximum(self.distances[0], 1e-6) / DETECTED_SHARE, np.inf)
        lowest = state["level"] - step
        state["average"] += np.where(present, _SHARES, 0.0) * (np.maximum(middle, lowest) - state["average"])
        state["lowest"] = np.minimum(state["lowest"], state["average"])
        away = state["average"] - state["level"]
        state["average_square"] += share * (away**2 - state["average_square"])
        wanted = np.where(has_limits, self.distances, 0.0)
        half = np.maximum(wanted, self.parameters.delta_min) / 2.0
        cusum = np.maximum(0.0, state["cusum"] + state["level"] - half - values)
        state["cusum"] = np.where(present, cusum, state["cusum"])
        is_low = state["cusum"] > 0.0
        state["since"] = np.where(is_low, state["since"] + present, 0.0)
        state["total"] = np.where(is_low, state["total"] + np.where(present, values, 0.0), 0.0)
        state["in_block"] += present

    def _end_blocks(self) -> None:
        state, parameters = self.state, self.parameters
        ended = np.flatnonzero(state["in_block"] >= parameters.block_seconds / SEGMENT_SECONDS)
        if not ended.size:
            return
        before = state["blocks"][ended]
        lowest, limit = state["lowest"][:, ended], state["limit"][:, ended]
        last = state["last_low"][:, ended]
        beyond = limit - BEYOND_LIMIT * (np.minimum(state["low_mean"][:, ended], last) - limit)
        lowest = np.where(before >= MIN_BLOCKS, np.maximum(lowest, beyond), lowest)
        blocks = before + 1.0
        count = np.minimum(blocks, 48.0)
        share, difference = 1.0 / count, lowest - state["low_mean"][:, ended]
        state["low_mean"][:, ended] += share * difference
        variance = (1.0 - share) * (state["low_variance"][:, ended] + share * difference**2)
        state["low_variance"][:, ended] = variance
        square = state["change_square"][:, ended]
        square += np.where(before, (lowest - last) ** 2 - square, 0.0) / np.maximum(count - 1.0, 1.0)
        state["change_square"][:, ended], state["last_low"][:, ended] = square, lowest
        rate = parameters.block_seconds / _DAY_SECONDS / parameters.false_alarm_days
        factors = {one: limit_factor(one, rate) for one in np.unique(np.maximum(count, MIN_BLOCKS))}
        factor = np.array([factors[max(one, MIN_BLOCKS)] for one in count])
        deviation = np.maximum(np.sqrt(variance * count / np.maximum(count - 1.0, 1.0)), MIN_SPREAD)
        highest = state["level"][ended] - parameters.delta_min / 2.0
        from_last = lowest - CHANGE_FACTOR * factor * np.maximum(np.sqrt(square), MIN_SPREAD)
        limit = np.maximum(state["low_mean"][:, ended] - factor * deviation, from_last)
        state["limit"][:, ended] = np.minimum(limit, highest)
        state["blocks"][ended] = blocks
        state["in_block"][ended] = 0.0
        state["lowest"][:, ended] = state["average"][:, ended]

    def _resolve(self, present: NDArray[np.bool_]) -> None:
        state = self.state
        if not state["is_open"].any():
            return
        state["open_for"] += state["is_open"] * present
        series = np.arange(len(state["level"]))
        own = state["average"][state["index"].astype(int), series]
        over = self.is_open & (own >= state["recovered"]) & (state["open_for"] >= self.min_open_segments)
        is_longer = np.arange(len(SPANS))[:, None] > state["index"]
        state["average"] = np.where(over & is_longer, np.maximum(own, state["limit"]), state["average"])
        for name in ("cusum", "since", "total"):
            state[name] = np.where(over, 0.0, state[name])
        state["is_open"] = np.where(over, 0.0, state["is_open"])

    def _open(self, present: NDArray[np.bool_]) -> Opened | None:
        state = self.state
        mean = state["total"] / np.maximum(state["since"], 1.0)
        points = state["level"] - mean
        values_per_block = self.parameters.block_seconds / SEGMENT_SECONDS
        is_used = values_per_block >= 1.25 * _SPANS
        is_low = (state["average"] < state["limit"]) & (state["since"] > 0) & (state["blocks"] >= MIN_BLOCKS)
        is_low &= is_used & (points >= self.parameters.delta_min) & present
        series = np.flatnonzero(is_low.any(axis=0) & ~self.is_open)
        if not series.size:
            return None
        index = np.argmax(is_low[:, series], axis=0)
        drop, error = points[index, series], self._errors(index, series)
        state["is_open"][series], state["open_for"][series] = 1.0, 0.0
        state["index"][series] = index
        state["recovered"][series] = state["level"][series] - 0.25 * drop
        state["average"][index, series] = np.minimum(state["average"][index, series], state["recovered"][series])
        since = state["since"][index, series]
        high = drop + HIGH_DEVIATIONS * error + drop / np.maximum(since - 1.0, 1.0)
        latest = state["level"][series] - np.median(state["recent"][:, series], axis=0)
        high = np.where(since <= FEW_VALUES, np.maximum(high, latest + error), high)
        shown = state["level"] - state["average"] + np.sqrt(state["average_square"])
        is_shorter = np.arange(len(SPANS))[:, None] < index
        high = np.maximum(high, np.where(is_shorter, shown[:, series], -np.inf).max(axis=0))
        return Opened(series=series, points=drop, low=drop - LOW_DEVIATIONS * error, high=high)

    def _errors(self, index: NDArray[np.int64], series: NDArray[np.int64]) -> Numbers:
        state = self.state
        squares = np.concatenate([state["square"][None], state["average_square"]])[:, series]
        counts = state["since"][index, series]
        longest = squares[-1] * SPANS[-1] / np.maximum(state["count"][series], SPANS[-1])
        variances = [
            np.exp(np.interp(np.log(count), np.log(_LENGTHS), np.log(np.maximum(square, 1e-9))))
            if count < SPANS[-1]
            else square[-1] * SPANS[-1] / count
            for count, square in zip(counts, squares.T, strict=True)
        ]
        return np.sqrt(np.array(variances) + longest)


class ManyPeers:
    """Detectors that a day's scores are given, then more; alarms per segment as (series,) booleans by name."""

    def __init__(self, baseline: Numbers) -> None:
        self.mean, self.deviation = np.nanmean(baseline, axis=0), np.maximum(np.nanstd(baseline, axis=0), 0.05)
        self.share = 0.05
        self.run = np.zeros_like(self.mean)
        self.average, self.sum, self.count, self.running = self.mean.copy(), 0 * self.mean, 0 * self.mean, 0 * self.mean
        self.lowest = 0 * self.mean
        low = average = self.mean.copy()
        square = 0 * self.mean
        for scores in baseline:
            average = np.where(np.isnan(scores), average, average + self.share * (scores - average))
            low, square = np.minimum(low, average), square + (average - self.mean) ** 2 / len(baseline)
        self.limit = low - np.sqrt(square)

    def step(self, scores: Numbers) -> dict[str, NDArray[np.bool_]]:
        """Threshold: 5 in a row below 2 deviations; EWMA of 0.05 below the lowest of the day by a deviation of its own;

        Page-Hinkley with river's defaults (delta 0.005, threshold 50, of z-scores).
        """
        present = ~np.isnan(scores)
        is_low = scores < self.mean - 2.0 * self.deviation
        self.run = np.where(present, np.where(is_low, self.run + 1, 0), self.run)
        threshold = self.run == 5
        before = self.average < self.limit
        self.average = np.where(present, self.average + self.share * (scores - self.average), self.average)
        ewma = (self.average < self.limit) & ~before
        z = np.where(present, (scores - self.mean) / self.deviation, self.running)
        self.count += 1
        self.running += (z - self.running) / self.count
        self.sum = 0.9999 * self.sum + z - self.running + 0.005
        self.lowest = np.maximum(self.lowest, self.sum)
        page_hinkley = (self.lowest - self.sum > 50) & (self.count >= 30)
        for figures in (self.sum, self.count, self.running, self.lowest):
            figures[page_hinkley] = 0.0
        return {"threshold": threshold, "EWMA": ewma, "Page-Hinkley": page_hinkley}
