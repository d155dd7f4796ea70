"""A ladder as one PNG: the verdicts in words, and the rate-quality curves of every subject."""

import math
from collections.abc import Sequence
from textwrap import wrap

from vqmon.core.evaluation.ladder.analysis import LadderAnalysis
from vqmon.web.charts.ladder.curves import RateQualityChart, rate_quality_charts, rate_ticks
from vqmon.web.charts.ladder.raster import Canvas, Colour
from vqmon.web.charts.svg import format_number, vertical_scale

_WIDTH, _MARGIN = 1440, 40
_PANEL_WIDTH, _PANEL_HEIGHT = 680, 400
_LINE_HEIGHT = 26
_MAX_CHARACTERS = 118

_INK: Colour = (27, 33, 38)
_SOFT: Colour = (86, 95, 104)
_GRID: Colour = (223, 223, 217)
_ANSWERS: dict[str, Colour] = {"yes": (29, 115, 70), "no": (179, 38, 30), "unclear": (138, 90, 0)}
# those of the style sheet
_SERIES: Sequence[Colour] = ((11, 106, 148), (176, 79, 22), (98, 71, 160), (47, 115, 48), (165, 48, 106), (106, 99, 0))
_DASHES: Sequence[Sequence[float]] = ((), (14, 6), (4, 6), (18, 6, 4, 6), (8, 4), (2, 4))


def draw_ladder(analysis: LadderAnalysis, *, title: str) -> bytes:
    """The picture as PNG, 1440 px wide."""
    charts = rate_quality_charts(analysis)
    lines = [
        (line, _ANSWERS[statement.answer])
        for verdict in analysis.verdicts
        for statement in verdict.statements
        for line in wrap(statement.text, _MAX_CHARACTERS)
    ]
    head = 70 + _LINE_HEIGHT * (len(lines) + 1)
    rows = math.ceil(len(charts) / 2)
    canvas = Canvas(_WIDTH, head + rows * _PANEL_HEIGHT + 20)
    canvas.text((_MARGIN, 48), f"Ladder of {title}", _INK, size=18)
    for index, (line, colour) in enumerate(lines):
        canvas.text((_MARGIN, 84 + _LINE_HEIGHT * index), line, colour, size=11)
    _draw_legend(canvas, charts[0], y=head - 12)
    for index, chart in enumerate(charts):
        left = _MARGIN + (index % 2) * (_PANEL_WIDTH + 10)
        _draw_chart(canvas, chart, left=left, top=head + index // 2 * _PANEL_HEIGHT)
    return canvas.png()


def _draw_legend(canvas: Canvas, chart: RateQualityChart, *, y: float) -> None:
    x = float(_MARGIN)
    step = min(190.0, (_WIDTH - 2 * _MARGIN) / len(chart.series))
    for series in chart.series:
        colour = _SERIES[series.colour]
        canvas.line([(x, y - 5), (x + 34, y - 5)], colour, width=2.2, dash=_DASHES[series.dash])
        canvas.text((x + 42, y), series.name, _INK, size=10)
        x += step


def _draw_chart(canvas: Canvas, chart: RateQualityChart, *, left: float, top: float) -> None:
    subject = chart.subject
    x0, x1, y0, y1 = left + 62, left + _PANEL_WIDTH - 14, top + 44, top + _PANEL_HEIGHT - 44
    unit = f", {subject.unit}" if subject.unit else ""
    better = "" if subject.higher_is_better else ", lower is better"
    canvas.text((x0, top + 30), f"{subject.name}{unit}{better}, over kb/s", _INK, size=12)
    low, high = chart.rate_range
    value_low, value_high = chart.value_range

    def to_point(rate: float, value: float) -> tuple[float, float]:
        across = math.log(rate / low) / math.log(high / low)
        up = (value - value_low) / (value_high - value_low)
        up = up if subject.higher_is_better else 1 - up
        return x0 + across * (x1 - x0), y1 - up * (y1 - y0)

    for tick in vertical_scale(value_low, value_high).ticks():
        y = to_point(low, float(tick.label.replace("−", "-")))[1]
        canvas.line([(x0, y), (x1, y)], _GRID, width=1)
        canvas.text((x0 - 8, y + 4), format_number(float(tick.label.replace("−", "-"))), _SOFT, size=9, anchor=1)
    for rate in rate_ticks(low, high):
        x = to_point(rate, value_low)[0]
        canvas.line([(x, y1), (x, y1 + 5)], _SOFT, width=1)
        canvas.text((x, y1 + 22), f"{rate:,.10g}", _SOFT, size=9, anchor=0.5)
    canvas.line([(x0, y1), (x1, y1)], _SOFT, width=1)
    for _, points in chart.hulls:
        canvas.line([to_point(*point) for point in points], _SOFT, width=9, alpha=0.16)
    for series in chart.series:
        places = [to_point(*point) for point in series.points]
        canvas.line(places, _SERIES[series.colour], width=2.2, dash=_DASHES[series.dash])
        for place in places:
            canvas.dot(place, _SERIES[series.colour], width=7)
