"""Which offsets are committed and listed when records are finished in any order, and what is read after a restart."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.fleet.partitions.offsets import (
    OffsetTracker,
    Position,
    encode_overtaken,
    parse_overtaken,
    restored_position,
)
from vqmon.errors import WireError
from vqmon.transport.kafka.records import CommittedOffset


def test_in_order_only_the_next_offset_moves() -> None:
    """Gaps between the offsets hold nothing, and nothing is listed."""
    tracker = OffsetTracker(Position(next_offset=None))
    for offset in (0, 2, 7):
        assert tracker.deliver(offset)
    position = tracker.position_after([0, 2])
    assert (position.next_offset, position.overtaken, position.metadata) == (3, (), "")
    assert encode_overtaken(position) is None
    tracker.finish([0, 2], position)
    assert tracker.position_after([7]).next_offset == 8


def test_what_was_overtaken_is_listed_until_it_is_finished() -> None:
    """The committed offset stays at the first of it, and the metadata tells the commits apart."""
    tracker = OffsetTracker(Position(next_offset=4))
    for offset in (4, 6, 8, 10, 12):
        tracker.deliver(offset)
    first = tracker.position_after([8])
    assert (first.next_offset, first.end_offset, first.overtaken) == (4, 9, (4, 6))
    tracker.finish([8], first)
    second = tracker.position_after([10])
    assert (second.next_offset, second.end_offset, second.overtaken) == (4, 11, (4, 6))
    assert len({first.metadata, second.metadata, ""}) == 3
    tracker.finish([10], second)
    last = tracker.position_after([4, 6, 12])
    assert (last.next_offset, last.overtaken) == (13, ())


def test_overtaken_records_that_the_topic_deleted_meanwhile_are_not_waited_for() -> None:
    """A later record, or the end of the partition, shows that they are gone."""
    position = Position(next_offset=4, end_offset=11, overtaken=(4, 6))
    tracker = OffsetTracker(position)
    assert not tracker.deliver(8)
    assert tracker.position_after([]).next_offset == 11
    tracker = OffsetTracker(position)
    tracker.skip_to(20)
    assert tracker.position_after([], up_to=20).next_offset == 20


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**9), st.integers(1, 40), st.lists(st.booleans(), min_size=200, max_size=200))
def test_any_order_with_restarts_finishes_every_record_once(seed: int, window: int, restarts: list[bool]) -> None:
    """A worker delivers up to a window, finishes any of it, and may be replaced by one that reads its position."""
    random, offsets, finished = Random(seed), [3 * number for number in range(60)], list[int]()
    position, stored = Position(next_offset=None), None
    tracker, undelivered, held = OffsetTracker(position), list(offsets), list[int]()
    for restart in restarts:
        if restart and random.random() < 0.3:
            resumed = parse_overtaken(stored, next_offset=position.next_offset)
            assert resumed.metadata == position.metadata
            tracker, held = OffsetTracker(resumed), []
            undelivered = [offset for offset in offsets if offset >= (resumed.next_offset or 0)]
        while undelivered and len(held) < window:
            offset = undelivered.pop(0)
            if tracker.deliver(offset):
                held.append(offset)
        batch = sorted(random.sample(held, k=random.randint(0, min(3, len(held)))))
        if batch:
            position = tracker.position_after(batch)
            stored = encode_overtaken(position)
            tracker.finish(batch, position)
            finished += batch
            held = [offset for offset in held if offset not in batch]
    assert len(finished) == len(set(finished))
    unfinished = [offset for offset in offsets if offset not in finished]
    assert all(offset in finished for offset in offsets if offset < (position.next_offset or 0))
    assert set(position.overtaken) == {offset for offset in unfinished if offset < position.end_offset}


@pytest.mark.parametrize("stored", [b"", b"[]", b'{"end": 3}', b'{"end": "x", "offsets": []}'])
def test_a_list_that_cannot_be_read_is_an_error(stored: bytes) -> None:
    """It is never taken for an empty one: records would be read twice."""
    with pytest.raises(WireError):
        parse_overtaken(stored, next_offset=3)


@pytest.mark.parametrize("committed", [None, 0, 3, 4, 5])
def test_the_larger_of_both_offsets_counts(committed: int | None) -> None:
    """The group's is larger only when somebody has set it forward."""
    state = {"next-offset": b"4", "rule|series": b"{}"}
    commit = None if committed is None else CommittedOffset(offset=committed)
    assert restored_position(state, commit) == Position(next_offset=max(4, committed or 0))
    assert state == {"rule|series": b"{}"}


def test_an_offset_that_cannot_be_read_is_an_error() -> None:
    """It is never taken for none."""
    with pytest.raises(WireError):
        restored_position({"next-offset": b"x"}, None)
