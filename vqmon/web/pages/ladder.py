"""A ladder of encodes as one self-contained HTML file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from markupsafe import Markup

from vqmon.core.evaluation.ladder.analysis import LadderAnalysis
from vqmon.core.evaluation.ladder.curves import BdRate, CurveResult
from vqmon.web.charts.ladder.curves import chart_plot, ladder_series, rate_quality_charts
from vqmon.web.site import STATIC, open_templates

_ANSWER_CLASSES = {"yes": "good", "no": "failing", "unclear": "stale"}


@dataclass(frozen=True, slots=True, kw_only=True)
class LadderReport:
    """What the report shows."""

    analysis: LadderAnalysis
    # name of the clip
    clip: str
    # how the ladder was made, name -> text
    facts: Mapping[str, str]
    remarks: Sequence[str] = ()


def render_ladder(report: LadderReport, *, title: str, now: datetime) -> str:
    """The ladder as HTML that loads nothing: style sheet and charts are part of it."""
    analysis = report.analysis
    return (
        open_templates(title)
        .get_template("ladder.html")
        .render(
            report=report,
            analysis=analysis,
            ladder=analysis.ladder,
            answer_classes=_ANSWER_CLASSES,
            format_quality=format_quality,
            charts=[(chart.subject, chart_plot(chart)) for chart in rate_quality_charts(analysis)],
            legend=ladder_series(analysis.ladder, analysis.ladder.subjects[0]),
            curve_rows=list(_curve_rows(analysis).items()),
            bd_sizes=list(dict.fromkeys(rate.lines for rate in analysis.bd_rates)),
            bd_rows=list(_bd_rows(analysis).items()),
            now=now,
            css=Markup((STATIC / "vqmon.css").read_text(encoding="utf-8")),
        )
    )


def format_quality(value: float) -> str:
    """Four significant digits, so that scores, decibels and similarities can all be distinguished.

    >>> format_quality(78.123456), format_quality(0.98765432), format_quality(0.0)
    ('78.12', '0.9877', '0')
    """
    return f"{value:.4g}"


def _curve_rows(analysis: LadderAnalysis) -> dict[str, list[CurveResult]]:
    """Name of the curve -> its results, in the order of the subjects."""
    rows: dict[str, list[CurveResult]] = {}
    for result in analysis.curves:
        rows.setdefault(f"{result.codec} {result.lines}p", []).append(result)
    return rows


def _bd_rows(analysis: LadderAnalysis) -> dict[tuple[str, str, str], dict[int | None, BdRate]]:
    """(test, anchor, subject) -> size -> BD-rate; the size None stands for the convex hulls."""
    rows: dict[tuple[str, str, str], dict[int | None, BdRate]] = {}
    for rate in analysis.bd_rates:
        rows.setdefault((rate.test, rate.anchor, rate.subject), {})[rate.lines] = rate
    return rows
