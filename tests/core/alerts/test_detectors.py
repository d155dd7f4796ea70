"""What each kind of condition finds: durations, hysteresis, holes, freezes across segments, baselines."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import factories
from tests.factories import FINGERPRINTS, START
from vqmon.core.alerts.conditions.base import Condition
from vqmon.core.alerts.conditions.collapse import Collapse, CollapseState
from vqmon.core.alerts.conditions.floor import Floor
from vqmon.core.alerts.conditions.missing import Missing
from vqmon.core.alerts.conditions.no_score import NoScore
from vqmon.core.alerts.conditions.signal import Signal
from vqmon.core.alerts.judge import Judge
from vqmon.core.alerts.media_timeline import SAME_MAX_LEVELS, is_same_picture
from vqmon.core.alerts.rules import AlertRule
from vqmon.core.frames import sample_indices
from vqmon.core.types import Alert, Outcome, QualityEvent

FLOOR = Floor(scorer="lite", below=40, recover_above=45, for_seconds=10, recover_seconds=10)
BLACK = Signal(signal="black", above=0.95)
FREEZE = Signal(signal="freeze", above=0.5, unless={"black": 0.95, "solid": 0.95})
COLLAPSE = Collapse(scorer="lite", drop=25, baseline_segments=10, confirm_segments=2, recover_seconds=8)
MISSING = Missing(count=3, of=10, recover_count=1)


def alerts_of(condition: Condition, outcomes: Iterable[Outcome], **rule: float) -> list[Alert]:
    """What a judge with this one rule says."""
    judge = Judge([AlertRule(name="it", severity="page", condition=condition, **rule)])
    return [alert for outcome in outcomes for alert in judge.judge(outcome)]


def turns(alerts: Sequence[Alert]) -> list[tuple[str, float, float]]:
    """State, began and turned, in seconds after START."""
    return [
        (it.state, (it.began_at - START).total_seconds(), ((it.resolved_at or it.opened_at) - START).total_seconds())
        for it in alerts
    ]


# floor


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


def test_unscored_segments_stop_the_clock_and_long_holes_reset_it() -> None:
    """A lost segment proves nothing; after a minute without evidence the condition starts anew."""
    low = [
        factories.event(sequence=0, score=30),
        factories.failure(sequence=1),
        factories.event(sequence=2, score=30),
        factories.failure(sequence=3),
        factories.event(sequence=4, score=30),
    ]
    assert turns(alerts_of(FLOOR, low)) == [("open", 0, 20)]
    assert not alerts_of(
        FLOOR,
        [
            factories.event(sequence=0, score=30),
            factories.event(sequence=1, score=30),
            factories.event(sequence=2, score=30, at_seconds=100),
            factories.event(sequence=3, score=30, at_seconds=104),
        ],
    )


def test_an_alert_stays_open_for_its_minimum() -> None:
    """A recovery before `min_open_seconds` closes only when they are over."""
    values = [30] * 3 + [90] * 20
    (opened, resolved) = alerts_of(
        FLOOR, [factories.event(sequence=n, score=v) for n, v in enumerate(values)], min_open_seconds=40
    )
    assert (resolved.resolved_at - opened.opened_at).total_seconds() == 40


# signals


def pictured(start: float, seconds: float, *, fps: float, lengths: Sequence[int], signal: str) -> list[QualityEvent]:
    """Segments of so many frames; every picture shown within `seconds` from `start` on is impaired."""
    events, frame = [], 0
    for number, length in enumerate(lengths):
        times = [(frame + k) / fps for k in range(length)]
        seen = sample_indices(times)
        values = [1.0 if start - 1e-9 <= times[k] < start + seconds - 1e-9 else 0.0 for k in seen]
        event = factories.event(
            sequence=number,
            duration_seconds=length / fps,
            at_seconds=round(times[0], 6),
            signals={signal: values},
            times_seconds=[times[k] - times[0] for k in seen],
        )
        events.append(event)
        frame += length
    return events


lengths_at_25 = st.lists(st.integers(26, 200), min_size=6, max_size=12)


@given(lengths_at_25, st.integers(26, 100), st.integers(50, 60))
def test_two_seconds_of_black_are_found_wherever_they_lie(lengths: list[int], first: int, frames: int) -> None:
    """An impairment of exactly 2 s or more, at any frame and across any segment borders, opens one alert."""
    events = pictured(first / 25, frames / 25, fps=25, lengths=lengths, signal="black")
    if sum(lengths) < first + frames + 100:
        return
    alerts = alerts_of(BLACK, events)
    assert [alert.state for alert in alerts] == ["open", "resolved"]
    began, opened = (alerts[0].began_at - START).total_seconds(), (alerts[0].opened_at - START).total_seconds()
    assert first / 25 <= began <= opened <= first / 25 + frames / 25 + 1.0


@given(lengths_at_25, st.integers(26, 100), st.integers(1, 25))
def test_a_second_of_black_is_never_two(lengths: list[int], first: int, frames: int) -> None:
    """What is seen in one picture only is no alert of two seconds, if segments are not odd bits of a second."""
    lengths = [length // 25 * 25 + 25 for length in lengths]
    assert not alerts_of(BLACK, pictured(first / 25, frames / 25, fps=25, lengths=lengths, signal="black"))


@pytest.mark.parametrize("first", range(45, 75))
def test_two_seconds_at_ntsc_rates_are_sixty_frames(first: int) -> None:
    """At 30000/1001 fps one picture never looks like two seconds, sixty frames always do."""
    fps = 30000 / 1001
    for frames, found in ((60, 2), (30, 0)):
        events = pictured(first / fps, frames / fps, fps=fps, lengths=[120] * 4, signal="black")
        assert len(alerts_of(BLACK, events)) == found


def test_key_frames_far_apart_count_for_a_second_to_each_side() -> None:
    """One black key frame in six seconds is not two seconds of black; two in a row are."""
    one = [
        factories.event(
            sequence=n, duration_seconds=6, times_seconds=(0.0,), signals={"black": [1.0 if n == 1 else 0.0]}
        )
        for n in range(4)
    ]
    two = [
        factories.event(
            sequence=n, duration_seconds=6, times_seconds=(0.0,), signals={"black": [1.0 if n in (1, 2) else 0.0]}
        )
        for n in range(4)
    ]
    assert not alerts_of(BLACK, one)
    assert [alert.state for alert in alerts_of(BLACK, two)] == ["open", "resolved"]


def frozen(number: int, picture: str, flags: Sequence[float], **more: object) -> QualityEvent:
    return factories.event(sequence=number, edges=(picture, picture), signals={"freeze": flags}, **more)


def test_a_freeze_is_followed_across_segments() -> None:
    """The first picture of a segment is the last one of the segment before: one alert over the border."""
    moving = factories.event(sequence=0, edges=(FINGERPRINTS[0], FINGERPRINTS[1]))
    tail = factories.event(sequence=1, edges=(FINGERPRINTS[2], FINGERPRINTS[3]), signals={"freeze": [0, 0, 0, 0]})
    head = factories.event(sequence=2, edges=(FINGERPRINTS[3], FINGERPRINTS[4]), signals={"freeze": [0, 0, 0, 0]})
    alerts = alerts_of(FREEZE, [moving, tail, head, factories.event(sequence=3)])
    assert turns(alerts) == [("open", 7, 9), ("resolved", 7, 11)]
    assert not alerts_of(
        FREEZE, [moving, tail, replace(head, edges=(FINGERPRINTS[5], FINGERPRINTS[4])), factories.event(sequence=3)]
    )


def test_a_freeze_goes_on_over_a_lost_segment() -> None:
    """The same picture before and after a segment that could not be observed is one freeze."""
    long = replace(FREEZE, for_seconds=6)
    still = [
        frozen(1, FINGERPRINTS[0], (0, 1, 1, 1)),
        factories.failure(sequence=2),
        frozen(3, FINGERPRINTS[0], (0, 1, 1, 1)),
    ]
    (alert,) = alerts_of(long, [factories.event(sequence=0), *still])
    assert alert.began_at == START + timedelta(seconds=4)


@pytest.mark.parametrize("excuse", ["black", "solid"])
def test_black_or_one_colour_is_not_also_a_freeze(excuse: str) -> None:
    """A black picture does not move, but that is one fault and not two."""
    events = [
        factories.event(sequence=n, edges=(FINGERPRINTS[0],) * 2, signals={"freeze": (1,) * 4, excuse: (1,) * 4})
        for n in range(5)
    ]
    assert not alerts_of(FREEZE, events)
    assert alerts_of(replace(FREEZE, unless={}), events)


@given(st.integers(0, 2**32), st.integers(0, 255), st.integers(0, 30))
def test_the_same_picture_is_a_matter_of_tolerance(seed: int, level: int, step: int) -> None:
    """Rounding noise is the same picture; a change of one cell beyond the tolerance is another one."""
    chance = np.random.default_rng(seed)
    picture = chance.integers(0, 256, 576).astype(np.int16)
    noisy = np.clip(picture + (chance.random(576) < 0.3), 0, 255)
    changed = picture.copy()
    changed[level] += step if changed[level] < 128 else -step
    texts = [array.astype(np.uint8).tobytes().hex() for array in (picture, noisy, changed)]
    assert is_same_picture(texts[0], texts[0])
    assert is_same_picture(texts[0], texts[1])
    assert is_same_picture(texts[0], texts[2]) == (step <= SAME_MAX_LEVELS)
    assert not is_same_picture(texts[0], texts[0][:-2])


def test_a_signal_that_was_not_measured_says_nothing() -> None:
    """An event without the signal is no evidence for or against."""
    events = [replace(factories.event(sequence=n), signals={}) for n in range(5)]
    assert not alerts_of(BLACK, events)


# collapse


def test_a_collapse_is_seen_after_two_segments_and_over_after_the_recovery() -> None:
    """A fall of 25 points against the median, confirmed once; half of it must be made good."""
    values = [70, 71, 69, 70, 72, 68, 70, 40, 41, 42, 50, 50, 60, 60, 60]
    alerts = alerts_of(COLLAPSE, [factories.event(sequence=n, score=value) for n, value in enumerate(values)])
    assert turns(alerts) == [("open", 28, 36), ("resolved", 28, 56)]
    assert (alerts[0].evidence.value, alerts[0].evidence.threshold) == (41, 45)
    assert "lite@1 41.0, down 29.0 from its usual 70.0" in alerts[0].summary


@pytest.mark.parametrize(
    "values",
    [
        # one hard scene
        [70, 71, 69, 70, 72, 68, 70, 40, 70, 70, 40, 70],
        # too little history to know what is usual
        [70, 70, 20, 20, 20, 20, 20],
        # a slow decline is another detector's
        [90 - 2 * n for n in range(40)],
    ],
)
def test_no_collapse(values: list[float]) -> None:
    """Single drops, short histories and slow declines stay quiet."""
    assert not alerts_of(COLLAPSE, [factories.event(sequence=n, score=value) for n, value in enumerate(values)])


@given(st.integers(0, 2**32))
def test_outliers_before_do_not_hide_a_collapse(seed: int) -> None:
    """A third of wild values in the baseline does not move the median enough."""
    chance = np.random.default_rng(seed)
    usual = np.clip(chance.normal(70, 1, 20), 67, 73)
    values = np.where(chance.random(20) < 0.3, chance.choice([55, 90]), usual).tolist()
    alerts = alerts_of(
        COLLAPSE, [factories.event(sequence=n, score=value) for n, value in enumerate([*values, 28, 28, 28])]
    )
    assert [alert.state for alert in alerts] == ["open"]


def test_restless_scores_ask_for_a_deeper_fall() -> None:
    """With `deviations` what falls as far by itself is no collapse; what falls beyond its spread is."""
    by_spread = replace(COLLAPSE, deviations=4)
    restless = [60, 80, 62, 78, 64, 76, 66, 74, 68, 72]
    fallen = [factories.event(sequence=n, score=value) for n, value in enumerate([*restless, 40, 40, 40])]
    assert alerts_of(COLLAPSE, fallen)
    assert not alerts_of(by_spread, fallen)
    calm = [70, 71, 69, 70, 72, 68, 70, 71, 69, 70]
    (alert,) = alerts_of(
        by_spread, [factories.event(sequence=n, score=value) for n, value in enumerate([*calm, 40, 40, 40])]
    )
    assert "down 30.0 from its usual 70.0" in alert.summary


@pytest.mark.parametrize(
    ("low", "opens_at"),
    [
        ([45, 45, 45], 3),
        # one of them by three quarters only, as long as their mean and the latest are deep enough
        ([51, 38, 45], 3),
        ([40, 51, 44], 3),
        # the latest is not: the next one may be
        ([40, 40, 50], None),
        ([40, 40, 50, 44], 4),
        # their mean is not
        ([51, 51, 45], None),
        # one is less than three quarters
        ([40, 52, 40], None),
        # on its way back: 60 points, then 30
        ([10, 20, 40, 45], None),
    ],
)
def test_three_in_a_row_make_a_collapse_together(low: list[float], opens_at: int | None) -> None:
    """25 points below 70: each by three quarters of that, their mean and the latest by all of it, and no recovery."""
    three = replace(COLLAPSE, confirm_segments=3)
    outcomes = [factories.event(sequence=n, score=value) for n, value in enumerate([70.0] * 10 + low)]
    alerts = alerts_of(three, outcomes)
    assert turns(alerts) == ([] if opens_at is None else [("open", 40, 40 + 4 * opens_at)])


def test_a_level_that_is_low_but_no_collapse_is_learned() -> None:
    """20 points lower than usual is no fall of 25; another 20 from there neither, but 30 are."""
    three = replace(COLLAPSE, confirm_segments=3)
    steps = [70.0] * 20 + [50.0] * 20 + [30.0] * 20
    assert not alerts_of(three, [factories.event(sequence=n, score=value) for n, value in enumerate(steps)])
    alerts = alerts_of(three, [factories.event(sequence=n, score=value) for n, value in enumerate([*steps, 0, 0, 0])])
    assert [alert.state for alert in alerts] == ["open"]


def test_what_an_older_version_remembers_of_a_run_still_counts() -> None:
    """It knew how many low ones there were, and not their values: the next low one opens the alert."""
    rule = AlertRule(name="it", severity="page", condition=replace(COLLAPSE, confirm_segments=3))
    judge = Judge([rule])
    for n, value in enumerate([70.0] * 10 + [40.0] * 2):
        judge.judge(factories.event(sequence=n, score=value))
    (state,) = [state for state in judge.states().values() if isinstance(state, CollapseState)]
    assert (state.progress.bad_spans, state.low_values) == (2, (40.0, 40.0))
    older = Judge([rule], {**judge.states(), state.key: replace(state, low_values=())})
    assert [alert.state for alert in older.judge(factories.event(sequence=12, score=40))] == ["open"]


def test_a_low_level_that_lasts_becomes_the_usual() -> None:
    """After `settle_seconds` the alert closes, and a fall from the new level is found."""
    settling = replace(COLLAPSE, settle_seconds=120)
    values = [70.0] * 10 + [40.0] * 60 + [10.0] * 4
    alerts = alerts_of(settling, [factories.event(sequence=n, score=value) for n, value in enumerate(values)])
    assert [alert.state for alert in alerts] == ["open", "resolved", "open"]
    assert not [
        a
        for a in alerts_of(
            replace(settling, settle_seconds=0),
            [factories.event(sequence=n, score=value) for n, value in zip(range(60), values, strict=False)],
        )
        if a.resolved_at
    ]


def test_another_scorer_version_starts_another_baseline() -> None:
    """A score on another scale is no collapse, and closes the alert of the old one."""
    old = [factories.event(sequence=n, score=70) for n in range(10)]
    assert not alerts_of(
        COLLAPSE, old + [factories.event(sequence=n, score=30, scorer="lite@2") for n in range(10, 20)]
    )
    low = [factories.event(sequence=n, score=30) for n in range(10, 13)]
    new = [factories.event(sequence=n, score=30, scorer="lite@2") for n in range(13, 20)]
    assert [alert.state for alert in alerts_of(COLLAPSE, old + low + new)] == ["open", "resolved"]


# no score, missing


def test_no_score_counts_from_the_last_score() -> None:
    """Thirty seconds of segments without a score open the alert, the first score closes it."""
    outcomes = [
        factories.event(sequence=0),
        *(factories.failure(sequence=n, reason="timeout") for n in range(1, 12)),
        factories.event(sequence=12),
    ]
    alerts = alerts_of(NoScore(), outcomes)
    assert turns(alerts) == [("open", 4, 36), ("resolved", 4, 52)]
    assert "timeout" in alerts[0].summary


def test_a_stale_playlist_is_told_by_the_clock_that_saw_it() -> None:
    """A timeline that is hours off the wall clock does not make a short silence a long one."""
    last = replace(factories.event(sequence=0), observed_at=START + timedelta(hours=5))
    stale = [
        replace(
            factories.failure(sequence=n, reason="stale", duration_seconds=0, at_seconds=5 * 3600 + n * 10),
            observed_at=START + timedelta(hours=5, seconds=n * 10),
        )
        for n in range(1, 6)
    ]
    alerts = alerts_of(NoScore(), [last, *stale, factories.event(sequence=1)])
    assert [alert.state for alert in alerts] == ["open", "resolved"]
    assert alerts[0].evidence.event_id == stale[2].id
    assert alerts[1].resolved_at >= alerts[1].opened_at


def test_a_hole_without_outcomes_is_no_alert_by_itself() -> None:
    """When the daemon did not run nothing is known, and the next score is fine."""
    assert not alerts_of(NoScore(), [factories.event(sequence=0), factories.event(sequence=1, at_seconds=3600)])


@pytest.mark.parametrize(
    ("lost", "expected"),
    [
        ([3, 5], []),
        ([3, 5, 9], [("open", 12, 40), ("resolved", 12, 64)]),
        ([3, 5, 14], []),
        ([1, 2, 3, 4, 5], [("open", 4, 16), ("resolved", 4, 60)]),
    ],
)
def test_missing_segments_are_counted_in_a_window(lost: list[int], expected: list[tuple[str, float, float]]) -> None:
    """Three of the last ten open, one of the last ten closes."""
    outcomes = [factories.failure(sequence=n) if n in lost else factories.event(sequence=n) for n in range(40)]
    assert turns(alerts_of(MISSING, outcomes)) == expected


def test_only_the_named_reasons_count_as_missing() -> None:
    """Reasons that the rule does not name, and a stale playlist, are no missing segments."""
    named = replace(MISSING, reasons=("gap",))
    assert not alerts_of(named, [factories.failure(sequence=n, reason="timeout") for n in range(10)])
    assert alerts_of(named, [factories.failure(sequence=n, reason="gap") for n in range(10)])
    assert not alerts_of(
        MISSING, [factories.failure(sequence=n, reason="stale", duration_seconds=0) for n in range(10)]
    )
