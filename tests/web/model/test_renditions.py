"""States, filters, sort orders and counts of renditions."""

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.web import seed
from tests.web.stored_history import StoredHistory
from vqmon.core.timeline import RenditionState
from vqmon.web.model.explanations import STATE_DESCRIPTIONS
from vqmon.web.model.renditions import (
    SORT_KEYS,
    RenditionRow,
    fleet_sentence,
    matches_filter,
    rendition_rows,
    rendition_state,
    state_shares,
)

LATE = seed.NOW + timedelta(seconds=2)


@pytest.fixture
def good(history: StoredHistory) -> RenditionState:
    """A rendition with a high score and without alerts."""
    return next(state for state in history.store.queries.renditions() if state.stream_id == "weather")


def row(good: RenditionState, **changes: object) -> RenditionRow:
    (made,) = rendition_rows([good], [], now=LATE)
    return replace(made, **changes)  # type: ignore[arg-type]


def test_every_kind_of_stream_has_its_state(history: StoredHistory) -> None:
    """A paging alert, a missing verdict, silence, and none of these."""
    queries = history.store.queries
    rows = rendition_rows(queries.renditions(), queries.alerts(open_only=True), now=LATE)
    states = {(row.stream_id, row.rendition): row.state for row in rows}
    assert states["cinema-4k", "1080p"] == "failing"
    assert states["kids", "1080p"] == "unscored"
    assert states["Übertragung/Süd", "1080p"] == "stale"
    assert states["weather", "480p"] == "good"


def test_an_open_ticket_degrades_a_rendition(good: RenditionState, history: StoredHistory) -> None:
    ticket = next(alert for alert in history.seeded.alerts if alert.severity == "ticket")
    assert rendition_state(good, [ticket], now=LATE) == ("degraded", ticket.summary)


def test_a_paging_alert_outweighs_an_unscored_segment(good: RenditionState, history: StoredHistory) -> None:
    page = next(alert for alert in history.seeded.alerts if alert.severity == "page")
    unscored = replace(good, last_reason="timeout", last_scores={})
    assert rendition_state(unscored, [page], now=LATE)[0] == "failing"
    assert rendition_state(unscored, [], now=LATE) == ("unscored", "The deadline passed.")


@pytest.mark.parametrize(
    ("score", "state"), [(19.9, "failing"), (20.0, "degraded"), (39.9, "degraded"), (40.0, "good")]
)
def test_a_low_score_decides_without_an_alert(good: RenditionState, score: float, state: str) -> None:
    assert rendition_state(replace(good, last_scores={"lite@1": score}), [], now=LATE)[0] == state


@pytest.mark.parametrize(
    ("segment_seconds", "silence_seconds", "state"),
    [(4.0, 30.0, "good"), (4.0, 30.1, "stale"), (10.0, 50.0, "good"), (10.0, 50.1, "stale")],
)
def test_silence_is_measured_in_segments_and_at_least_thirty_seconds(
    good: RenditionState, segment_seconds: float, silence_seconds: float, state: str
) -> None:
    rendition = replace(good, last_duration_seconds=segment_seconds)
    now = rendition.last_observed_at + timedelta(seconds=silence_seconds)
    assert rendition_state(rendition, [], now=now)[0] == state


def test_a_rendition_that_has_ended_is_neither_stale_nor_failing(good: RenditionState) -> None:
    """However long ago it was, and whatever its last score."""
    late = good.last_observed_at + timedelta(days=3)
    low = replace(good, last_scores={"lite@1": 5.0})
    assert rendition_state(replace(low, end_reason="ended"), [], now=late) == ("ended", "the stream has ended")
    unwatched = rendition_state(replace(low, end_reason="unwatched"), [], now=late)
    assert unwatched == ("ended", "the stream is no longer watched")
    assert rendition_state(low, [], now=late)[0] == "stale"


def test_a_filter_needs_every_word_in_any_case(good: RenditionState) -> None:
    weather = row(good, reason="not_found")
    assert matches_filter(weather, search_text="WEATHER not_found", state=None)
    assert not matches_filter(weather, search_text="weather sports", state=None)
    assert not matches_filter(weather, search_text="", state="failing")


def test_renditions_are_sorted_worst_state_first(good: RenditionState) -> None:
    rows = [row(good, state=state) for state in ("good", "ended", "stale", "failing", "unscored", "degraded")]
    assert [item.state for item in sorted(rows, key=SORT_KEYS["state"])] == list(STATE_DESCRIPTIONS)


def test_the_sentence_counts_states_and_streams(good: RenditionState) -> None:
    rows = [row(good), row(good, state="stale"), row(good, stream_id="other")]
    assert fleet_sentence(rows) == "3 renditions of 2 streams: 1 stale, 2 good."
    assert fleet_sentence(rows[:1]) == "1 rendition of 1 stream: all good."


def test_even_one_of_very_many_is_visible_in_the_bar(good: RenditionState) -> None:
    """The share of a state is at least two thousandths wide."""
    rows = [row(good)] * 9999 + [row(good, state="failing")]
    failing, rest = state_shares(rows)
    assert (failing.state, failing.x, failing.width) == ("failing", 0.0, 2)
    assert rest.x + rest.width <= 1000
    assert state_shares([]) == []


def test_a_rendition_whose_first_scorer_failed_is_degraded_and_says_why(good: RenditionState) -> None:
    """The score of another scorer is not shown in place of its own."""
    state = replace(
        good, trend=(70.0, None), last_scores={"lite@2": 90.0}, last_scorer_failures={"owl@1": "out_of_memory"}
    )
    (row,) = rendition_rows([state], [], now=LATE)
    assert (row.state, row.score, row.scorer_failures) == ("degraded", None, {"owl@1": "out_of_memory"})
    assert row.why.startswith("no score by owl@1: ")
