"""The report of an evaluation as one HTML file."""

import re

import numpy as np
import pytest

from tests.web import seed
from vqmon.core.evaluation.evaluation import RatedItems, evaluate
from vqmon.web.pages.evaluation import EvaluationReport, comparison_sentence, render_evaluation


@pytest.fixture(scope="module")
def report() -> EvaluationReport:
    return make_report()


def make_report() -> EvaluationReport:
    rng = np.random.default_rng(1)
    quality = rng.normal(size=60)
    items = RatedItems(
        names=[f"<{index}>.png" for index in range(60)],
        scores=50 + 20 * np.tanh(quality),
        groups=[f"x{index % 2}" for index in range(60)],
    )
    predictions = {"good@1": quality + 0.2 * rng.normal(size=60), "bad@1": quality + 2 * rng.normal(size=60)}
    evaluation = evaluate(items, predictions, draws=100)
    return EvaluationReport(
        evaluation=evaluation,
        data="plain CSV: scores.csv",
        scores=items.scores.tolist(),
        predictions={name: values.tolist() for name, values in predictions.items()},
        pictures={evaluation.scorers[0].outliers[0].item: b"jpeg"},
        remarks=["2 files could not be scored (corrupt)."],
    )


def test_a_report_loads_nothing(report: EvaluationReport) -> None:
    """Style sheet, charts and pictures are part of it; there is no script; names are escaped."""
    text = render_evaluation(report, title="vqmon", now=seed.NOW)
    assert not re.search(r"<(script|link|iframe)\b|\bsrc=\"(?!data:image/jpeg;base64,)", text)
    assert text.count('<img src="data:image/jpeg;base64,anBlZw=="') >= 1
    assert "&lt;" in text
    assert not re.search(r"<\d+>\.png", text)


def test_a_report_has_statistics_charts_groups_and_outliers_of_every_scorer(report: EvaluationReport) -> None:
    """And says what was left out."""
    text = render_evaluation(report, title="vqmon", now=seed.NOW)
    first = report.evaluation.scorers[0]
    assert f"{first.statistics['srcc'].value:.3f}" in text
    assert text.count('class="dots"') == 4
    assert text.count('class="dots big"') == 2
    for part in ("2 files could not be scored", "Within groups: mean", "60 items in 2 groups", "Williams"):
        assert part in text, part
    assert text.count("h0") >= 4 * 60


def test_the_better_scorer_is_named_only_when_the_difference_is_significant(report: EvaluationReport) -> None:
    """By the corrected p-value."""
    (pair,) = report.evaluation.comparisons
    sentence = comparison_sentence(pair)
    assert sentence.startswith("By SRCC, good@1 agrees better with people than bad@1 (SRCC good@1 − bad@1: +0.")
    assert " By PLCC, good@1 agrees better with people than bad@1 (PLCC good@1 − bad@1: +0." in sentence
    rng = np.random.default_rng(2)
    quality = rng.normal(size=30)
    items = RatedItems(names=[str(index) for index in range(30)], scores=quality)
    noise = rng.normal(size=(2, 30))
    (alike,) = evaluate(items, {"a@1": quality + noise[0], "b@1": quality + noise[1]}, draws=100).comparisons
    for name in ("SRCC", "PLCC"):
        assert f"By {name}, no difference between a@1 and b@1 is shown" in comparison_sentence(alike)
