"""Decisions about inputs: threshold, hysteresis, duration, pauses, the backup's score, and restarts."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from tests import factories
from vqmon.core.alerts.reactions import input_switching
from vqmon.core.alerts.reactions.input_switching import INPUT_FAULTS, InputDecision, InputJudge, InputRule
from vqmon.core.types import Outcome, failure_from_error
from vqmon.errors import REASONS, DecodeError, FetchError, SegmentError

RULE = InputRule(
    name="matrix",
    streams=("news-*",),
    backup="{stream}-backup",
    below=40,
    above=55,
    for_seconds=8,
    return_seconds=12,
    min_hold_seconds=20,
    cool_down_seconds=40,
)


def outcome(number: int, value: float | SegmentError, *, stream: str = "news-1", name: str = "1080p") -> Outcome:
    """The outcome of the segment with a number, 4 s each."""
    segment = factories.segment(sequence=number, rendition=factories.rendition(stream=stream, name=name))
    if isinstance(value, SegmentError):
        return failure_from_error(segment, value, observed_at=segment.ends_at)
    return factories.event(segment=segment, score=value)


class Inputs:
    """Judges segments of two inputs, each as soon as it has ended."""

    def __init__(self, rule: InputRule = RULE, *, last: Sequence[InputDecision] = (), begin: int = 0) -> None:
        self.judge = InputJudge([rule], last=last)
        self.number = begin
        self.decisions: list[InputDecision] = []

    def play(self, *values: float | SegmentError, backup: float | None = 80.0) -> list[str]:
        """One segment per value; returns the decisions as `kind reason`."""
        found = []
        for value in values:
            outcomes = [outcome(self.number, value)]
            if backup is not None:
                outcomes.insert(0, outcome(self.number, backup, stream="news-1-backup"))
            for each in outcomes:
                found += self.judge.judge(each, now=each.segment.ends_at)
            self.number += 1
        self.decisions += found
        return [f"{decision.kind} {decision.reason}" for decision in found]


def test_a_switch_and_a_return_with_hysteresis() -> None:
    """Below 40 for 8 s it switches; 41 to 54 change nothing; from 55 on for 12 s, and 20 s later, it returns."""
    inputs = Inputs()
    assert inputs.play(80, 30, 80, 30) == []
    assert inputs.play(30) == ["switch score_low"]
    assert inputs.play(30, 45, 54, 56, 57) == []
    assert inputs.play(58) == ["return score_recovered"]
    (switch, back) = inputs.decisions
    assert (switch.input, switch.stream_id, switch.value, switch.threshold) == ("backup", "news-1", 30, 40)
    assert (switch.backup_stream_id, switch.backup_value) == ("news-1-backup", 80)
    assert switch.at == factories.segment(sequence=4).ends_at
    assert switch.expires_at - switch.decided_at == timedelta(seconds=30)
    assert (back.input, back.threshold) == ("primary", 55)
    assert switch.id != back.id


def test_a_due_change_is_held_and_said_once_per_reason() -> None:
    """After a return no switch for 40 s; after a switch no return for 20 s; then it is made, without a new start."""
    inputs = Inputs()
    assert inputs.play(30, 30) == ["switch score_low"]
    assert inputs.play(60, 60, 60) == ["hold minimum_hold"]
    assert inputs.play(60) == []
    assert inputs.play(60) == ["return score_recovered"]
    assert inputs.play(30, 30) == ["hold cool_down"]
    assert inputs.play(*[30] * 7) == []
    assert inputs.play(30) == ["switch score_low"]
    assert [decision.input for decision in inputs.decisions] == [
        *("backup", "backup", "primary", "primary", "backup"),
    ]


@pytest.mark.parametrize(
    ("backup", "decision"),
    [(None, "hold backup_unknown"), (39.9, "hold backup_no_better"), (40.0, "switch score_low")],
)
def test_a_switch_needs_a_backup_that_is_better(backup: float | None, decision: str) -> None:
    """By 10 points; the primary has 30."""
    assert Inputs().play(30, 30, backup=backup) == [decision]


def test_a_held_switch_is_made_as_soon_as_the_backup_is_better() -> None:
    """Without waiting for the primary's next segment, which may never come; but not on a score of long ago."""
    inputs = Inputs()
    assert inputs.play(30, 30, backup=None) == ["hold backup_unknown"]
    better = outcome(1, 80, stream="news-1-backup")
    (switch,) = inputs.judge.judge(better, now=better.segment.ends_at)
    assert (switch.kind, switch.stream_id, switch.backup_value) == ("switch", "news-1", 80)
    assert inputs.judge.judge(outcome(2, 80, stream="news-1-backup"), now=better.segment.ends_at) == []
    late = Inputs()
    assert late.play(30, 30, backup=35) == ["hold backup_no_better"]
    assert late.judge.judge(outcome(12, 80, stream="news-1-backup"), now=better.segment.ends_at) == []


def test_a_backup_that_all_streams_share_settles_what_each_of_them_has_held() -> None:
    """A held change is of one stream, and lost by no other."""
    rule = InputRule(name="matrix", streams=("news-*",), backup="slate", for_seconds=4)
    judge, at = InputJudge([rule]), factories.START
    held = [judge.judge(outcome(0, 30, stream=f"news-{number}"), now=at)[0] for number in range(3)]
    assert {decision.reason for decision in held} == {"backup_unknown"}
    switches = judge.judge(outcome(0, 80, stream="slate"), now=at)
    assert [(each.kind, each.stream_id) for each in switches] == [("switch", f"news-{number}") for number in range(3)]
    assert judge.judge(outcome(1, 80, stream="slate"), now=at) == []


