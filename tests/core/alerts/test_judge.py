"""The Judge as a whole, on any sequence of outcomes, and the rules file with its mistakes."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tests import factories
from tests.core.alerts.quick_rules import QUICK, judged
from tests.core.alerts.stored_states import by_stored_key, copied, load, save_changes
from tests.factories import FINGERPRINTS, RENDITION, START
from vqmon.core.alerts.annotations import EndReason, StreamEnd, stream_end
from vqmon.core.alerts.conditions.no_score import NoScore
from vqmon.core.alerts.judge import Judge
from vqmon.core.alerts.rules import AlertRule, Match
from vqmon.core.alerts.state import AlertState
from vqmon.core.types import Alert, Outcome, Rendition
from vqmon.settings.rules_file import parse_rules
from vqmon.transport.wire.alert_states.states import state_key
from vqmon.transport.wire.cloudevents import encode_state

DEFAULT_FILE = Path(__file__).parents[3] / "config" / "rules.toml"
DEFAULTS = parse_rules(DEFAULT_FILE.read_text())

"""Rules that turn often."""

LADDER = (RENDITION, replace(RENDITION, name="360p"), Rendition(stream_id="sports", name="720p"))

frames_on = st.lists(st.sampled_from([0.0, 1.0]), min_size=4, max_size=4)

steps = st.fixed_dictionaries(
    {
        "rendition": st.sampled_from(LADDER),
        "what": st.sampled_from(["scored", "scored", "scored", "timeout", "gap", "stale"]),
        "value": st.sampled_from([10.0, 38.0, 42.0, 50.0, 70.0, 90.0]),
        "black": frames_on,
        "freeze": frames_on,
        "picture": st.sampled_from(FINGERPRINTS[:2]),
        # mostly the next one; else a hole, a repeat, or one from the past
        "step": st.sampled_from([1, 1, 1, 1, 1, 2, 30, 0, -1, -7]),
    }
)


def outcomes_of(plan: Sequence[dict]) -> list[Outcome]:
    """The plan, per rendition on its own timeline."""
    numbers: dict[str, int] = {}
    outcomes: list[Outcome] = []
    for step in plan:
        rendition = step["rendition"]
        number = numbers[rendition.key] = max(numbers.get(rendition.key, 0) + step["step"], 0)
        if step["what"] == "scored":
            signals = {"black": step["black"], "freeze": step["freeze"]}
            edges = (step["picture"], step["picture"])
            outcomes.append(
                factories.event(sequence=number, score=step["value"], rendition=rendition, signals=signals, edges=edges)
            )
        else:
            seconds = 0.0 if step["what"] == "stale" else 4.0
            outcomes.append(
                factories.failure(sequence=number, reason=step["what"], rendition=rendition, duration_seconds=seconds)
            )
    return outcomes


plans = st.lists(steps, max_size=80).map(outcomes_of)


@given(plans)
def test_alerts_come_in_pairs(outcomes: list[Outcome]) -> None:
    """Whatever happens, a rule has at most one open alert per series, and a resolve follows its own opening."""
    is_open: dict[tuple[str, str], Alert] = {}
    for alert in judged(Judge(QUICK), outcomes):
        key = (alert.rule, alert.series)
        if alert.state == "open":
            assert key not in is_open
            assert alert.began_at <= alert.opened_at
            is_open[key] = alert
        else:
            opened = is_open.pop(key)
            assert (opened.id, opened.began_at, opened.opened_at) == (alert.id, alert.began_at, alert.opened_at)
            assert opened.evidence == alert.evidence
            assert alert.resolved_at >= alert.opened_at


@given(plans, st.data())
def test_saved_and_restored_at_any_cut_gives_the_same(outcomes: list[Outcome], data: st.DataObject) -> None:
    """What drain_changes() gave, kept as JSON, brings another Judge to the same alerts and the same memory."""
    whole = Judge(QUICK)
    expected = judged(whole, outcomes)

    cut = data.draw(st.integers(0, len(outcomes)))
    saved: dict[str, bytes] = {}
    first = Judge(QUICK)
    alerts = []
    for outcome in outcomes[:cut]:
        alerts += first.judge(outcome)
        save_changes(first, saved)
    second = Judge(QUICK, states=load(saved.values()))
    assert second.states() == first.states()
    alerts += judged(second, outcomes[cut:])
    save_changes(second, saved)
    assert not second.drain_changes()

    assert alerts == expected
    assert load(saved.values()) == whole.states()


@given(st.lists(steps.map(lambda step: step | {"step": abs(step["step"]) or 1}), max_size=60), st.integers(1, 4))
def test_repeated_segments_change_nothing(plan: list[dict], repeats: int) -> None:
    """The newest few segments of a rendition seen once more, as after a crash, give no alert and no other memory."""
    outcomes = [outcome for outcome in outcomes_of(plan) if outcome.segment.duration_seconds]
    judge = Judge(QUICK)
    judged(judge, outcomes)
    before = {key: state for key, state in judge.states().items() if isinstance(state, AlertState)}
    for rendition in LADDER:
        newest = [outcome for outcome in outcomes if outcome.segment.rendition == rendition][-repeats:]
        assert judged(judge, newest) == []
    assert {key: state for key, state in judge.states().items() if isinstance(state, AlertState)} == before


def test_renditions_do_not_disturb_each_other() -> None:
    """The alerts of a rendition are the same whatever comes between its segments."""
    ours = [factories.event(sequence=n, score=30 if n > 33 else 70) for n in range(42)]
    others = [factories.event(sequence=n, score=90, rendition=LADDER[1]) for n in range(42)]
    mixed = [outcome for pair in zip(ours, others, strict=True) for outcome in pair]
    assert judged(Judge(DEFAULTS), mixed) == judged(Judge(DEFAULTS), ours) != []


def test_an_alert_open_over_a_set_back_timeline_still_closes() -> None:
    """Neither recovery nor minimum time wait for the old clock to be reached again."""
    judge = Judge(QUICK)
    judged(judge, [factories.event(sequence=n, score=20, at_seconds=4000.0 + 4 * n) for n in range(5)])
    alerts = judged(judge, [factories.event(sequence=n, score=70) for n in range(20)])
    assert {alert.rule for alert in alerts if alert.state == "resolved"} >= {"floor"}


def test_a_rule_that_is_gone_closes_its_alerts() -> None:
    """Without the rule, or with one of another kind or for others, the alert ends at the next outcome."""
    low = [factories.event(sequence=n, score=20) for n in range(4)]
    for rules in (
        (),
        (AlertRule(name="floor", severity="page", condition=NoScore()),),
        (replace(QUICK[0], match=Match(stream=("other-*",))),),
    ):
        judge = Judge(QUICK[:1])
        (opened,) = judged(judge, low)
        after = Judge(rules, states=judge.states())
        (resolved,) = after.judge(factories.event(sequence=4, score=20))
        assert (resolved.id, resolved.state) == (opened.id, "resolved")
        assert "no longer applies" in resolved.summary
        assert not after.judge(factories.event(sequence=5, score=20))


def ended(rendition: str, at: float, *, why: EndReason = "ended") -> StreamEnd:
    moment = START + timedelta(seconds=at)
    return stream_end(RENDITION.stream_id, rendition, moment, announced_at=moment, why=why)


def open_renditions(judge: Judge) -> list[str]:
    states = [state for state in judge.states().values() if isinstance(state, AlertState)]
    return sorted(state.alert.rendition for state in states if state.alert)


def test_the_end_of_a_rendition_closes_its_alerts_and_no_others() -> None:
    """Where it stopped, with the reason; told again it changes nothing."""
    judge = Judge(QUICK[:1])
    other = replace(RENDITION, name="360p")
    opened = judged(
        judge,
        [
            factories.event(sequence=n, score=20, rendition=rendition)
            for n in range(4)
            for rendition in (RENDITION, other)
        ],
    )
    assert len(opened) == 2
    judge.drain_changes()
    (resolved,) = judge.end_stream(ended(RENDITION.name, 999))
    assert (resolved.rendition, resolved.state) == (RENDITION.name, "resolved")
    assert resolved.resolved_at == START + timedelta(seconds=16)
    assert resolved.summary.endswith("closed: the stream has ended")
    assert sorted(map(state_key, judge.drain_changes())) == ["floor|news-1/1080p/lite", "|news-1/1080p"]
    assert judge.end_stream(ended(RENDITION.name, 1000)) == ()
    assert dict(judge.drain_changes()) == {}
    assert open_renditions(judge) == ["360p"]


def test_the_end_of_a_stream_is_that_of_all_it_has_shown_and_is_asked_for_once() -> None:
    """Also of a stream whose name another one begins with, and after a restart."""
    judge = Judge(QUICK[:1])
    longer = replace(RENDITION, stream_id="news-1/b")
    judged(
        judge,
        [
            factories.event(sequence=n, score=20, rendition=rendition)
            for n in range(4)
            for rendition in (RENDITION, replace(RENDITION, name="360p"), longer)
        ],
    )
    assert judge.active_streams() == {"news-1", "news-1/b"}
    assert judge.active_until("news-1") == START + timedelta(seconds=16)
    gone = judge.end_stream(ended("*", 16, why="unwatched"))
    assert [alert.rendition for alert in gone] == ["1080p", "360p"]
    assert gone[0].summary.endswith("closed: the stream is no longer watched")
    restored = Judge(QUICK[:1], copied(judge))
    for each_judge in (judge, restored):
        assert each_judge.active_streams() == {"news-1/b"}
        assert each_judge.active_until("news-1") is None
        assert open_renditions(each_judge) == ["1080p"]


def test_a_stream_that_comes_back_goes_on_with_what_was_learned() -> None:
    """An alert that the end closed can open again; a new end can close that one."""
    judge = Judge(QUICK[:1])
    judged(judge, [factories.event(sequence=n, score=20) for n in range(4)])
    assert judge.end_stream(ended("*", 16))
    opened = judged(judge, [factories.event(sequence=n, score=20) for n in range(4, 8)])
    assert [alert.state for alert in opened] == ["open"]
    assert judge.active_streams() == {"news-1"}
    (resolved,) = judge.end_stream(ended("*", 32))
    assert resolved.resolved_at == START + timedelta(seconds=32)


def test_what_an_older_version_remembers_of_a_rendition_still_ends() -> None:
    """Its track does not tell the stream."""
    judge = Judge(QUICK[:1])
    judged(judge, [factories.event(sequence=n, score=20) for n in range(4)])
    documents = {key: encode_state(state) for key, state in by_stored_key(judge).items()}
    timeline = json.loads(documents["|news-1/1080p"])
    del timeline["stream_id"], timeline["has_ended"]
    documents["|news-1/1080p"] = json.dumps(timeline).encode()
    judge = Judge(QUICK[:1], load(documents.values()))
    assert judge.active_streams() == {"news-1"}
    assert [alert.state for alert in judge.end_stream(ended("1080p", 16))] == ["resolved"]


def test_what_was_said_about_an_unlisted_stream_ends_with_its_first_score() -> None:
    """While the playlist cannot be had an alert stands for the whole stream; any scored segment of it closes that."""
    whole = Rendition(stream_id="news-1", name="playlist")
    judge = Judge(DEFAULTS)
    unlisted = [
        factories.failure(sequence=n, reason="playlist", duration_seconds=0, at_seconds=5.0 * n, rendition=whole)
        for n in range(10)
    ]
    (opened,) = judged(judge, unlisted)
    assert opened.rule == "no-score"
    (resolved,) = judge.judge(factories.event(sequence=20))
    assert resolved.id == opened.id
    assert not judge.judge(factories.event(sequence=21))


def test_an_alert_says_what_began_and_shows_where() -> None:
    """Id, series, times, reading, threshold and the worst frames of the segment that triggered it."""
    usual = [factories.event(sequence=n, at_seconds=4.0 * n - 160) for n in range(40)]
    low = [
        factories.event(sequence=n, score=30, frame_values=(50, 10, 40, 20), at_seconds=4.0 * n - 160)
        for n in range(40, 44)
    ]
    judge = Judge([rule for rule in DEFAULTS if rule.name == "low-score"])
    (alert,) = judged(judge, [*usual, *low])
    assert (alert.series, alert.stream_id, alert.rendition) == ("news-1/1080p/lite", "news-1", "1080p")
    assert (alert.rule, alert.severity, alert.state) == ("low-score", "page", "open")
    assert (alert.began_at, alert.opened_at) == (START, START + timedelta(seconds=12))
    assert alert.summary == "lite@1 30.0 below 40 for 12 s"
    assert alert.evidence.event_id == low[2].id
    assert alert.evidence.worst_times_seconds == (1.0, 3.0, 2.0, 0.0)
    assert (alert.evidence.value, alert.evidence.threshold) == (30.0, 40.0)


def test_memory_stays_small() -> None:
    """A series costs at most 2 kB as JSON besides its last picture, and a quiet one of a signal costs nothing.

    64 passages of content that may return cost 3.3 kB.
    """
    judge = Judge(DEFAULTS)
    judged(judge, [factories.event(sequence=n, score=70.123 + n % 3) for n in range(200)])
    states = by_stored_key(judge)
    # What groups have of buckets of time that are not complete is short, and gone when they are.
    gathered = [key for key in states if key.startswith("+scorer-fault|all/group/lite|")]
    assert 0 < len(gathered) <= 6
    assert sorted(states.keys() - gathered) == [
        "<news-1/1080p",
        "=repeat-regression|news-1/1080p/lite~repeats|0",
        "low-score|news-1/1080p/lite",
        "regression|news-1/1080p/lite",
        "repeat-regression|news-1/1080p/lite~repeats",
        "scorer-fault|all/group/lite",
        "|news-1/1080p",
    ]
    lengths = {key: len(encode_state(state)) for key, state in states.items()}
    assert lengths.pop("=repeat-regression|news-1/1080p/lite~repeats|0") < 3300
    assert max(lengths.values()) < 2000
