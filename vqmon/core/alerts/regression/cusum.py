"""One series' control chart: a one-sided CUSUM of whitened, clipped residuals; numbers in, numbers out.

Per value x: r = (x - level) - phi (x' - level), psi = clip(r), z = (mean - psi) / deviation, S = max(0, S + z - k); an
alarm at S > h. After a missing segment r is (x - level) sqrt(1 - phi^2): nothing is imputed. k grows by the standard
error of the level, 1 / sqrt(number), so that a short baseline costs speed and not false alarms. In guarantee mode the
Shiryaev-Roberts e-detector M = (M + 1) exp(z - 1/2) alarms at M >= A: at most one false alarm in A values, whatever
their distribution, if z is sub-Gaussian with scale 1 (Shin, Ramdas, Rinaldo 2022).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vqmon.core.alerts.regression.baseline import BLOCK, CLIP, COLD, QUARTILE, Usual, learned, usual_of

CLIP_SPREADS = 3.0


def rank_residual(values: Sequence[float], settled: int) -> float:
    """How low the last value is, by the rank of its residual: mean 0, variance about 1 when nothing changes.

    It is ranked among the first `settled` values, those before what may be a change, at least three. Ranks are those of
    residuals after the lag-1 correlation of these values, which is taken larger by its standard error as too little
    whitening raises false alarms. Ranks need no distribution (Lombard and Van Zyl, Technologies 7 (2019) 71); the
    answer lies within +-sqrt(3).
    """
    known = np.asarray(values[:settled])
    level = float(np.partition(known, settled // 2)[settled // 2])
    away = known - level
    bound = CLIP_SPREADS * 1.4826 * float(np.partition(np.abs(away), settled // 2)[settled // 2])
    clipped = np.clip(away, -bound, bound)
    square = float(clipped @ clipped)
    memory = float(clipped[1:] @ clipped[:-1]) / square if square > 0.0 else 0.0
    memory = min(max(memory + 1.0 / math.sqrt(settled), 0.0), 0.95)
    residuals = away[1:] - memory * away[:-1]
    last = (values[-1] - level) - memory * (values[-2] - level)
    below = float(np.count_nonzero(residuals < last))
    equal = float(np.count_nonzero(residuals == last))
    return math.sqrt(12.0) * (0.5 - (below + (equal + 1.0) / 2.0) / (len(residuals) + 1.0))


LINKED_SECONDS = 0.5
"""Segments further apart than this do not follow each other."""

FORGET_SECONDS = 600.0
"""After a hole of this length what had gathered before it is no evidence any more."""

SHOCK = 8.0
"""Two residuals in a row beyond so many deviations, unclipped, are an alarm by themselves. At 6 heavy tails (t with 4
degrees of freedom) alone would use up the false alarms of 0.04 per stream-day."""

FAST = 1.25
"""Deviations: a sum that takes off so much per value is begun by a value before the change half as often."""

STEADY_SEGMENTS = 15
"""So many values in a row near the usual end an alarm, however slow the other evidence."""

FEWEST_BACK = 4.0
"""So many values at least show that a series is back."""

BLOCKS = 4
"""A lag is that many blocks long."""


class Tuning(NamedTuple):
    """What a rule chooses."""

    k: float = 0.5
    h: float = 11.5
    lag_seconds: float = 600.0
    longest: float = 21_600.0
    shortest: float = 30.0
    # points; half of it is near the usual
    delta_min: float = 2.5
    # ln(A + 1) of guarantee mode; 0 = CUSUM
    log_guarantee: float = 0.0


class Chart(NamedTuple):
    """What a series remembers; `Usual` and the blocks, or the first values while it is cold, lie behind it."""

    # h, or ln(A + 1) in guarantee mode: so that a page needs no rule to draw the chart
    limit: float = 0.0
    last: float = 0.0
    last_until: float = 0.0
    s: float = 0.0
    # ln(M + 1)
    log_m: float = 0.0
    # when S was last 0, and what came since: how many values, their sum, impact
    since_at: float = 0.0
    since_count: float = 0.0
    since_sum: float = 0.0
    since_impact: float = 0.0
    # the same of a second sum with k = FAST, whose beginning is nearer to that of a large drop
    fast: float = 0.0
    fast_at: float = 0.0
    fast_count: float = 0.0
    fast_sum: float = 0.0
    shocks: float = 0.0
    # while an alert is open: by how many deviations residuals are low, evidence that they are no more, steady values
    shift: float = 0.0
    back: float = 0.0
    back_at: float = 0.0
    steady: float = 0.0
    flaps: float = 0.0
    closed_at: float = 0.0
    # since when an alarm waits for what may explain it; 0 = no alarm
    held_at: float = 0.0


HOT = len(Chart._fields)
WARM = HOT + len(Usual._fields)
Memory = tuple[float, ...]

FRESH: Memory = (*Chart(), *Usual())


def parts(memory: Memory) -> tuple[Chart, Usual, Memory]:
    """A series' memory: its chart, its usual (number 0 while cold), and what lies behind them."""
    memory = memory or FRESH
    return Chart._make(memory[:HOT]), Usual._make(memory[HOT:WARM]), memory[WARM:]