def test_a_held_return_is_not_made_when_the_backup_is_good_again() -> None:
    """The primary has 45, and the backup had 20 while the return had to wait."""
    inputs = Inputs()
    inputs.play(30, 30)
    assert inputs.play(*[45] * 3, backup=20) == ["hold minimum_hold"]
    good = outcome(inputs.number, 90, stream="news-1-backup")
    assert inputs.judge.judge(good, now=good.segment.ends_at + timedelta(minutes=1)) == []
    inputs.number += 1
    assert inputs.play(*[45] * 9, backup=90) == []


def test_what_is_remembered_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of streams that end while a change is held, too."""
    monkeypatch.setattr(input_switching, "_MAX_INPUTS", 3)
    judge = InputJudge([InputRule(name="matrix", backup="{stream}-backup", for_seconds=4)])
    for number in range(5):
        judge.judge(outcome(0, 30, stream=f"news-{number}"), now=factories.START)
    backups = [outcome(0, 80, stream=f"news-{number}-backup") for number in range(5)]
    switched = [each.stream_id for backup in backups for each in judge.judge(backup, now=factories.START)]
    assert switched == ["news-2", "news-3", "news-4"]


def test_a_clock_that_is_set_back_prolongs_no_pause() -> None:
    """It begins anew: the return comes 20 s after the clock was set, not an hour later."""
    inputs = Inputs()
    inputs.play(30, 30)
    back = timedelta(hours=1)
    decided = [
        (number, decision.kind)
        for number in range(2, 20)
        for each in [outcome(number, 90)]
        for decision in inputs.judge.judge(each, now=each.segment.ends_at - back)
    ]
    assert decided == [(4, "hold"), (9, "return")]


def test_without_a_backup_only_the_primary_counts() -> None:
    """`backup` is empty."""
    rule = InputRule(name="matrix", streams=("news-1",), below=40, above=55, for_seconds=4)
    assert Inputs(rule).play(30, backup=None) == ["switch score_low"]


def test_it_returns_when_the_backup_became_worse() -> None:
    """The primary has not recovered to 55, but the backup is below 40 and worse by 10."""
    inputs = Inputs()
    inputs.play(30, 30)
    assert inputs.play(45, 45, 45, 45, 45, backup=36) == []
    assert inputs.play(*[45] * 4, backup=35) == ["return backup_better"]


@pytest.mark.parametrize(
    ("value", "decisions"),
    [
        (FetchError("timeout"), ["switch score_low"]),
        (DecodeError("corrupt"), ["switch score_low"]),
        (DecodeError("timeout"), []),
        (SegmentError("internal"), []),
        (SegmentError("playlist", str(FetchError("unreachable", "no answer"))), ["switch score_low"]),
        (SegmentError("playlist", "not an HLS playlist: it does not begin with #EXTM3U"), ["switch score_low"]),
        (SegmentError("playlist", str(FetchError("refused", "x is not in fetch.allowed_hosts"))), []),
    ],
)
def test_faults_of_the_input_count_and_those_of_vqmon_do_not(value: SegmentError, decisions: list[str]) -> None:
    """An unscored segment is score 0 only if the input is at fault."""
    assert Inputs().play(value, value) == decisions
    assert not INPUT_FAULTS - REASONS.keys()


def test_a_fault_of_one_rendition_is_no_fault_of_the_input() -> None:
    """The best rendition counts, until it has no score of the last 30 s."""
    rule = InputRule(name="matrix", streams=("news-1",), for_seconds=8, stale_seconds=30)
    judge = InputJudge([rule])
    at = factories.START
    assert judge.judge(outcome(0, 80, name="720p"), now=at) == []
    decided = [judge.judge(outcome(number, 20), now=at) for number in range(12)]
    assert [number for number, decisions in enumerate(decided) if decisions] == [9]


def test_a_gap_begins_the_duration_anew() -> None:
    """A bad segment before and one after half a minute of nothing are no 8 s."""
    inputs = Inputs()
    assert inputs.play(30) == []
    inputs.number += 10
    assert inputs.play(30) == []
    assert inputs.play(30) == ["switch score_low"]


def test_what_was_decided_outlives_a_restart() -> None:
    """The input in use, and the pauses."""
    before = Inputs()
    before.play(30, 30)
    after = Inputs(last=before.decisions, begin=before.number)
    assert after.play(30, 30, 30) == []
    assert after.play(60, 60, 60) == ["return score_recovered"]


def test_the_same_segments_give_the_same_ids() -> None:
    """So that a receiver ignores what it has followed; a stream that begins anew has others."""
    first, second = Inputs(), Inputs()
    first.play(30, 30)
    second.play(30, 30)
    assert first.decisions == second.decisions


def test_streams_are_matched_and_backups_are_none() -> None:
    """By globs; a backup input never gets a backup of its own."""
    assert RULE.is_primary("news-1")
    assert not RULE.is_primary("news-1-backup")
    assert not RULE.is_primary("sports")
    assert (RULE.is_backup("-backup"), RULE.backup_of("news-1")) == (False, "news-1-backup")
    assert InputRule(name="a", backup="slate").is_backup("slate")


@pytest.mark.parametrize(
    "values",
    [
        {"below": 60.0, "above": 50.0},
        {"backup": "{rendition}"},
        {"backup": "{stream}"},
        {"backup": "a-{arm}-b"},
        {"backup": "{stream}-{stream}-b"},
    ],
)
def test_rules_that_make_no_sense_are_refused(values: dict[str, Any]) -> None:
    """With the name of the setting."""
    with pytest.raises(ValueError, match=r"^(above|backup): "):
        InputRule(name="a", **values)
