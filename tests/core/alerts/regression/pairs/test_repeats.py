"""Scores of content that is repeated: what is remembered, and alerts about it."""

from base64 import b64decode
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from tests import factories
from tests.core.alerts.regression.faulty_streams import judged, noise
from tests.core.alerts.repeated_content import shown
from tests.core.alerts.stored_states import load, save_changes
from tests.factories import START
from vqmon.core.alerts.conditions.regression import REPEAT_BLOCK_ENTRIES, Regression, RegressionState
from vqmon.core.alerts.judge import Judge
from vqmon.core.alerts.regression.pairs.repeats import ENTRY, RepeatMemory
from vqmon.core.alerts.state import PairSeries, RepeatBlock, StateStore
from vqmon.core.types import Alert, QualityEvent
from vqmon.settings.rules_file import parse_rules

RULES = """
[rules.again]
kind = "regression"
scorer = "lite"
against = "repeats"
repeat_seconds = 4
block_seconds = 120
false_alarm_days = 0.1
min_open_seconds = 60
"""
LOOP = 100
"""Segments of 4 s."""

CONDITION = Regression(scorer="lite", against="repeats")
STATE = RegressionState(
    rule="again", series=PairSeries(rendition_key="news-1/1080p", scorer="lite", against="repeats")
)  # fmt: skip


def loops(count: int, *, faulty: range = range(0), scorer: str = "lite@1") -> list[QualityEvent]:
    """So many showings of a loop whose content differs by 8 points; 5 points are lost in a range of segments."""
    content = np.random.default_rng(2).normal(70, 8, LOOP)
    own = noise(3, count * LOOP)
    values = [(n % LOOP, content[n % LOOP] + own[n] - 5.0 * (n in faulty)) for n in range(count * LOOP)]
    return shown(values, scorer=scorer)


def test_a_drop_of_repeated_content_opens_an_alert_that_says_what_it_scored() -> None:
    opened, resolved = judged(RULES, loops(6, faulty=range(350, 430)))
    assert (opened.series, opened.state, resolved.state) == ("news-1/1080p/lite~repeats", "open", "resolved")
    assert timedelta(0) < opened.opened_at - (START + timedelta(seconds=1400)) < timedelta(seconds=80)
    assert opened.change is not None
    assert opened.change.low <= -5 <= opened.change.high
    assert opened.summary.startswith("lite@1 against repeats down ")
    assert "; same content scored " in opened.summary
    assert " on 2026-11-20 20:" in opened.summary
    assert " repeats); " in opened.summary
    assert abs(resolved.resolved_at - (START + timedelta(seconds=1720))) < timedelta(seconds=120)


def test_impact_counts_the_content_that_a_repeat_stands_for() -> None:
    """The minute that must be affected is over after three repeats, not after fifteen segments."""
    rules = RULES.replace("repeat_seconds = 4", "repeat_seconds = 20\nmin_impact_minutes = 1")
    opened = judged(rules.replace("block_seconds = 120", "block_seconds = 300"), loops(7, faulty=range(620, 690)))[0]
    assert 40 <= (opened.opened_at - START).total_seconds() - 4 * 620 <= 180


def test_no_alert_without_a_fault_without_repeats_and_on_a_slate() -> None:
    assert judged(RULES, loops(5)) == []
    falling = [(n, 70.0 - 5.0 * (n > 350)) for n in range(450)]
    assert judged(RULES, shown(falling)) == []
    slate = [replace(event, edges=(event.edges[0],) * 2) for event in shown([(1, score) for _, score in falling])]
    assert judged(RULES, slate) == []


def test_after_a_restart_at_any_time_the_alerts_are_the_same() -> None:
    outcomes = loops(6, faulty=range(350, 430))
    stored: dict[str, bytes] = {}
    alerts: list[Alert] = []
    for first in range(0, len(outcomes), 130):
        judge = Judge(parse_rules(RULES), load(stored.values()))
        alerts += [alert for outcome in outcomes[first : first + 130] for alert in judge.judge(outcome)]
        save_changes(judge, stored)
    assert alerts == judged(RULES, outcomes)
    keys = [key for key in stored if key.startswith("=")]
    assert keys == ["=again|news-1/1080p/lite~repeats|0", "=again|news-1/1080p/lite~repeats|1"]
    assert max(len(stored[key]) for key in keys) < 3300


def test_a_segment_after_a_lost_one_is_not_remembered() -> None:
    """The picture before it is that of another moment."""
    judge = Judge(parse_rules(RULES))
    for n, event in enumerate(shown([(n, 70.0) for n in range(9)])):
        judge.judge(factories.failure(sequence=n) if n % 2 else event)
    assert not [state for state in judge.states().values() if isinstance(state, RepeatBlock)]


