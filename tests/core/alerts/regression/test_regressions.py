"""Regression rules in the Judge: deploys, masks, pairs, restarts and interleavings."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import factories
from tests.core.alerts.regression.faulty_streams import (
    ALL_RULES,
    DROP,
    FAULTY_LANES,
    GROUPS,
    PAIR,
    TOP,
    falling,
    judged,
    ladder,
    mixed,
    planted,
    series,
    woven,
)
from tests.core.alerts.stored_states import by_stored_key, load, save_changes
from tests.factories import START
from vqmon.core.alerts.annotations import DeployMarker, stream_end
from vqmon.core.alerts.conditions.regression import RegressionState
from vqmon.core.alerts.judge import Judge
from vqmon.core.alerts.regression.chart_status import chart_status
from vqmon.core.alerts.state import AlertState
from vqmon.core.types import AD_BREAK_LABEL, Alert, Outcome
from vqmon.settings.rules_file import parse_rules
from vqmon.transport.wire.cloudevents import encode_state


def test_a_deploy_starts_anew() -> None:
    """A label that changes, another version of the scorer, or a marker: the open alert closes, a new level is usual."""
    values = falling(600, 200, 600, 6)
    before, after = series(values[:300]), series(values[300:], first=300)
    labelled = [replace(outcome, segment=replace(outcome.segment, labels={"deploy": "encoder-7"})) for outcome in after]
    alerts = judged(DROP, [*before, *labelled])
    assert [alert.state for alert in alerts] == ["open", "resolved"]
    assert "deploy" in alerts[1].summary
    other = judged(DROP, [*before, *series(values[300:], first=300, scorer="lite@2")])
    assert [alert.state for alert in other] == ["open", "resolved"]


@pytest.mark.parametrize("told_after", [0, 150, 299])
def test_a_marker_counts_from_its_moment_once(told_after: int) -> None:
    """Whenever before its moment it is told, and however often; only for the streams that it means."""
    outcomes = series(falling(600, 300, 600, 6))
    marker = DeployMarker(id="m1", at=START + timedelta(seconds=1200), name="encoder-7", stream="news-*")

    def marked(marker: DeployMarker) -> list[Alert]:
        judge, alerts = Judge(parse_rules(DROP)), []
        for n, outcome in enumerate(outcomes):
            if n >= told_after:
                judge.add_marker(marker)
                judge.add_marker(marker)
            alerts += judge.judge(outcome)
        return alerts

    assert not marked(marker)
    assert marked(replace(marker, stream="sports-*"))
    assert marked(replace(marker, at=START + timedelta(days=1)))


def test_rules_look_away_under_a_mask() -> None:
    """Planned black and planned low scores are no alert; the same without a mask, or after it, are."""
    text = (
        DROP + '[rules.black]\nkind = "signal"\nsignal = "black"\nabove = 0.9\n'
        '[rules.silence]\nkind = "no_score"\nfor_seconds = 30\n[masks.slate]\nexcuses = "*"\nstream = "news-*"\n'
        "from = 2026-11-20T20:10:00Z\nuntil = 2026-11-20T20:14:00Z\n"
    )

    def broken(first: int, last: int) -> list[str]:
        dark = [(1.0,) * 4 if first <= n < last else (0.0,) * 4 for n in range(300)]
        low = [64.0 if first <= n < last else 70.0 for n in range(300)]
        events = [
            factories.event(sequence=n, score=low[n] + 0.3 * (n % 3), signals={"black": dark[n]}) for n in range(300)
        ]
        return sorted({alert.rule for alert in judged(text, events)})

    assert broken(150, 210) == []
    assert broken(220, 280) == ["black", "drop"]
    lost = [factories.failure(sequence=n) if 150 <= n < 210 else factories.event(sequence=n) for n in range(250)]
    assert judged(text, lost) == []
    longer = [factories.failure(sequence=n) if 150 <= n < 222 else factories.event(sequence=n) for n in range(250)]
    assert [alert.rule for alert in judged(text, longer)] == ["silence", "silence"]


def test_a_rule_may_leave_ad_breaks_out() -> None:
    """A break of low scores is neither judged nor learnt from; the same without the label, or the key, is a drop."""
    in_break = [150 <= n < 220 for n in range(300)]

    def opened(text: str, *, labels: dict[str, str]) -> int:
        outcomes = [
            factories.event(sequence=n, score=(64.0 if low else 70.0) + 0.3 * (n % 3), labels=labels if low else {})
            for n, low in enumerate(in_break)
        ]
        return len(judged(text, outcomes))

    masked = DROP + "mask_ad_breaks = true\n"
    label = {AD_BREAK_LABEL: "yes"}
    assert opened(masked, labels=label) == 0
    assert opened(masked, labels={}) >= 1
    assert opened(DROP, labels=label) >= 1


def test_a_pair_sees_what_content_hides() -> None:
    """Three points below the neighbour are found in segments; alone it is lost in content of four points' deviation."""
    _, top, mid = ladder(400, mid=planted(250, 280, 3))
    opened, resolved = judged(PAIR, mixed(top, mid))
    assert (opened.series, opened.cause, resolved.state) == ("news-1/720p/lite~ladder", "packaging", "resolved")
    assert START + timedelta(seconds=1012) <= opened.opened_at <= START + timedelta(seconds=1080)
    assert opened.summary.startswith("lite@1 against 1080p down ")
    assert opened.change.low <= -3 <= opened.change.high
    assert not judged(DROP, mixed(top, mid))


