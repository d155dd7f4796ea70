"""From one listing to the next: which segments are new, which were lost, and where they stand in time."""

from collections import deque
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal

from vqmon.core.types import LaneCursor, Rendition, Segment, SegmentFailure, failure_from_error
from vqmon.errors import SegmentError
from vqmon.media.sources.listing import Listed, Listing

Item = Segment | SegmentFailure
Start = Literal["oldest", "newest"]

MAX_SKIPPED = 1000
"""At most so many segments are reported one by one when more were lost."""

_OLD_COPY_TARGETS = 3


class Follower:
    """Follows one rendition's playlist; pure: the time comes in with each listing.

    Sequence numbers given out never fall. A packager that starts anew counts from the beginning again; from then on a
    constant is added. It is told from an old copy of the playlist (a cache that lags) by what it lists: an old copy
    lists what was taken before, and heals within three target durations.
    """

    def __init__(
        self, rendition: Rendition, url: str, *, cursor: LaneCursor | None = None, start: Start = "oldest"
    ) -> None:
        self._rendition = rendition
        self._url = url
        self._cursor = cursor
        self._start = start
        # in the playlist's own numbers; `_offset` leads from there to the ones given out
        self._expected: int | None = None
        self._offset = 0
        self._last = cursor.sequence if cursor else -1
        # where the next segment stands when the playlist does not tell
        self._starts_at: datetime | None = cursor.ends_at if cursor else None
        self._taken_at: datetime | None = None
        self._behind_since: datetime | None = None
        self._recent: deque[tuple[int, tuple[str, int]]] = deque(maxlen=MAX_SKIPPED)
        self._is_new_start = False

    @property
    def next_sequence(self) -> int:
        """The sequence number that the next segment is expected to get."""
        return self._last + 1

    def take(self, listing: Listing, now: datetime) -> list[Item]:
        """What is new in a listing, in order: lost segments first, then the listed ones."""
        if not listing.entries:
            return []
        if self._expected is None:
            self._begin(listing, now)
        fresh = self._fresh(listing, now)
        if not fresh:
            return []
        items = self._lost(fresh[0], listing, now)
        self._catch_up(fresh, listing, now)
        items += [self._item(entry, now) for entry in fresh]
        self._taken_at = now
        return items

    def _begin(self, listing: Listing, now: datetime) -> None:
        """Decide where to begin: after the cursor, with everything, or with the newest."""
        if self._cursor is not None:
            self._offset = self._offset_by(self._cursor, listing.entries)
            self._expected = self._last - self._offset + _span(listing.entries[0])
            return
        wanted = listing.entries[-1:] if self._start == "newest" and not listing.is_ended else listing.entries
        self._expected = wanted[0].sequence
        self._starts_at = now if listing.is_ended else now - _total(wanted)

    def _offset_by(self, cursor: LaneCursor, entries: Sequence[Listed]) -> int:
        """The constant that was added before this process began: the cursor's segment may tell it."""
        if entries[-1].sequence >= cursor.sequence:
            return 0
        start = f"{self._rendition.key}/{cursor.sequence}/"
        for entry in reversed(entries):
            path, offset = entry.place
            if cursor.segment_key == f"{start}{path}" + (f"@{offset}" if offset >= 0 else ""):
                return cursor.sequence - entry.sequence
        return 0

    def _fresh(self, listing: Listing, now: datetime) -> Sequence[Listed]:
        newest, expected = listing.entries[-1], self._expected or 0
        if newest.sequence < expected - _span(newest) * 3 / 2:
            if self._may_be_old_copy(listing, now):
                return ()
            self._begin_anew(listing, now)
            return listing.entries
        self._behind_since = None
        fresh = [entry for entry in listing.entries if entry.sequence >= expected - _span(entry) // 2]
        if fresh and self._is_renumbered(fresh[0], len(listing.entries), now):
            self._begin_anew(listing, now)
            return listing.entries
        return fresh

    def _may_be_old_copy(self, listing: Listing, now: datetime) -> bool:
        """Whether a listing that went backwards may be a copy from before."""
        recent = set(self._recent)
        newest = listing.entries[-1]
        drop = ((self._expected or 0) - newest.next_sequence) / _span(newest)
        if recent and not any((entry.sequence, entry.place) in recent for entry in listing.entries):
            return False
        if not recent and drop > len(listing.entries):
            return False
        self._behind_since = self._behind_since or now
        return now - self._behind_since < timedelta(seconds=_OLD_COPY_TARGETS * listing.target_seconds)

    def _is_renumbered(self, first: Listed, count: int, now: datetime) -> bool:
        """Whether the numbers jumped ahead further than segments can have been made in the meantime."""
        if self._taken_at is None or not first.duration_seconds:
            return False
        jump = (first.sequence - (self._expected or 0)) / _span(first)
        return jump > count + 10 + 2 * (now - self._taken_at).total_seconds() / first.duration_seconds

    def _begin_anew(self, listing: Listing, now: datetime) -> None:
        first = listing.entries[0]
        self._offset = self._last + _span(first) - first.sequence
        self._expected = first.sequence
        self._behind_since = None
        self._recent.clear()
        self._is_new_start = True
        begins = now if listing.is_ended else now - _total(listing.entries)
        self._starts_at = max(begins, self._starts_at or begins)

    def _catch_up(self, fresh: Sequence[Listed], listing: Listing, now: datetime) -> None:
        """After an outage of an undated live stream its timeline goes on at the present, not where it broke off."""
        if self._starts_at is None or listing.is_ended:
            return
        slack = max(_total(listing.entries), timedelta(seconds=_OLD_COPY_TARGETS * listing.target_seconds))
        begins = now - _total(fresh)
        if begins - self._starts_at > slack:
            self._starts_at = begins

    def _lost(self, first: Listed, listing: Listing, now: datetime) -> list[Item]:
        """One failure for each segment between the last one taken and the first one listed."""
        span = _span(first)
        count = round((first.sequence - (self._expected or 0)) / span)
        seconds = first.duration_seconds or listing.target_seconds
        begins = self._starts_at or now
        if first.starts_at:
            begins = first.starts_at - timedelta(seconds=seconds * count)
        error = SegmentError("skipped")
        if count > MAX_SKIPPED:
            error = SegmentError("skipped", f"{error.detail}; {count} in a row, the last {MAX_SKIPPED} are reported")
        items: list[Item] = []
        for number in range(max(0, count - MAX_SKIPPED), count):
            segment = Segment(
                rendition=self._rendition,
                sequence=first.sequence + self._offset - (count - number) * span,
                url=self._url,
                starts_at=begins + timedelta(seconds=seconds * number),
                duration_seconds=seconds,
            )
            items.append(failure_from_error(segment, error, observed_at=now))
        if count > 0:
            self._starts_at = begins + timedelta(seconds=seconds * count)
        return items

    def _item(self, entry: Listed, now: datetime) -> Item:
        segment = Segment(
            rendition=self._rendition,
            sequence=entry.sequence + self._offset,
            url=entry.url,
            starts_at=entry.starts_at or self._starts_at or now,
            duration_seconds=entry.duration_seconds,
            byte_range=entry.byte_range,
            init_url=entry.init_url,
            init_byte_range=entry.init_byte_range,
            encryption=entry.encryption,
            is_discontinuity=entry.is_discontinuity or self._is_new_start,
        )
        self._is_new_start = False
        self._last = segment.sequence
        self._expected = entry.next_sequence
        self._starts_at = segment.ends_at
        self._recent.append((entry.sequence, entry.place))
        return failure_from_error(segment, SegmentError("gap"), observed_at=now) if entry.is_gap else segment


def _span(entry: Listed) -> int:
    return max(1, entry.next_sequence - entry.sequence)


def _total(entries: Sequence[Listed]) -> timedelta:
    return timedelta(seconds=sum(entry.duration_seconds for entry in entries))
