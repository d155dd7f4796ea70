"""The Judge as a whole, on any sequence of outcomes, and the rules file with its mistakes."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import factories
from tests.factories import FINGERPRINTS, RENDITION, START
from vqmon.core.alerts.annotations import End, Why, end_of
from vqmon.core.alerts.judge import AlertState, Judge, State, parse_rules
from vqmon.core.alerts.rules import AlertRule, Collapse, Floor, Match, Missing, NoScore, Signal
from vqmon.core.types import Alert, Outcome, Rendition
from vqmon.errors import SettingsError
from vqmon.transport.wire.cloudevents import encode_state, parse_state

DEFAULT_FILE = Path(__file__).parents[3] / "config" / "rules.toml"
DEFAULTS = parse_rules(DEFAULT_FILE.read_text())

QUICK = (
    AlertRule(name="floor", severity="page", condition=Floor(scorer="*", below=40, recover_above=45, for_seconds=5)),
    AlertRule(name="black", severity="ticket", condition=Signal(signal="black", above=0.9), min_open_seconds=6),
    AlertRule(name="freeze", severity="ticket", condition=Signal(signal="freeze", above=0.5)),
    AlertRule(
        name="collapse",
        severity="page",
        condition=Collapse(scorer="lite", drop=20, baseline_segments=4, recover_seconds=4, settle_seconds=40),
    ),
    AlertRule(name="silence", severity="page", condition=NoScore(for_seconds=8)),
    AlertRule(name="missing", severity="ticket", condition=Missing(count=2, of=4)),
)
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


def judged(judge: Judge, outcomes: Sequence[Outcome]) -> list[Alert]:
    return [alert for outcome in outcomes for alert in judge.judge(outcome)]


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
    """What take_changed() gave, kept as JSON, brings another Judge to the same alerts and the same memory."""
    whole = Judge(QUICK)
    expected = judged(whole, outcomes)

    cut = data.draw(st.integers(0, len(outcomes)))
    kept: dict[str, bytes] = {}
    first = Judge(QUICK)
    found = []
    for outcome in outcomes[:cut]:
        found += first.judge(outcome)
        save(kept, first)
    second = Judge(QUICK, states={key: parse_state(document) for key, document in kept.items()})
    assert second.states() == first.states()
    found += judged(second, outcomes[cut:])
    save(kept, second)

    assert found == expected
    assert {key: parse_state(document) for key, document in kept.items()} == whole.states()


def save(kept: dict[str, bytes], judge: Judge) -> None:
    """What a history does with what a Judge remembers."""
    for key, state in judge.take_changed().items():
        if state is None:
            kept.pop(key, None)
        else:
            kept[key] = encode_state(state)
    assert not judge.take_changed()


@given(st.lists(steps.map(lambda step: step | {"step": abs(step["step"]) or 1}), max_size=60), st.integers(1, 4))
def test_repeated_segments_change_nothing(plan: list[dict], again: int) -> None:
    """The newest few segments of a rendition seen once more, as after a crash, give no alert and no other memory."""
    outcomes = [it for it in outcomes_of(plan) if it.segment.duration_seconds]
    judge = Judge(QUICK)
    judged(judge, outcomes)
    before = {key: state for key, state in judge.states().items() if isinstance(state, AlertState)}
    for rendition in LADDER:
        newest = [it for it in outcomes if it.segment.rendition == rendition][-again:]
        assert judged(judge, newest) == []
    assert {key: state for key, state in judge.states().items() if isinstance(state, AlertState)} == before


def test_renditions_do_not_disturb_each_other() -> None:
    """The alerts of a rendition are the same whatever comes between its segments."""
    ours = [factories.event(sequence=n, score=30 if n > 33 else 70) for n in range(42)]
    others = [factories.event(sequence=n, score=90, rendition=LADDER[1]) for n in range(42)]
    mixed = [it for pair in zip(ours, others, strict=True) for it in pair]
    assert judged(Judge(DEFAULTS), mixed) == judged(Judge(DEFAULTS), ours) != []


def test_a_timeline_that_was_set_back_is_followed_again() -> None:
    """An encoder that restarts its clock is late for a few segments only."""
    judge = Judge(QUICK)
    judged(judge, [factories.event(sequence=n, at_seconds=4000.0 + 4 * n) for n in range(10)])
    alerts = judged(judge, [factories.event(sequence=n, score=20) for n in range(12)])
    assert "floor" in {alert.rule for alert in alerts}


def test_the_next_in_sequence_is_never_late() -> None:
    """A break for advertisements on another clock is judged from its first segment on."""
    judge = Judge(QUICK)
    judged(judge, [factories.event(sequence=n, at_seconds=4000.0 + 4 * n) for n in range(10)])
    opened = [
        alert
        for alert in judged(judge, [factories.event(sequence=n, score=20, at_seconds=4.0 * n) for n in (10, 11)])
        if alert.rule == "floor"
    ]
    assert [alert.began_at for alert in opened] == [START + timedelta(seconds=40)]


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


def ended(rendition: str, at: float, *, why: Why = "ended") -> End:
    moment = START + timedelta(seconds=at)
    return end_of(RENDITION.stream_id, rendition, moment, told_at=moment, why=why)


def open_renditions(judge: Judge) -> list[str]:
    states = [one for one in judge.states().values() if isinstance(one, AlertState)]
    return sorted(one.alert.rendition for one in states if one.alert)


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
    judge.take_changed()
    (resolved,) = judge.end(ended(RENDITION.name, 999))
    assert (resolved.rendition, resolved.state) == (RENDITION.name, "resolved")
    assert resolved.resolved_at == START + timedelta(seconds=16)
    assert resolved.summary.endswith("closed: the stream has ended")
    assert sorted(judge.take_changed()) == ["floor|news-1/1080p/lite", "|news-1/1080p"]
    assert judge.end(ended(RENDITION.name, 1000)) == ()
    assert dict(judge.take_changed()) == {}
    assert open_renditions(judge) == ["360p"]


def test_the_end_of_a_stream_is_that_of_all_it_has_shown_and_is_asked_for_once() -> None:
    """Also of a stream whose name another one begins with, and after a restart."""
    judge = Judge(QUICK[:1])
    longer = replace(RENDITION, stream_id="news-1/b")
    judged(
        judge,
        [
            factories.event(sequence=n, score=20, rendition=it)
            for n in range(4)
            for it in (RENDITION, replace(RENDITION, name="360p"), longer)
        ],
    )
    assert judge.streams() == {"news-1", "news-1/b"}
    assert judge.until("news-1") == START + timedelta(seconds=16)
    gone = judge.end(ended("*", 16, why="unwatched"))
    assert [alert.rendition for alert in gone] == ["1080p", "360p"]
    assert gone[0].summary.endswith("closed: the stream is no longer watched")
    again = Judge(QUICK[:1], {key: parse_state(encode_state(it)) for key, it in judge.states().items()})
    for one in (judge, again):
        assert one.streams() == {"news-1/b"}
        assert one.until("news-1") is None
        assert open_renditions(one) == ["1080p"]


def test_a_stream_that_comes_back_goes_on_with_what_was_learned() -> None:
    """An alert that the end closed can open again; a new end can close that one."""
    judge = Judge(QUICK[:1])
    judged(judge, [factories.event(sequence=n, score=20) for n in range(4)])
    assert judge.end(ended("*", 16))
    opened = judged(judge, [factories.event(sequence=n, score=20) for n in range(4, 8)])
    assert [alert.state for alert in opened] == ["open"]
    assert judge.streams() == {"news-1"}
    (resolved,) = judge.end(ended("*", 32))
    assert resolved.resolved_at == START + timedelta(seconds=32)


def test_what_an_older_version_remembers_of_a_rendition_still_ends() -> None:
    """Its track does not tell the stream."""
    judge = Judge(QUICK[:1])
    judged(judge, [factories.event(sequence=n, score=20) for n in range(4)])
    old = {key: it for key, it in judge.states().items()}
    track = json.loads(encode_state(old["|news-1/1080p"]))
    del track["stream_id"], track["has_ended"]
    judge = Judge(QUICK[:1], {**old, "|news-1/1080p": parse_state(json.dumps(track))})
    assert judge.streams() == {"news-1"}
    assert [alert.state for alert in judge.end(ended("1080p", 16))] == ["resolved"]


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


def test_rules_look_where_they_match() -> None:
    """Globs of stream and rendition, and labels, choose the renditions."""
    matches = {
        Match(): True,
        Match(stream=("news-*",)): True,
        Match(stream=("sports", "news-?")): True,
        Match(stream=("News-1",)): False,
        Match(rendition=("720p",)): False,
        Match(labels={"team": "s*"}): True,
        Match(labels={"team": "other"}): False,
        Match(labels={"site": "*"}): False,
    }
    for match, fits in matches.items():
        rules = [replace(QUICK[0], match=match)]
        assert bool(judged(Judge(rules), [factories.event(sequence=n, score=20) for n in range(4)])) == fits


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
    """A series costs at most 2 kB as JSON besides its last picture, and a quiet one of a signal costs nothing."""
    judge = Judge(DEFAULTS)
    judged(judge, [factories.event(sequence=n, score=70.123 + n % 3) for n in range(200)])
    states: dict[str, State] = dict(judge.states())
    assert sorted(states) == [
        "&scorer-fault|all/group/lite",
        "<news-1/1080p",
        "collapse|news-1/1080p/lite",
        "low-score|news-1/1080p/lite",
        "regression|news-1/1080p/lite",
        "scorer-fault|all/group/lite",
        "|news-1/1080p",
    ]
    assert all(len(encode_state(state)) < 2000 for state in states.values())


# the file


def test_the_rules_that_come_with_vqmon() -> None:
    """They are of every kind, some page and some wait, and their scorer exists."""
    kinds = {"floor", "signal", "collapse", "no_score", "missing", "regression", "group"}
    assert {rule.condition.kind for rule in DEFAULTS} == kinds
    assert {rule.severity for rule in DEFAULTS} == {"page", "ticket"}
    assert parse_rules(DEFAULT_FILE.read_text(), scorers=["lite@1"]) == DEFAULTS


FLOOR = '[rules.low]\nkind = "floor"\nscorer = "lite"\nbelow = 40\nrecover_above = 45\n'
DROP = '[rules.drop]\nkind = "regression"\nscorer = "lite"\n'
MASK = FLOOR + '[masks.m]\ndaily_from = "02:00"\ndaily_until = 03:00:00\n'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[rules.low\n", ["my.toml", "line 1"]),
        ("[rule.low]\n", ["my.toml", "'rule'", "did you mean 'rules'?"]),
        ("rules = 3\n", ["my.toml: rules", "tables"]),
        ("[rules]\nlow = 3\n", ["rule 'low'", "table"]),
        ("[rules.low]\n", ["rule 'low': kind", "floor"]),
        ('[rules.low]\nkind = "flor"\n', ["rule 'low': kind", "did you mean 'floor'?"]),
        (FLOOR + "belw = 3\n", ["my.toml: rule 'low'", "'belw'", "did you mean 'below'?"]),
        (FLOOR.replace("below = 40\n", ""), ["rule 'low': below", "missing"]),
        (FLOOR.replace("40", '"40"'), ["rule 'low': below", "'40'", "number"]),
        (FLOOR.replace("40", "true"), ["rule 'low': below", "True"]),
        (FLOOR.replace("40", "nan"), ["rule 'low': below", "nan"]),
        (FLOOR.replace("40", "140"), ["rule 'low'", "below", "0..100"]),
        (FLOOR.replace("45", "35"), ["rule 'low'", "recover_above", "40..100"]),
        (FLOOR + 'statistic = "median"\n', ["statistic", "'median'", "p5"]),
        (FLOOR + 'severity = "urgent"\n', ["severity", "'urgent'", "page, ticket"]),
        (FLOOR + 'enabled = "no"\n', ["rule 'low': enabled", "true or false"]),
        (FLOOR + 'match = { streem = "x" }\n', ["rule 'low': match", "'streem'", "did you mean 'stream'?"]),
        (FLOOR + "match = { stream = 3 }\n", ["rule 'low': match.stream", "3"]),
        (FLOOR.replace('"lite"', '"light"'), ["rule 'low': scorer", "'light'", "did you mean 'lite'?"]),
        ('[rules.b]\nkind = "signal"\nsignal = "blak"\nabove = 0.5\n', ["rule 'b'", "signal", "'blak'", "black"]),
        ('[rules.b]\nkind = "signal"\nsignal = "black"\nabove = 5\n', ["rule 'b'", "above", "0..1"]),
        (
            '[rules.b]\nkind = "signal"\nsignal = "freeze"\nabove = 0.5\nunless = { dark = 1 }\n',
            ["rule 'b'", "unless", "'dark'"],
        ),
        ('[rules.m]\nkind = "missing"\ncount = 3\nof = 2\n', ["rule 'm'", "count", "1..2"]),
        ('[rules.m]\nkind = "missing"\ncount = 1.5\nof = 2\n', ["rule 'm': count", "1.5", "whole number"]),
        (
            '[rules.m]\nkind = "missing"\ncount = 1\nof = 2\nreasons = ["lost"]\n',
            ["rule 'm'", "reasons", "'lost'", "timeout"],
        ),
        (DROP.replace("lite", "light"), ["rule 'drop': scorer", "did you mean 'lite'?"]),
        (DROP + 'mode = "cussum"\n', ["rule 'drop'", "mode", "guarantee"]),
        (DROP + 'cause = "network"\n', ["rule 'drop'", "cause", "packaging"]),
        (DROP + "k = 3\n", ["rule 'drop'", "k: must be 0.05..2"]),
        (DROP + "baseline = 3\n", ["rule 'drop'", "'baseline'", "did you mean"]),
        (DROP + '[rules.g]\nkind = "group"\nof = "drip"\n', ["rule 'g': of", "did you mean 'drop'?"]),
        ('[rules.g]\nkind = "group"\nof = "x"\nquantile = 2\n', ["rule 'g'", "quantile", "0.1..0.95"]),
        (FLOOR + "[masks.m]\n", ["mask 'm'", "either from and until"]),
        (FLOOR + "[masks.m]\nform = 1\n", ["mask 'm'", "did you mean 'from'?"]),
        (FLOOR + "[masks.m]\nfrom = 2026-01-01\nuntil = 2026-01-02\n", ["mask 'm': from", "zone"]),
        (FLOOR + '[masks.m]\ndaily_from = "2 pm"\ndaily_until = "3 pm"\n', ["mask 'm': daily_from", "02:30"]),
        (MASK + 'excuses = ["lou"]\n', ["mask 'm': excuses", "did you mean 'low'?"]),
        (MASK + "stream = 3\n", ["mask 'm': stream", "3"]),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_file_rule_key_and_remedy(text: str, words: list[str]) -> None:
    """Every mistake is refused with what a person needs to mend it."""
    with pytest.raises(SettingsError) as refused:
        parse_rules(text, origin="my.toml", scorers=["lite@1"])
    for word in ["my.toml", *words]:
        assert word in str(refused.value)


def test_a_rule_can_be_left_out_and_globs_written_as_text_or_list() -> None:
    """`enabled = false` leaves a rule out; one glob needs no list."""
    assert parse_rules(FLOOR + "enabled = false\n") == ()
    (rule,) = parse_rules(FLOOR + 'match = { stream = "news-*", rendition = ["a", "b"], labels = { team = "sr" } }\n')
    assert rule.match == Match(stream=("news-*",), rendition=("a", "b"), labels={"team": "sr"})
    assert parse_rules("") == ()


def test_a_mask_goes_to_the_rules_that_it_excuses() -> None:
    """By name, by kind and by signal; once or daily, in UTC."""
    text = (
        FLOOR + DROP + '[rules.dark]\nkind = "signal"\nsignal = "black"\nabove = 0.9\n'
        '[masks.m]\nexcuses = ["black", "low"]\nstream = "news-*"\ndaily_from = "02:00"\ndaily_until = 03:00:00\n'
        '[masks.n]\nexcuses = "regression"\nfrom = 2026-11-20T21:00:00+01:00\nuntil = 2026-11-20T21:00:00Z\n'
    )
    masks = {rule.name: [mask.name for mask in rule.masks] for rule in parse_rules(text)}
    assert masks == {"low": ["m"], "drop": ["n"], "dark": ["m"]}
    (mask,) = parse_rules(text)[1].masks
    assert (mask.begins, mask.ends) == (START, START + timedelta(hours=1))


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
    rule = replace(QUICK[0], condition=Floor(scorer="*", below=40, recover_above=45, for_seconds=5, unusual_by=8))
    alerts = judged(Judge([rule]), [factories.event(sequence=n, score=value) for n, value in enumerate(values)])
    assert [alert.state for alert in alerts] == ["open"] * opens