def test_a_missing_partner_is_counted_and_never_made_up() -> None:
    """Pairs with one side missing are dropped; the other renditions' fate makes no alert."""
    _, top, mid = ladder(300)
    holed: list[Outcome] = [
        factories.failure(sequence=n, rendition=TOP) if n % 10 == 4 else outcome for n, outcome in enumerate(top)
    ]
    judge = Judge(parse_rules(PAIR))
    assert not [alert for outcome in mixed(holed, mid) for alert in judge.judge(outcome)]
    state = by_stored_key(judge)["pair|news-1/720p/lite~ladder"]
    assert isinstance(state, RegressionState)
    # those of the first minute are not pairs yet
    assert state.unpaired_count == len([n for n in range(15, 300) if n % 10 == 4])
    assert chart_status(state).unpaired_count == state.unpaired_count


def test_a_label_can_name_the_partner() -> None:
    """For an enhanced rendition beside the one that it was made from."""
    _, top, mid = ladder(300, top=planted(200, 300, 3))
    labelled = [replace(outcome, segment=replace(outcome.segment, labels={"made_from": "720p"})) for outcome in top]
    rule = PAIR.replace('"ladder"', '"label:made_from"')
    (opened,) = judged(rule, mixed(labelled, mid))
    assert (opened.series, opened.cause) == ("news-1/1080p/lite~label:made_from", "encoder")


interleavings = st.lists(st.integers(0, 2), min_size=0, max_size=400)


EXPECTED = judged(ALL_RULES, mixed(*FAULTY_LANES))


@settings(max_examples=12)
@given(interleavings)
def test_the_alerts_are_the_same_whatever_the_interleaving(turns: list[int]) -> None:
    """Also their order, what they say and what mutes them, when no lane runs a minute ahead of another."""
    assert len(EXPECTED) >= 6
    assert judged(ALL_RULES, woven(FAULTY_LANES, turns, ahead=14)) == EXPECTED


@settings(max_examples=6)
@given(interleavings, st.lists(st.integers(0, 990), max_size=6))
def test_a_restart_anywhere_changes_nothing(turns: list[int], cuts: list[int]) -> None:
    """State through JSON at any places, with entries that wait in it: the same alerts, the same memory."""
    outcomes = woven(FAULTY_LANES, turns, ahead=10)
    saved: dict[str, bytes] = {}
    judge, alerts = Judge(parse_rules(ALL_RULES)), []
    for n, outcome in enumerate(outcomes):
        if n in cuts:
            judge = Judge(parse_rules(ALL_RULES), load(saved.values()))
        alerts += judge.judge(outcome)
        save_changes(judge, saved)
    assert alerts == EXPECTED
    whole = Judge(parse_rules(ALL_RULES))
    for outcome in outcomes:
        whole.judge(outcome)
    assert load(saved.values()) == whole.states()


def test_what_waits_may_open_an_alert_of_a_rendition_that_has_ended_and_it_closes() -> None:
    """Its last entries wait for the other one: what they tell is told, and nothing is left open."""
    _, top, mid = ladder(300, mid=planted(285, 300, 60))
    judge = Judge(parse_rules(PAIR))
    for outcome in [*mixed(top[:285], mid[:285]), *mid[285:]]:
        judge.judge(outcome)
    assert judge.end_stream(stream_end("news-1", "720p", START, announced_at=START)) == ()
    late = [alert for outcome in top[285:] for alert in judge.judge(outcome)]
    assert [(alert.rendition, alert.state) for alert in late] == [("720p", "open"), ("720p", "resolved")]
    assert late[1].summary.endswith("closed: the stream has ended")
    assert late[1].resolved_at == mid[-1].segment.ends_at


def test_every_state_is_small() -> None:
    """2 kB of JSON per series at most, its open alert not counted."""
    judge = Judge(parse_rules(ALL_RULES + GROUPS.replace("lite", "*")))
    largest = 0
    for outcome in mixed(*FAULTY_LANES):
        judge.judge(outcome)
        for state in judge.drain_changes().values():
            if isinstance(state, AlertState):
                largest = max(largest, len(encode_state(replace(state, alert=None))))
    assert largest < 2000
