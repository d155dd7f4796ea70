"""The floor: duration, recovery, hysteresis, statistics and the learned baseline."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import factories
from tests.core.alerts.one_rule import alerts_of, turns
from vqmon.core.alerts.conditions.floor import Floor

FLOOR = Floor(scorer="lite", below=40, recover_above=45, for_seconds=10, recover_seconds=10)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([70] * 6, []),
        # 8 s are not 10 s
        ([70, 30, 30, 70], []),
        ([70, 30, 30, 30], [("open", 4, 16)]),
        # exactly on the threshold is not below it
        ([40] * 9, []),
        # closes after 10 s above 45, not above 40
        ([30, 30, 30, 44, 44, 44, 44], [("open", 0, 12)]),
        ([30, 30, 30, 50, 50, 50], [("open", 0, 12), ("resolved", 0, 24)]),
        # the recovery starts anew after a relapse
        ([30, 30, 30, 50, 50, 42, 50, 50, 50], [("open", 0, 12), ("resolved", 0, 36)]),
        # what lies in between neither counts nor undoes
        ([30, 42, 30, 42, 30], [("open", 0, 20)]),
        ([30, 50, 30, 50, 30, 50], []),
    ],
)  # fmt: skip
def test_a_floor_has_duration_recovery_and_a_band_in_between(
    values: list[float], expected: list[tuple[str, float, float]]
) -> None:
    """Four-second segments against: below 40 for 10 s, above 45 for 10 s."""
    assert (
        turns(alerts_of(FLOOR, [factories.event(sequence=n, score=value) for n, value in enumerate(values)]))
        == expected
    )


@given(st.lists(st.sampled_from([39.0, 41.0]), min_size=10, max_size=40))
def test_flapping_around_the_threshold_gives_at_most_one_alert(values: list[float]) -> None:
    """Noise within the band opens once and never closes."""
    assert len(alerts_of(FLOOR, [factories.event(sequence=n, score=value) for n, value in enumerate(values)])) <= 1


def test_a_floor_can_look_at_the_worst_frames() -> None:
    """The statistic chooses between the pooled value, the fifth percentile and the lowest frame."""
    events = [factories.event(sequence=n, score=70, frame_values=(80, 80, 80, 20)) for n in range(4)]
    assert not alerts_of(FLOOR, events)
    for statistic in ("p5", "min"):
        (alert,) = alerts_of(replace(FLOOR, statistic=statistic), events)
        assert f"lite@1 {statistic}" in alert.summary
        assert alert.evidence.worst_times_seconds[0] == 3.0


@pytest.mark.parametrize(
    ("values", "opens"),
    [
        # always low: that is what it is
        ([32.0] * 60, 0),
        # unknown at first, then low beyond its usual
        ([70.0] * 40 + [30.0] * 5, 1),
        # below the limit, but not by much below its usual
        ([44.0] * 40 + [38.0] * 20, 0),
        # nothing is known yet
        ([70.0] * 10 + [30.0] * 5, 0),
        # a slow decline is no new usual
        ([70.0 - n / 10 for n in range(400)], 1),
    ],
)  # fmt: skip
def test_a_floor_can_ask_for_the_unusual(values: list[float], opens: int) -> None:
    """With `unusual_by` a rendition that is always low is no alert, one that fell is."""
    condition = Floor(scorer="*", below=40, recover_above=45, for_seconds=5, unusual_by=8)
    alerts = alerts_of(condition, [factories.event(sequence=n, score=value) for n, value in enumerate(values)])
    assert [alert.state for alert in alerts] == ["open"] * opens
