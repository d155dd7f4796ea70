"""The report of an experiment as one HTML file."""

import re

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
