"""An evaluation of scorers as one self-contained HTML file."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from markupsafe import Markup

from vqmon.core.evaluation.results import STATISTICS, Evaluation, Outlier, PairedTests, ScorerResult
from vqmon.web.charts.evaluation import reliability_plot, residual_plot, scatter_plot
from vqmon.web.site import STATIC, open_templates

_MAX_PICTURES = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationReport:
    """What the report shows; sequences have one entry per evaluated item."""

    evaluation: Evaluation
    # e.g. "KonIQ-10k: koniq10k_scores_and_distributions.csv"
    data: str
    scores: Sequence[float]
    # by scorer
    predictions: Mapping[str, Sequence[float]]
    # name -> JPEG of the items that scorers and people see differently
    pictures: Mapping[str, bytes]
    # sentences about what was left out, e.g. items that could not be scored
    remarks: Sequence[str] = ()


def render_evaluation(report: EvaluationReport, *, title: str, now: datetime) -> str:
    """The evaluation as HTML that loads nothing: style sheet, charts and pictures are part of it."""
    evaluation = report.evaluation
    template = open_templates(title).get_template("evaluation.html")
    return template.render(
        report=report,
        evaluation=evaluation,
        statistics=STATISTICS,
        now=now,
        css=Markup((STATIC / "vqmon.css").read_text(encoding="utf-8")),
        sections=[_section(report, result) for result in evaluation.scorers],
        sentences=[comparison_sentence(pair) for pair in evaluation.comparisons],
    )


def pictured_outliers(result: ScorerResult) -> Sequence[Outlier]:
    """The outliers of a scorer that the report shows as pictures, the worst first."""
    return result.outliers[:_MAX_PICTURES]


def comparison_sentence(pair: PairedTests) -> str:
    """Which of two scorers agrees better with people, by SRCC and by PLCC, and how sure that is."""
    return " ".join(_statistic_sentence(pair, statistic) for statistic in ("srcc", "plcc"))


def _statistic_sentence(pair: PairedTests, statistic: str) -> str:
    name = statistic.upper()
    test = next(test for test in pair.tests if test.statistic == statistic)
    value, low, high = test.difference.value, test.difference.low, test.difference.high
    if value is None or low is None or high is None:
        return f"By {name}, {pair.first} and {pair.second} cannot be compared."
    better, worse = (pair.first, pair.second) if value >= 0 else (pair.second, pair.first)
    interval = f"{name} {pair.first} − {pair.second}: {value:+.3f} ({low:+.3f} to {high:+.3f})"
    if test.p_holm is not None and test.p_holm <= 0.05:
        return f"By {name}, {better} agrees better with people than {worse} ({interval})."
    return f"By {name}, no difference between {pair.first} and {pair.second} is shown ({interval})."


def _section(report: EvaluationReport, result: ScorerResult) -> dict[str, object]:
    predictions = report.predictions[result.scorer]
    return {
        "result": result,
        "scatter": scatter_plot(result, predictions, report.scores),
        "residuals": residual_plot(result, predictions, report.scores),
        "reliability": reliability_plot(result),
        "outliers": [(outlier, _picture_url(report, outlier)) for outlier in pictured_outliers(result)],
    }


def _picture_url(report: EvaluationReport, outlier: Outlier) -> str:
    picture = report.pictures.get(outlier.item)
    return f"data:image/jpeg;base64,{b64encode(picture).decode()}" if picture else ""
