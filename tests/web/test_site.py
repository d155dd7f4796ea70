"""Template filters and CSV files."""

import doctest
from types import ModuleType

import pytest

from vqmon.web import site, urls
from vqmon.web.charts import series, svg
from vqmon.web.model import explanations, renditions, sparklines
from vqmon.web.site import csv_response


def test_csv_text_cannot_run_as_a_formula() -> None:
    """A text that begins like a formula gets an apostrophe; a negative number does not."""
    body = bytes(csv_response("a/b", ["x"], [["=1+1"], ["@x"], [-1.5]]).body).decode()
    assert body == "x\r\n'=1+1\r\n'@x\r\n-1.5\r\n"


@pytest.mark.parametrize("module", [urls, series, svg, sparklines, explanations, renditions, site])
def test_examples_in_docstrings_hold(module: ModuleType) -> None:
    """The examples in the docstrings hold."""
    assert doctest.testmod(module).failed == 0
