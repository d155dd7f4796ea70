"""The status of a series: its phases, band and counts."""

import pytest

from tests.core.alerts.regression.faulty_streams import DROP, falling, series
from tests.core.alerts.stored_states import by_stored_key
from vqmon.core.alerts.conditions.regression import RegressionState
from vqmon.core.alerts.judge import Judge
from vqmon.core.alerts.regression.chart_status import chart_status
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
