"""The calibration of a scorer on an owner's data as one self-contained HTML file."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from markupsafe import Markup

from vqmon.core.evaluation.calibration_fit import FittedCalibration
from vqmon.web.charts.evaluation import interval_plot_of
from vqmon.web.site import STATIC, open_templates


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationReport:
    """What the report shows; `scores` are human scores on 0..100, one per item."""

    old: str
    new: str
    fitted: FittedCalibration
    scores: Sequence[float]
    old_error_rms: float
    remarks: Sequence[str] = ()


def render_calibration(report: CalibrationReport, *, title: str, now: datetime) -> str:
    """The calibration as HTML that loads nothing: style sheet and chart are part of it."""
    fitted = report.fitted
    return (
        open_templates(title)
        .get_template("calibration.html")
        .render(
            report=report,
            fitted=fitted,
            chart=interval_plot_of(fitted.interval, fitted.held_out_values, report.scores),
            now=now,
            css=Markup((STATIC / "vqmon.css").read_text(encoding="utf-8")),
        )
    )
