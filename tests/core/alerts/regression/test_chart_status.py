"""The status of a series: its phases, band and counts."""

import re

import pytest

from tests.core.alerts.regression.faulty_streams import DROP, falling, noise, series
from tests.core.alerts.stored_states import by_stored_key
from vqmon.core.alerts.conditions.regression import RegressionState
from vqmon.core.alerts.judge import Judge
from vqmon.core.alerts.regression.chart_status import chart_status, rule_visibility_text
from vqmon.settings.rules_file import parse_rules


def test_phases_can_be_told_from_the_state() -> None:
    """learning, ok, pending, firing, resolving, ok; the chart has level, band and limit."""
    judge = Judge(parse_rules(DROP + "min_open_seconds = 400\n"))
    seen: list[str] = []
    for outcome in series(falling(400, 200, 250, 3)):
        judge.judge(outcome)
        state = by_stored_key(judge)["drop|news-1/1080p/lite"]
        assert isinstance(state, RegressionState)
        chart = chart_status(state)
        assert chart is not None
        if not seen or seen[-1] != chart.phase:
            seen.append(chart.phase)
        if chart.phase == "firing":
            assert chart.baseline_level == pytest.approx(70, abs=0.5)
            assert chart.low == pytest.approx(68, abs=0.6)
            assert chart.is_trusted
    assert [phase for phase, before in zip(seen, ["", *seen], strict=False) if phase != before][:2] == [
        "learning",
        "ok",
    ]
    tail = seen[seen.index("firing") - 1 :]
    assert tail[:2] == ["pending", "firing"]
    assert tail[-2:] == ["resolving", "ok"]


def test_a_rule_tells_what_its_series_see_and_how_many_learn() -> None:
    """The smallest drop of each series; the median with its delay, in the time of its segments."""
    states = []
    for count, deviation in ((400, 1.0), (400, 3.0), (400, 2.0), (20, 1.0)):
        judge = Judge(parse_rules(DROP))
        for outcome in series(70 + noise(1, count, deviation=deviation)):
            judge.judge(outcome)
        states.append(by_stored_key(judge)["drop|news-1/1080p/lite"])
    text = rule_visibility_text(states, delta_min=1.0)
    seen = re.fullmatch(r"3 series see drops from (\S+) to (\S+) points \(median (\S+) in \d+ s\), 1 still learn", text)
    assert seen is not None, text
    smallest, largest, middle = map(float, seen.groups())
    assert smallest < middle < largest
    assert rule_visibility_text([], delta_min=1.0) == ""
