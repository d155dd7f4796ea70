"""The report of an experiment as one HTML file."""

import re
from dataclasses import replace

import pytest

from tests.web import experiment_results, seed
from vqmon.web.pages.report import render_report


@pytest.fixture(scope="module")
def report() -> str:
    comparison = experiment_results.comparison(seed.fleet(streams=8, segments=12))
    return render_report(comparison, title="vqmon", now=seed.NOW)


def test_a_report_loads_nothing(report: str) -> None:
    """It can be opened offline and in ten years: the style sheet is part of it, and there is no script."""
    assert not re.search(r"<(script|img|link|iframe)\b|\b(src|href)=\"(?!#)", report)
    assert ".card" in report


def test_a_report_has_every_arm_with_its_verdict(report: str) -> None:
    for sentence in ("sr-v2 is better than sr-v1: +1.94 points", "sr-v2-fast and sr-v1 cannot be told apart yet"):
        assert sentence in report


def test_a_report_names_the_interval_that_decided(report: str) -> None:
    assert "any-time, 95.0%, used for the verdict" in report
    assert "p, any-time" in report


def test_a_report_has_the_settings_and_the_time_of_writing(report: str) -> None:
    assert "Non-inferiority margin" in report
    assert "Written 20 Nov 2026, 14:30:00 UTC." in report


def test_few_pairs_are_listed_once() -> None:
    """Of three pairs, two are the worst and one is the best; a single pair is the worst."""
    comparison = experiment_results.comparison(seed.fleet(streams=8, segments=12))
    first = comparison.answers[0]
    for count, expected in ((3, ["worst", "worst", "best"]), (1, ["worst"])):
        chosen = first.pairs_with_role("worst")[:count]
        pairs = [replace(pair, role="worst") for pair in chosen]
        pairs += [replace(pair, role="best") for pair in reversed(chosen)]
        few = replace(comparison, answers=(replace(first, pairs=tuple(pairs)),))
        text = render_report(few, title="vqmon", now=seed.NOW)
        assert re.findall(r'<span class="sub">(worst|best)</span>', text) == expected