def usual_now(memory: Memory) -> Usual | None:
    """What the series is held against; None while nothing is known."""
    _, usual, tail = parts(memory)
    return usual if usual.number else usual_of(tail) if len(tail) >= 3 else None


def step(tuning: Tuning, memory: Memory, x: float, *, at: float, until: float, impact: float) -> Memory:
    """The memory after one value more of a series without an open alert; times in seconds, rising."""
    memory = memory or FRESH
    chart = Chart._make(memory[:HOT])
    tail = memory[WARM:]
    gap = at - chart.last_until
    if not -FORGET_SECONDS < gap < FORGET_SECONDS:
        chart = chart._replace(s=0.0, log_m=0.0, since_count=0.0, fast=0.0, fast_count=0.0, shocks=0.0, held_at=0.0)
    is_linked = -LINKED_SECONDS <= gap <= LINKED_SECONDS
    if not memory[HOT]:
        return _cold(tuning, chart, tail, x, at=at, until=until, impact=impact)
    usual = Usual._make(memory[HOT:WARM])
    phi = usual.memory
    away = x - usual.level
    before = chart.last - usual.level
    residual = away - phi * before if is_linked else away * math.sqrt(1.0 - phi * phi)
    bound = CLIP * usual.scale
    clipped = -bound if residual < -bound else bound if residual > bound else residual
    deviation = math.sqrt(usual.variance)
    z = (usual.mean - clipped) / deviation
    is_shock = usual.mean - residual >= SHOCK * deviation
    gathered = chart.log_m if tuning.log_guarantee else chart.s
    if gathered <= (tuning.log_guarantee or tuning.h) / 2:
        usual, tail = _learn(tuning, usual, tail, (away, before if is_linked else 0.0, residual, clipped), at, until)
    chart = _gathered(tuning, chart, z, 1.0 / math.sqrt(usual.number), x, at=at, until=until, impact=impact)
    chart = chart._replace(shocks=chart.shocks + 1.0 if is_shock else 0.0)
    return (*chart, *usual, *tail)


def _gathered(
    tuning: Tuning, chart: Chart, z: float, unsure: float, x: float, *, at: float, until: float, impact: float
) -> Chart:
    """S, M and what came since the last moment at which the series was as usual."""
    s = max(0.0, chart.s + z - tuning.k - unsure)
    log_m = 0.0
    if tuning.log_guarantee:
        log_m = math.log1p(math.exp(min(chart.log_m + z - unsure - 0.5, 700.0)))
    if s <= 0.0:
        since = (until, 0.0, 0.0, 0.0)
    elif chart.since_count:
        since = (chart.since_at, chart.since_count + 1.0, chart.since_sum + x, chart.since_impact + impact)
    else:
        began = chart.since_at if 0.0 <= at - chart.since_at < FORGET_SECONDS else at
        since = (began, 1.0, x, impact)
    fast = chart.fast + z - FAST
    if fast <= 0.0 or s <= 0.0:
        faster = (0.0, until, 0.0, 0.0)
    else:
        fast_at = chart.fast_at if chart.fast_count else max(since[0], at)
        faster = (fast, fast_at, chart.fast_count + 1.0, chart.fast_sum + x)
    kept = (0.0, 0.0, 0.0, 0.0, chart.flaps, chart.closed_at, chart.held_at)
    return Chart(tuning.log_guarantee or tuning.h, x, until, s, log_m, *since, *faster, chart.shocks, *kept)


def _cold(
    tuning: Tuning, chart: Chart, values: Memory, x: float, *, at: float, until: float, impact: float
) -> Memory:  # fmt: skip
    """While nothing is known yet: sequential ranks of the residuals among themselves."""
    values = (*values, round(x, 3))
    if len(values) <= tuning.shortest:
        z, unsure = 0.0, 0.0
    else:
        known = max(len(values) - 1 - int(chart.since_count), int(tuning.shortest))
        z, unsure = rank_residual(values, known), 1.0 / math.sqrt(known)
    chart = _gathered(tuning, chart, z, unsure, x, at=at, until=until, impact=impact)
    if len(values) < COLD:
        return (*chart, *Usual(), *values)
    return (*chart, *usual_of(settled(chart, values)))


