"""The drawings of an experiment: interval over time, one line per content, distributions of the arms."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from vqmon.core.experiments.definition import Experiment
from vqmon.core.experiments.results import (
    HISTOGRAM_BINS,
    ArmSummary,
    ClusterDifference,
    ConfidenceSequencePoint,
    Effect,
)
from vqmon.web.charts.svg import (
    Plot,
    Rule,
    Scale,
    Shape,
    Tick,
    across,
    around,
    down,
    joined,
    moment_scale,
    ribbon,
    signed,
    time_ticks,
)

MAX_PLACES = 400
"""Points of the interval that are drawn; the file holds them all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForestLine:
    """One content: its numbers, and where they stand in a drawing 100 wide."""

    it: ClusterDifference
    x: float
    low_x: float
    high_x: float
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Forest:
    """All contents on one axis, with the mean of them all below."""

    lines: Sequence[ForestLine]
    ticks: Sequence[Tick]
    zero_x: float
    whole: ForestLine | None


def interval_plot(effect: Effect, it: Experiment, names: tuple[str, str]) -> Plot | None:
    """The any-time interval as it grew; None before the first point."""
    places = thinned(effect.over_time)
    if not places:
        return None
    bounds = [value for point in places for value in (point.low, point.high, point.mean) if value is not None]
    # The first intervals are wide: the later half sets the scale, what is beyond is cut off at the edge.
    late = [v for point in places[len(places) // 2 :] for v in (point.low, point.high) if v is not None]
    low, high = around([*(late or bounds), -it.margin, it.margin], least=0.5)
    begins_at, ends_at = places[0].at, max(places[-1].at, places[0].at + timedelta(seconds=1))
    x, y = moment_scale(begins_at, ends_at), down(low, high)
    band = [
        (x(point.at.timestamp()), y(point.high), y(point.low))
        for point in places
        if point.low is not None and point.high is not None
    ]
    return Plot(
        label=interval_sentence(effect, it, names),
        height=240,
        y_ticks=y.ticks(),
        x_ticks=time_ticks(begins_at, ends_at),
        shapes=[
            Shape(path=ribbon(band), look="band"),
            Shape(path=joined((x(point.at.timestamp()), y(point.mean)) for point in places), look="s c0"),
        ],
        rules=_rules(it, y),
    )


def _rules(it: Experiment, y: Scale) -> list[Rule]:
    rules = [
        Rule(look="zero", y=y(0.0), label="no difference"),
        Rule(look="margin", y=y(-it.margin), label=f"margin {signed(-it.margin)}"),
        Rule(look="margin", y=y(it.margin)),
    ]
    if it.delta_min > 0:
        rules.append(Rule(look="aim", y=y(it.delta_min), label=f"worth it from {signed(it.delta_min)}"))
    return rules


def interval_sentence(effect: Effect, it: Experiment, names: tuple[str, str]) -> str:
    """The drawing in words."""
    arm, control = names
    first = next((point for point in effect.over_time if point.low is not None), None)
    if effect.reading is not None and effect.reading.kind == "final":
        now = effect.reading
        return (
            f"{arm} minus {control} by {effect.scorer} as the data came in; read once, at the planned "
            f"{it.planned_clusters} clusters: {signed(now.mean)} ({signed(now.low)} to {signed(now.high)})."
        )
    if effect.anytime is None or first is None:
        return f"{effect.scorer}: {effect.clusters} of {it.planned_clusters} planned clusters; no interval to read yet."
    now = effect.anytime
    return (
        f"{arm} minus {control} by {effect.scorer} as the data came in: first read at {first.clusters} clusters, now "
        f"{signed(now.mean)} ({signed(now.low)} to {signed(now.high)}) over {effect.clusters}. The band holds the true "
        f"difference at every look with {100 * now.level:g} % confidence."
    )


def thinned(points: Sequence[ConfidenceSequencePoint]) -> list[ConfidenceSequencePoint]:
    """At most MAX_PLACES of them, the last one included."""
    each = -(-len(points) // MAX_PLACES) or 1
    kept = list(points[::each])
    return kept if not points or kept[-1] is points[-1] else [*kept, points[-1]]


def forest(effect: Effect) -> Forest | None:
    """One line per content, the worst for the arm first; None when there is none."""
    if not effect.by_cluster:
        return None
    ends = [v for it in effect.by_cluster for v in (it.low, it.high, it.difference) if v is not None]
    low, high = around(ends)
    x = across(low, high)
    whole = None
    if effect.reading is not None:
        now = effect.reading
        summary = ClusterDifference(
            cluster="all",
            segments=effect.segments,
            control_mean=0.0,
            arm_mean=0.0,
            difference=now.mean,
            low=now.low,
            high=now.high,
        )
        whole = _line(summary, x)
    return Forest(lines=[_line(it, x) for it in effect.by_cluster], ticks=x.ticks(), zero_x=x(0.0), whole=whole)


def _line(it: ClusterDifference, x: Scale) -> ForestLine:
    low = it.difference if it.low is None else it.low
    high = it.difference if it.high is None else it.high
    words = signed(it.difference) if it.low is None else f"{signed(it.difference)} ({signed(low)} to {signed(high)})"
    return ForestLine(it=it, x=x(it.difference), low_x=x(low), high_x=x(high), words=words)


def scorers_in(arms: Sequence[ArmSummary]) -> list[str]:
    """Every scorer that an arm has a distribution of."""
    return list(dict.fromkeys(name for arm in arms for name in arm.histogram))


def distribution_plot(arms: Sequence[ArmSummary], scorer: str) -> Plot | None:
    """How many segments of each arm have which score, in shares of the arm; None without a score."""
    shares = {arm.arm: shares_of(arm.histogram.get(scorer, ())) for arm in arms}
    most = max((max(line, default=0.0) for line in shares.values()), default=0.0)
    if most == 0:
        return None
    low, high = _held({name: line for name, line in shares.items() if line})
    x, y = across(low, high), down(0.0, 100 * most * 1.05, height=180)
    shapes = [
        Shape(path=_steps(line, x, y), look=f"s c{index % 6} d{index % 6}")
        for index, line in enumerate(shares.values())
    ]
    told = ", ".join(f"{arm.arm} mean {arm.mean[scorer]:.1f}" for arm in arms if scorer in arm.mean)
    return Plot(
        label=f"Share of each arm's segments by their score of {scorer}, in percent: {told}.",
        height=180,
        y_ticks=y.ticks(count=4),
        x_ticks=[tick for tick in x.ticks(count=8) if 2 <= tick.place <= 98],
        shapes=shapes,
    )


def shares_of(counts: Sequence[int]) -> list[float]:
    """Each part's share of all, 0..1."""
    total = sum(counts)
    return [count / total for count in counts] if total else []


def _held(shares: dict[str, list[float]]) -> tuple[float, float]:
    """The part of 0..100 that holds anything, with a bin to each side."""
    filled = [place for line in shares.values() for place, share in enumerate(line) if share]
    width = 100 / HISTOGRAM_BINS
    return max(0.0, (min(filled) - 1) * width), min(100.0, (max(filled) + 2) * width)


def _steps(shares: Sequence[float], x: Scale, y: Scale) -> str:
    width = 100 / HISTOGRAM_BINS
    places: list[tuple[float, float | None]] = []
    for number, share in enumerate(shares):
        if x.low <= number * width < x.high:
            places += [(x(number * width), y(100 * share)), (x((number + 1) * width), y(100 * share))]
    return joined(places)