def test_another_scorer_starts_anew() -> None:
    """Its lower scores are compared with its own, not with those of the scorer before."""
    changed = shown([(n % LOOP, 50.0) for n in range(3 * LOOP)], first=3 * LOOP, scorer="lite@2")
    judge = Judge(parse_rules(RULES))
    assert not [alert for outcome in [*loops(3), *changed] for alert in judge.judge(outcome)]
    stored = [state for state in judge.states().values() if isinstance(state, RepeatBlock)]
    assert {block.basis for block in stored} == {"lite@2 against repeats"}


def test_an_alert_closes_when_no_content_is_repeated_any_more() -> None:
    outcomes = loops(4, faulty=range(350, 400))
    later = shown([(1000, 70.0), (1001, 70.0)], first=len(outcomes) + 6 * 900)
    opened, resolved = judged(RULES, [*outcomes, *later])
    assert (opened.state, resolved.state) == ("open", "resolved")
    assert resolved.summary.endswith("closed: no content has been repeated")


# ---- what is remembered


def compare(
    memory: RepeatMemory, content: int, *, at: float, score: float = 70.0, alert: Alert | None = None
) -> object:
    passage = tuple(int(one) for one in np.random.default_rng(content).integers(0, 2**63, 3))
    return memory.compare(
        replace(STATE, alert=alert), CONDITION, basis="lite@1", passage=passage, score=score, at=1e9 + at
    )


def blocks(store: StateStore) -> list[RepeatBlock]:
    found = [state for state in store.states.values() if isinstance(state, RepeatBlock)]
    return sorted(found, key=lambda block: block.number)


def entries(store: StateStore) -> np.ndarray:
    return np.frombuffer(b"".join(b64decode(block.entries) for block in blocks(store)), ENTRY)


def test_one_passage_a_minute_is_remembered_and_the_mean_of_its_scores() -> None:
    store = StateStore()
    memory = RepeatMemory(store)
    for second in range(0, 160, 4):
        assert compare(memory, second, at=second, score=60.0 + second) is None
    assert entries(store)["score"].tolist() == [60.0, 100.0, 140.0, 180.0]
    # the same scene a little later is no repeat
    assert compare(memory, 40, at=339) is None
    assert compare(memory, 40, at=340, score=80.0) == (100.0, 1e9 + 40)
    assert compare(memory, 40, at=1000, score=120.0) == (90.0, 1e9 + 340)
    assert entries(store)["score"].tolist() == [60.0, 100.0, 140.0, 180.0]
    assert len(entries(store)) == 4


@pytest.mark.parametrize("at", [-2e9, 2.0**32 - 1e9, 5e9])
def test_moments_that_an_entry_cannot_hold_are_left_out(at: float) -> None:
    """Before 1970 and from February 2106 on."""
    store = StateStore()
    assert compare(RepeatMemory(store), 1, at=at) is None
    assert not blocks(store)


def test_nothing_is_learned_while_an_alert_is_open(opened: Alert) -> None:
    store = StateStore()
    memory = RepeatMemory(store)
    compare(memory, 1, at=0, score=70.0)
    for loop in range(1, 5):
        assert compare(memory, 1, at=1000 * loop, score=50.0, alert=opened) == (70.0, 1e9)
        assert compare(memory, 2, at=1000 * loop + 100, alert=opened) is None
    assert len(entries(store)) == 1


@pytest.fixture
def opened() -> Alert:
    return judged(RULES, loops(4, faulty=range(350, 400)))[0]


def test_a_forgotten_rendition_begins_without_passages() -> None:
    store = StateStore()
    memory = RepeatMemory(store)
    compare(memory, 1, at=0)
    store.delete_rendition("news-1/1080p")
    memory.forget("news-1/1080p")
    assert not blocks(store)
    assert compare(memory, 1, at=1000) is None


def test_memory_is_bounded_and_the_passage_not_shown_for_longest_goes() -> None:
    store = StateStore()
    memory = RepeatMemory(store)
    small = replace(CONDITION, repeat_entries=2 * REPEAT_BLOCK_ENTRIES)

    def show(content: int, at: float) -> object:
        passage = tuple(int(one) for one in np.random.default_rng(content).integers(0, 2**63, 3))
        return memory.compare(STATE, small, basis="lite@1", passage=passage, score=70.0, at=1e9 + at)

    for minute in range(200):
        show(minute, 60.0 * minute)
        if minute == 100:
            assert show(0, 60.0 * minute + 30) is not None
        if minute == 5:
            assert [len(b64decode(block.entries)) for block in blocks(store)] == [6 * ENTRY.itemsize]
    assert len(entries(store)) == 2 * REPEAT_BLOCK_ENTRIES
    assert show(0, 60.0 * 201) is not None
    assert show(1, 60.0 * 202) is None
    assert show(199, 60.0 * 203 + 14 * 86_400) is None
