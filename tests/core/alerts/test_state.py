"""The state store: what has changed since it was last asked."""

from vqmon.core.alerts.conditions.floor import FloorState
from vqmon.core.alerts.conditions.signal import SignalState
from vqmon.core.alerts.state import (
    AlertKey,
    AlertProgress,
    GroupMembers,
    GroupSeries,
    PairSeries,
    RenditionSeries,
    RenditionTimeline,
    StateStore,
    TimelineKey,
)

SERIES = RenditionSeries(rendition_key="news/1080p", subject="lite")
STATE = FloorState(rule="low", series=SERIES)
TIMELINE = RenditionTimeline(
    rendition_key="news/1080p", stream_id="news", ends_at=4.0, sequence=1, scored_until=4.0, scored_observed_at=5.0
)


def test_a_change_is_reported_once() -> None:
    store = StateStore()
    store.save(STATE)
    store.save(TIMELINE)
    assert store.drain_changes() == {STATE.key: STATE, TIMELINE.key: TIMELINE}
    assert store.drain_changes() == {}
    store.delete(STATE.key)
    assert store.drain_changes() == {STATE.key: None}


def test_deleting_what_is_not_there_is_no_change() -> None:
    store = StateStore({STATE.key: STATE})
    store.delete(TimelineKey(rendition_key="news/720p"))
    assert store.drain_changes() == {}
    assert store.states == {STATE.key: STATE}


def test_states_are_found_by_kind() -> None:
    store = StateStore({STATE.key: STATE, TIMELINE.key: TIMELINE})
    assert store.alert_states() == [STATE]
    assert store.timelines() == [TIMELINE]
    assert store.timeline("news/1080p") is TIMELINE
    assert store.timeline("news/720p") is None


def test_a_state_without_run_alert_or_baseline_is_idle() -> None:
    state = SignalState(rule="black", series=SERIES)
    assert state.is_idle
    assert not SignalState(rule="black", series=SERIES, progress=AlertProgress(counted_from=1.0)).is_idle


def test_members_of_a_group_are_known_by_their_renditions() -> None:
    pair = PairSeries(rendition_key="news/720p", scorer="lite", against="ladder")
    keys = frozenset({AlertKey(rule="r", series=SERIES), AlertKey(rule="r", series=pair)})
    members = GroupMembers(rule="g", group_series=GroupSeries(group="", scorer="lite"), members=keys)
    assert members.rendition_keys == {"news/1080p", "news/720p"}


def test_series_are_published_as_paths() -> None:
    pair = PairSeries(rendition_key="news/720p", scorer="lite", against="label:made_from")
    groups = (GroupSeries(group="", scorer="lite"), GroupSeries(group="encoder=a", scorer="lite"))
    assert str(SERIES) == "news/1080p/lite"
    assert str(pair) == "news/720p/lite~label:made_from"
    assert [str(series) for series in groups] == ["all/group/lite", "encoder=a/group/lite"]
