"""What the rules make of a stream's series now: the usual with its band, and the evidence of a drop as it gathered."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vqmon.core.alerts.annotations import Marker
from vqmon.core.alerts.regression.baseline import CLIP, Usual
from vqmon.core.alerts.regression.chart_status import Charted, chart_of
from vqmon.core.alerts.regression.cusum import LINKED_SECONDS, Tuning, usual_now
from vqmon.core.alerts.state import AlertState, State
from vqmon.core.timeline import TimelinePoint
from vqmon.web.charts.series import Lines
from vqmon.web.charts.svg import Plot, Rule, Shape, down, joined, moment_scale, time_ticks
from vqmon.web.model.time_range import Range

MAX_MARKERS = 200
PHASES = {"learning": "stale", "ok": "good", "pending": "degraded", "firing": "failing", "resolving": "degraded"}
"""Phase of a series -> the shape and colour that it is shown with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """One series of one rule."""

    it: Charted
    rendition: str
    # what is followed, e.g. "lite", or "lite~1080p" for a difference
    what: str
    usual: Usual | None
    shape: str
    # of the limit, 0..100
    evidence_percent: float

    @property
    def is_difference(self) -> bool:
        return "~" in self.what


def watches_of(states: Mapping[str, State], stream_id: str, renditions: Iterable[str]) -> list[Watch]:
    """The series of regression rules, by rendition, rule and series."""
    names = sorted(renditions, key=len, reverse=True)
    found = []
    for state in states.values():
        charted = chart_of(state) if isinstance(state, AlertState) else None
        rest = state.series.removeprefix(f"{stream_id}/") if isinstance(state, AlertState) else ""
        name = next((name for name in names if rest.startswith(f"{name}/")), None)
        if charted is None or name is None or not isinstance(state, AlertState):
            continue
        found.append(_watch(charted, state, name, rest.removeprefix(f"{name}/")))
    return sorted(found, key=lambda watch: (watch.rendition, watch.it.rule, watch.it.series))


def _watch(charted: Charted, state: AlertState, rendition: str, what: str) -> Watch:
    share = 100 * charted.evidence / charted.limit if charted.limit else 0.0
    return Watch(
        it=charted,
        rendition=rendition,
        what=what,
        usual=usual_now(state.memory),
        shape=PHASES[charted.phase],
        evidence_percent=min(100.0, max(0.0, share)),
    )


def bands_of(watches: Iterable[Watch], scorer: str) -> list[dict[str, Any]]:
    """The usual of each rendition by this scorer, for the chart of scores; the first rule's where there are several."""
    bands: dict[str, dict[str, Any]] = {}
    for watch in watches:
        if not watch.is_difference and watch.what == scorer.split("@")[0] and watch.it.usual is not None:
            band = {"rendition": watch.rendition, "usual": watch.it.usual, "low": watch.it.low, "high": watch.it.high}
            bands.setdefault(watch.rendition, band)
    return list(bands.values())


def markers_of(markers: Iterable[Marker], stream_id: str, renditions: Sequence[str], span: Range) -> list[Marker]:
    """What was changed on purpose to any of these, within the range."""
    return [
        it
        for it in markers
        if span.begins_at <= it.at <= span.ends_at and any(it.fits(stream_id, name) for name in renditions)
    ]


def evidence_plot(watches: Sequence[Watch], lines: Lines, scorer: str, span: Range) -> Plot | None:
    """The evidence of a drop over the points shown, with the usual of now; None when there is nothing to draw."""
    x = moment_scale(span.begins_at, span.ends_at)
    own = [it for it in watches if not it.is_difference and it.what == scorer.split("@")[0] and it.usual]
    limit = max((it.it.limit for it in own), default=0.0)
    if not own or limit <= 0:
        return None
    y = down(0.0, 1.6 * limit, height=120)
    order = list(lines)
    shapes = []
    for watch in own:
        number = order.index(watch.rendition) % 6
        sums = gathered(lines[watch.rendition], scorer, watch.usual) if watch.usual else []
        places = [(x(at), y(value)) for at, value in sums]
        shapes.append(Shape(path=joined(places), look=f"s c{number} d{number}"))
    return Plot(
        label=f"Evidence that {scorer} fell under its usual, as sums of deviations (CUSUM), "
        f"worked out anew over the segments shown with the usual of now. A rule alarms at {limit:g}.",
        height=120,
        y_ticks=y.ticks(count=3),
        x_ticks=time_ticks(span.begins_at, span.ends_at),
        shapes=shapes,
        rules=[Rule(look="margin", y=y(limit), label="alarm")],
    )


def gathered(points: Sequence[TimelinePoint], scorer: str, usual: Usual) -> list[tuple[float, float]]:
    """(seconds since 1970, S) per scored point: the sum of `core.cusum` with its default k and one usual for all."""
    found: list[tuple[float, float]] = []
    deviation, bound = usual.deviation, CLIP * usual.scale
    # As there, a usual that rests on little asks for more.
    k = Tuning().k + 1.0 / max(usual.number, 1.0) ** 0.5
    total, last, last_at, length = 0.0, 0.0, 0.0, 0.0
    for point in points:
        value = point.scores.get(scorer)
        if value is None or deviation <= 0:
            continue
        at = point.starts_at.timestamp()
        step = at - last_at
        is_linked = bool(found) and (not length or abs(step - length) <= LINKED_SECONDS)
        length = step if found else 0.0
        away, phi = value - usual.level, usual.memory
        residual = away - phi * (last - usual.level) if is_linked else away * (1.0 - phi * phi) ** 0.5
        z = (usual.mean - min(bound, max(-bound, residual))) / deviation
        total = max(0.0, total + z - k)
        found.append((at, total))
        last, last_at = value, at
    return found
