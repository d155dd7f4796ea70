"""Streams and labels that make the difference of the arms, whatever the clusters are."""

import numpy as np
import pytest

from tests import factories
from vqmon.core.experiments.data.units import UnitTotals

TITLES = 10


def totals(*, values_per_title: int = 1) -> UnitTotals:
    """Ten titles, of which the first gains 60 points in v2; each segment has an id of its own."""
    units = UnitTotals(arm_label="arm")
    for title in range(TITLES):
        for number in range(values_per_title):
            segment = factories.arm_event(title=f"t{title}", id=f"{title}-{number}").segment
            units.add("v1", segment, np.array([30.0, np.nan]))
            units.add("v2", segment, np.array([90.0 if title == 0 else 30.0, 50.0]))
    return units


def test_the_difference_without_a_title_is_that_of_the_others() -> None:
    """The stream holds all segments and is no unit, and the arm is none; a scorer without scores has no unit."""
    units = {unit.value: unit for unit in totals().units("v1", "v2", scorer=0) if unit.attribute == "title"}

    assert set(units) == {f"t{title}" for title in range(TITLES)}
    assert {unit.attribute for unit in totals().units("v1", "v2", scorer=0)} == {"title", "id"}
    assert units["t0"].share == pytest.approx(0.1)
    assert units["t0"].difference == pytest.approx(6.0)
    assert units["t0"].difference_without == pytest.approx(0.0)
    assert units["t1"].difference_without == pytest.approx(60 / 9)
    assert not list(totals().units("v1", "v2", scorer=1))


def test_a_label_with_many_values_is_not_followed() -> None:
    assert {unit.attribute for unit in totals(values_per_title=30).units("v1", "v2", scorer=0)} == {"title"}
