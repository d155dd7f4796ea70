"""Any record whatsoever becomes one outcome that can be judged, written and read back."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.fleet.judging.judge import PartitionJudge
from pipelines.fleet.judging.records import observe_record
from pipelines.fleet.judging.states import readable_states
from pipelines.observe.observer import Observation
from tests import factories
from tests.acceptance.kafka.observers import observe_at_once
from tests.factories import RENDITION, START
from tests.pipelines.fleet.partitions.test_worker import RULES
from tests.pipelines.memory_fleet import IDENTITY, NAMES, MemoryFleet, segment, until
from vqmon.core.alerts.annotations import ALL_RENDITIONS, StreamEnd, stream_end
from vqmon.core.frames import SpliceCue
from vqmon.core.types import AD_BREAK_LABEL, Alert, Segment
from vqmon.settings.rules_file import parse_rules
from vqmon.transport.kafka import Record
from vqmon.transport.wire import cloudevents
from vqmon.transport.wire.control_messages import control_message_headers, encode_control_message
from vqmon.transport.wire.segment_messages import encode_segment

LOW_SCORE = """
[rules.low]
kind = "floor"
severity = "page"
scorer = "lite"
below = 40
recover_above = 45
for_seconds = 8
"""
GOOD = json.loads(encode_segment(segment(1), source="test")[1])
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=True), st.text(max_size=20), st.just("http://[")
)
FIELDS = st.sampled_from(
    ["sequence", "url", "starts_at", "duration_seconds", "labels", "init_url", "rendition", "extra"]
)
RENDITION_FIELDS = st.sampled_from(["name", "width", "bitrate_kbps", "codecs", "labels"])
HEADERS = st.lists(st.tuples(st.text(max_size=10), st.one_of(st.none(), st.binary(max_size=20))), max_size=4)


@st.composite
def values(draw: st.DrawFn) -> bytes:
    """A segment message with some of it changed, or any bytes."""
    if draw(st.booleans()):
        return draw(st.binary(max_size=100))
    data = {**GOOD["data"], **draw(st.dictionaries(FIELDS, SCALARS, max_size=3))}
    if isinstance(data["rendition"], dict):
        data["rendition"] = {**data["rendition"], **draw(st.dictionaries(RENDITION_FIELDS, SCALARS, max_size=2))}
    return json.dumps({**GOOD, "data": data}).encode("utf-8", "replace")


async def outcome_of(record: Record) -> None:
    """Look, judge, and read back what would be written."""
    looked = await observe_record(record, observe_at_once, IDENTITY, now=lambda: datetime(2026, 1, 2, tzinfo=UTC))
    judge = PartitionJudge(0, IDENTITY, rules=RULES, stored={}, rejected_limit=0.9)
    judged = judge.judge_records([looked])
    assert judged.count == 1
    assert list(judged.observed) == [looked]
    written = [outgoing for outgoing in judged.records if outgoing.topic == NAMES.quality]
    assert len(written) == 1
    assert cloudevents.parse_outcome(written[0].value or b"") == looked.outcome
    copies = [copy for copy in judged.records if copy.topic == NAMES.rejected]
    assert len(copies) == (looked.rejected is not None)
    for copy in copies:
        # null stays null
        assert (copy.key, copy.value) == (record.key, record.value)
        assert copy.headers[: len(record.headers)] == record.headers


@settings(deadline=None, max_examples=200)
@given(
    key=st.one_of(st.none(), st.just(b"news"), st.binary(max_size=10)),
    value=st.one_of(st.none(), values()),
    headers=HEADERS,
    timestamp_ms=st.integers(-(2**63), 2**63 - 1),
)
async def test_any_record_has_one_outcome(
    key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes | None]], timestamp_ms: int
) -> None:
    """Nothing that a producer can write ends the worker."""
    await outcome_of(Record(0, 7, key, value, tuple(headers), timestamp_ms))


@pytest.mark.parametrize("size", [10_001, 28_000, 28_001, 200_000])
async def test_large_records_are_kept_as_far_as_they_fit(size: int) -> None:
    """What the rejected topic cannot take is cut, and the record says so; the whole never exceeds what it takes."""
    headers = (("null", None), ("small", b"z"), ("large", b"y" * 20_000), ("last", b"z"))
    record = Record(0, 7, b"k" * 9000, b"x" * size, headers, 0)
    looked = await observe_record(record, observe_at_once, IDENTITY, now=lambda: datetime(2026, 1, 2, tzinfo=UTC))
    judged = PartitionJudge(0, IDENTITY, rules=(), stored={}, rejected_limit=0.9).judge_records([looked])
    copy = next(record for record in judged.records if record.topic == NAMES.rejected)
    assert len(copy.value or b"") == min(size, 28_000)
    added = dict(copy.headers)
    assert ("vqmon-rejected-cut" in added) == (size > 28_000)
    assert (added["vqmon-rejected-key-cut"], added["vqmon-rejected-headers-cut"]) == (b"9000", b"2 of 4")
    assert copy.headers[:2] == record.headers[:2]
    whole = len(copy.key or b"") + len(copy.value or b"") + sum(len(a) + len(b or b"") for a, b in copy.headers)
    assert whole <= IDENTITY.max_rejected_bytes


async def test_an_end_on_a_partition_resolves_alerts_and_is_no_outcome() -> None:
    """Also in a batch of its own: the alert and the end itself are written, and the worker reports the alert."""
    fleet, published = MemoryFleet(partitions=1, rules=parse_rules(LOW_SCORE)), list[Alert]()
    events = [factories.event(sequence=sequence, score=20) for sequence in range(4)]
    events_by_key = {event.segment.key: event for event in events}

    async def observe(segment: Segment) -> Observation:
        return Observation(outcome=events_by_key[segment.key])

    for event in events:
        fleet.put(0, event.segment)
    await fleet.drain(fleet.context(observe), 4)
    fleet.note(0, stream_end(RENDITION.stream_id, ALL_RENDITIONS, START + timedelta(days=1), announced_at=START))
    await fleet.drain(fleet.context(observe, on_publish=lambda outcomes, alerts: published.extend(alerts)), 5)
    assert [alert.state for alert in fleet.alerts] == ["open", "resolved"]
    assert published == fleet.alerts[1:]
    assert fleet.outcomes == events
    (end,) = fleet.control_messages
    # Dated by the last segment, as whoever announced the end could not know it.
    assert isinstance(end, StreamEnd)
    assert end.at == events[-1].segment.ends_at


async def test_an_end_whose_key_is_not_the_stream_id_is_rejected_with_an_outcome() -> None:
    """It may be on a partition that does not hold the stream."""
    fleet = MemoryFleet(partitions=1)
    end = stream_end("news", ALL_RENDITIONS, START, announced_at=START)
    fleet.put_raw(0, b"sport", encode_control_message(end, source="test"), *control_message_headers(end))
    await fleet.drain(fleet.context(), 1)
    (outcome,) = fleet.outcomes
    assert "key must be the stream id" in getattr(outcome, "detail", "")
    assert not fleet.control_messages


async def test_an_end_is_passed_on_by_the_partition_that_has_its_stream() -> None:
    """It comes over every partition, as nobody knows the partitioner of whoever announced the stream."""
    fleet = MemoryFleet(partitions=3)
    fleet.put(1, segment(0, stream_id="news"))
    fleet.put(2, segment(0, stream_id="sport"))
    end = stream_end("news", ALL_RENDITIONS, START, announced_at=START)
    for partition in range(3):
        fleet.note(partition, end)
    await fleet.drain(fleet.context(), 3)
    await until(lambda: len(fleet.broker.offsets) == 3)
    written = [*fleet.broker.records(NAMES.quality), *fleet.broker.records(NAMES.control)]
    assert [(record.partition, record.key) for record in written] == [
        (1, b"news"),
        (2, b"sport"),
        (1, b"org.vqmon.ended.v1/news"),
    ]


def test_states_that_cannot_be_read_can_be_left_out() -> None:
    """The others stay as they are, those of the partition itself among them."""
    good = {"rejections": b'{"share":0.5,"alert":null}'}
    bad = {"floor|news": b"{}", "origins": b"[]", "missing|x": b""}
    assert readable_states({**good, **bad}, partition=0) == good


async def test_an_overload_of_the_worker_is_an_alert_that_outlives_it() -> None:
    """Opened with the next record, and resolved by whoever has the partition when its worker keeps up."""
    stored: dict[str, bytes] = {}
    text = "vqmon cannot keep up, decode is short"

    async def judge(number: int, overload: str | None) -> list[Alert]:
        judge = PartitionJudge(
            0, IDENTITY, rules=(), stored=stored, rejected_limit=0.9, overload=lambda partition: overload
        )
        key, value = encode_segment(segment(number), source="test")
        record = Record(0, number, key, value, (), 0)
        observed = await observe_record(record, observe_at_once, IDENTITY, now=lambda: START)
        judged = judge.judge_records([observed])
        for written in judged.records:
            if written.topic == NAMES.state and written.key == b"overload":
                stored.pop("overload", None)
                stored.update({} if written.value is None else {"overload": written.value})
        assert sum(written.topic == NAMES.alerts for written in judged.records) == len(judged.alerts)
        return list(judged.alerts)

    assert await judge(0, "") == []
    (opened,) = await judge(1, text)
    assert (opened.rule, opened.state, opened.summary) == ("overloaded", "open", text)
    assert opened.stream_id == NAMES.segments
    # the same worker, and the next one while it cannot tell
    assert await judge(2, text) == await judge(2, None) == []
    assert readable_states(stored, partition=0) == stored
    (resolved,) = await judge(3, "")
    assert (resolved.id, resolved.state) == (opened.id, "resolved")
    assert await judge(4, "") == []


async def test_an_ad_break_outlives_its_worker() -> None:
    """Every record is judged by another worker, which has the state topic; a rule that masks breaks sees none of it."""
    stored: dict[str, bytes] = {}
    cue = SpliceCue(begins=True, at_seconds=4.0, seconds=8.0)
    rules = parse_rules(LOW_SCORE + "mask_ad_breaks = true\n")

    async def observe(segment: Segment) -> Observation:
        event = factories.event(sequence=segment.sequence, score=20.0 if segment.sequence in (2, 3) else 80.0)
        event = replace(event, segment=segment)
        cues = (cue,) if segment.sequence == 1 else ()
        return Observation(outcome=replace(event, media=replace(event.media, splices=cues)))

    labels = []
    for number in range(6):
        key, value = encode_segment(segment(number), source="test")
        record = Record(0, number, key, value, (), 0)
        observed = await observe_record(record, observe, IDENTITY, now=lambda: START)
        judged = PartitionJudge(0, IDENTITY, rules=rules, stored=stored, rejected_limit=0.9).judge_records([observed])
        for written in judged.records:
            assert written.topic != NAMES.alerts
            if written.topic == NAMES.quality:
                labels.append(cloudevents.parse_outcome(written.value or b"").segment.labels.get(AD_BREAK_LABEL))
            if written.topic == NAMES.state and written.value is not None:
                stored[(written.key or b"").decode()] = written.value
    assert labels == [None, None, "yes", "yes", None, None]


async def test_a_segment_that_is_announced_twice_gets_one_verdict() -> None:
    """Also after a restart; another segment of the same sequence, or one that had no score, is no duplicate."""
    fleet = MemoryFleet(partitions=1)
    for number in (0, 1, 0):
        fleet.put(0, segment(number))
    fleet.put(0, segment(2, url="file:///gone"))
    fleet.put(0, segment(2, url="file:///gone"))
    await fleet.drain(fleet.context(), 5)
    fleet.put(0, segment(1))
    fleet.put(0, segment(1, url="file:///media/news/other.mp4"))
    await fleet.drain(fleet.context(), 7)
    reasons = [getattr(outcome, "reason", "scored") for outcome in fleet.outcomes]
    assert reasons == ["scored", "scored", "duplicate", "not_found", "not_found", "duplicate", "scored"]
    verdicts = [outcome.id for outcome in fleet.outcomes if getattr(outcome, "reason", "") != "not_found"]
    assert len(set(verdicts)) == 5