def settled(chart: Chart, values: Memory) -> Memory:
    """The first values without those since what may be a change."""
    return values[: max(len(values) - int(chart.since_count), len(values) // 2)]


def opened(memory: Memory, *, drop: float, flap_seconds: float, at: float) -> Memory:
    """The memory when an alert opens: what was learned since the change is forgotten, and nothing more is learned."""
    chart, usual, tail = parts(memory)
    if not usual.number:
        usual, tail = usual_of(settled(chart, tail)), ()
    blocks = [tail[start : start + BLOCK] for start in range(0, len(tail), BLOCK)]
    tail = tuple(number for block in blocks if block[1] <= chart.since_at + LINKED_SECONDS for number in block)
    shift = (1.0 - usual.memory) * drop / usual.deviation
    flaps = chart.flaps + 1.0 if chart.closed_at and abs(at - chart.closed_at) < flap_seconds else 0.0
    chart = chart._replace(
        shift=min(max(shift, 0.4), CLIP), back=0.0, back_at=0.0, steady=0.0, flaps=flaps, held_at=0.0
    )
    return (*chart, *usual, *tail)


def step_open(tuning: Tuning, memory: Memory, x: float, *, at: float, until: float) -> Memory:
    """The memory after one value more while the alert is open: evidence that residuals are usual rather than low."""
    chart, usual, tail = parts(memory)
    phi = usual.memory
    is_linked = abs(at - chart.last_until) <= LINKED_SECONDS
    away = x - usual.level
    residual = away - phi * (chart.last - usual.level) if is_linked else away * math.sqrt(1.0 - phi * phi)
    bound = CLIP * usual.scale
    z = (usual.mean - max(-bound, min(bound, residual))) / usual.deviation
    # Single good values, far out as they may be, are no recovery.
    most = 2.0 * tuning.k * tuning.h / FEWEST_BACK
    back = max(0.0, chart.back + min(chart.shift * (chart.shift / 2.0 - z), most))
    is_steady = away > -tuning.delta_min / 2.0
    chart = chart._replace(
        last=x,
        last_until=until,
        s=min(max(0.0, chart.s + z - tuning.k), 2.0 * tuning.h),
        back=back,
        back_at=chart.back_at if back > 0.0 and chart.back_at else at,
        steady=chart.steady + 1.0 if is_steady else 0.0,
    )
    return (*chart, *usual, *tail)


def is_alarm(tuning: Tuning, chart: Chart) -> bool:
    """Whether the evidence is enough."""
    if chart.shocks >= 2.0:
        return True
    return chart.log_m >= tuning.log_guarantee if tuning.log_guarantee else chart.s > tuning.h


def is_back(tuning: Tuning, chart: Chart) -> bool:
    """Whether the series is usual again; each time that it flapped asks for more evidence."""
    more = 1.0 + chart.flaps / 2.0
    return chart.back >= 2.0 * tuning.k * tuning.h * more or chart.steady >= STEADY_SEGMENTS * more


def calmed(memory: Memory, *, closed_at: float | None = None) -> Memory:
    """The memory when what had gathered is settled: an alert closed, or the change was too small to matter."""
    chart, usual, tail = parts(memory)
    chart = Chart(
        limit=chart.limit, last=chart.last, last_until=chart.last_until, since_at=chart.last_until,
        flaps=chart.flaps, closed_at=chart.closed_at if closed_at is None else closed_at,
    )  # fmt: skip
    return (*chart, *usual, *tail)


def _learn(
    tuning: Tuning, usual: Usual, tail: Memory, value: tuple[float, float, float, float], at: float, until: float
) -> tuple[Usual, Memory]:
    """A value goes into the newest block; the oldest one goes into the usual once the lag is over."""
    away, before, residual, clipped = value
    bound = CLIP * usual.spread
    bounded = -bound if away < -bound else bound if away > bound else away
    bounded_before = -bound if before < -bound else bound if before > bound else before
    began, _, count, signs, beyond, square, product, far, total, squares = tail[:BLOCK] if tail else (at, *_EMPTY)
    block = (
        began, until, count + 1.0, signs + (1.0 if away > 0.0 else -1.0 if away < 0.0 else 0.0),
        beyond + (abs(away) > QUARTILE * usual.spread), square + bounded * bounded, product + bounded * bounded_before,
        far + (abs(residual - usual.mean) > QUARTILE * usual.scale), total + clipped, squares + clipped * clipped,
    )  # fmt: skip
    older = tail[BLOCK:]
    if 0.0 <= until - began < tuning.lag_seconds / BLOCKS:
        return usual, (*block, *older)
    older = (*(round(number, 4) for number in block), *older)
    # A timeline that was set back must not keep a block for ever.
    while older and not 0.0 <= until - older[-BLOCK + 1] < tuning.lag_seconds:
        usual, older = learned(usual, older[-BLOCK:], longest=tuning.longest), older[:-BLOCK]
    return usual, (until, until, *_EMPTY[1:], *older)


_EMPTY: Sequence[float] = (0.0,) * (BLOCK - 1)
