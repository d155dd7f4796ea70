"""Comparison of a playlist with its previous version: which segments are new, which were lost, and when they start."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from vqmon.core.types import AD_BREAK_LABEL, LaneCursor, Rendition, Segment, SegmentFailure, failure_from_error
from vqmon.errors import SegmentError
from vqmon.media.sources.hls.ad_breaks import AdBreakClock
from vqmon.media.sources.media_playlist import MediaPlaylist, PlaylistEntry, add_seconds

SegmentOrFailure = Segment | SegmentFailure


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenSegment:
    """A segment that is being made, as far as it can be decoded."""

    rendition: Rendition
    # that the segment will have
    sequence: int
    starts_at: datetime
    # joined they can be decoded; the first begins `offset_seconds` after the segment
    parts: tuple[Segment, ...]
    offset_seconds: float
    # usual length of what is added at a time; 0 when it is not known
    part_seconds: float
    # the one part is the segment itself, which its server sends as it is made
    is_growing: bool
    # the part that will follow, which may be requested before it is there
    hint: Segment | None = None


StartPosition = Literal["oldest", "newest"]

MAX_SKIPPED = 1000
"""The most failures for the lost segments of a gap; the oldest one stands for all that are more."""

_MAX_GAP_SECONDS = 365 * 86_400.0
_STALE_CACHE_TARGETS = 3


class PlaylistFollower:
    """Follows the playlist of one rendition without a clock of its own: each update brings the time.

    The sequence numbers of its segments never decrease. When a packager restarts and counts from the beginning, an
    offset is added from then on. A restart is distinguished from an outdated copy of the playlist (a lagging cache) by
    the entries: an outdated copy lists segments that were returned before, and lasts three target durations at most.
    A playlist without times that has ended begins at `opened_at`, which playlists of one content share, else at its
    first update.
    """

    def __init__(
        self,
        rendition: Rendition,
        url: str,
        *,
        cursor: LaneCursor | None = None,
        start: StartPosition = "oldest",
        opened_at: datetime | None = None,
    ) -> None:
        self._rendition = rendition
        self._url = url
        self._cursor = cursor
        self._start = start
        self._opened_at = opened_at
        # in the playlist's own numbers; adding `_offset` gives the numbers of the segments
        self._expected_sequence: int | None = None
        self._offset = 0
        self._last_sequence = cursor.sequence if cursor else -1
        # start of the next segment when the playlist gives no times
        self._next_starts_at: datetime | None = cursor.ends_at if cursor else None
        self._progress_at: datetime | None = None
        self._outdated_since: datetime | None = None
        self._recent: deque[tuple[int, tuple[str, int]]] = deque(maxlen=MAX_SKIPPED)
        self._is_restarted = False
        self._oldest_available: int | None = None
        self._ad_breaks = AdBreakClock()
        # of the last entry that was returned or passed over
        self._presentation_end_seconds: float | None = None

    @property
    def next_sequence(self) -> int:
        """The sequence number that the next segment is expected to get."""
        return self._last_sequence + 1

    @property
    def oldest_available(self) -> int | None:
        """The number of the oldest segment that the server of a live playlist is sure to have: that before the first.

        Servers keep a segment for some time after the playlist has lost it (RFC 8216 6.2.2), many of them one segment
        long. None for a playlist that loses none.
        """
        return self._oldest_available

    def update(self, playlist: MediaPlaylist, now: datetime) -> list[SegmentOrFailure]:
        """The new items of a playlist in order: failures for the segments that were lost, then the listed segments."""
        if not playlist.entries:
            return []
        if not playlist.is_numbered:
            playlist = replace(playlist, entries=self._number_by_location(playlist.entries))
        is_first = self._expected_sequence is None
        if is_first:
            self._begin(playlist, now)
            if not playlist.is_ended:
                self._ad_breaks.begin(playlist.entries)
        new_entries = self._new_entries(playlist, now)
        if is_first:
            self._pass_over(playlist.entries[: len(playlist.entries) - len(new_entries)], now)
        first = playlist.entries[0]
        oldest_available = first.sequence + self._offset - _sequence_step(first)
        self._oldest_available = None if playlist.is_ended else oldest_available
        if not new_entries:
            return []
        items = self._lost_items(new_entries[0], playlist, now)
        self._catch_up(new_entries, playlist, now)
        items += [self._make_item(entry, now) for entry in new_entries]
        self._progress_at = now
        return items

    def open_segment(self, playlist: MediaPlaylist) -> OpenSegment | None:
        """The segment after the ones returned so far, as far as the playlist lists it; None when it lists nothing."""
        opened = playlist.open_entry
        starts_at = self._next_starts_at
        if opened is None or starts_at is None or not playlist.is_numbered or self._expected_sequence is None:
            return None
        if abs(opened.sequence - self._expected_sequence) > _sequence_step(opened.parts[0]) // 2:
            return None
        parts: list[Segment] = []
        part_starts_at = add_seconds(starts_at, opened.offset_seconds)
        for entry in opened.parts:
            part = self._make_segment(entry, part_starts_at)
            parts.append(part)
            part_starts_at = part.ends_at
        return OpenSegment(
            rendition=self._rendition,
            sequence=opened.sequence + self._offset,
            starts_at=starts_at,
            parts=tuple(parts),
            offset_seconds=opened.offset_seconds,
            part_seconds=opened.part_seconds,
            is_growing=opened.is_growing,
            hint=None if opened.hint is None else self._make_segment(opened.hint, part_starts_at),
        )

    def _number_by_location(self, entries: Sequence[PlaylistEntry]) -> list[PlaylistEntry]:
        """Number the entries of a playlist without usable sequence numbers by those that were returned before.

        When none of these is listed any more, the entries follow the last one, as it is not known how many are missing.
        """
        first = self._last_sequence + 1 - self._offset
        for sequence, location in reversed(self._recent):
            positions = [index for index, entry in enumerate(entries) if entry.media_location == location]
            if positions:
                first = sequence - positions[-1]
                break
        else:
            if not self._recent and self._cursor is not None:
                positions = [index for index, entry in enumerate(entries) if self._is_at_cursor(entry, self._cursor)]
                first = self._cursor.sequence - positions[-1] if positions else first
        return [
            replace(entry, sequence=first + index, next_sequence=first + index + 1)
            for index, entry in enumerate(entries)
        ]

    def _begin(self, playlist: MediaPlaylist, now: datetime) -> None:
        """Choose the first entry: the one after the cursor, the oldest, or the newest."""
        if self._cursor is not None:
            self._offset = self._find_offset(self._cursor, playlist.entries)
            self._expected_sequence = self._last_sequence - self._offset + _sequence_step(playlist.entries[0])
            return
        chosen = playlist.entries[-1:] if self._start == "newest" and not playlist.is_ended else playlist.entries
        self._expected_sequence = chosen[0].sequence
        self._next_starts_at = (self._opened_at or now) if playlist.is_ended else now - _total(chosen)

    def _pass_over(self, earlier: Sequence[PlaylistEntry], now: datetime) -> None:
        """Note cues and ends of entries that are listed and not returned: a break may have begun before a restart."""
        starts_at = (self._next_starts_at or now) - _total(earlier)
        for entry in earlier:
            starts_at = entry.starts_at or starts_at
            self._ad_breaks.is_ad_break(entry, starts_at)
            self._presentation_end_seconds = _presentation_end_seconds(entry)
            starts_at += timedelta(seconds=entry.duration_seconds)

    def _find_offset(self, cursor: LaneCursor, entries: Sequence[PlaylistEntry]) -> int:
        """The offset that an earlier run added, from the listed entry that is the cursor's segment; 0 when none is."""
        if entries[-1].sequence >= cursor.sequence:
            return 0
        at_cursor = (entry for entry in reversed(entries) if self._is_at_cursor(entry, cursor))
        return next((cursor.sequence - entry.sequence for entry in at_cursor), 0)

    def _is_at_cursor(self, entry: PlaylistEntry, cursor: LaneCursor) -> bool:
        path, offset = entry.media_location
        location = path + (f"@{offset}" if offset >= 0 else "")
        return cursor.segment_key == f"{self._rendition.key}/{cursor.sequence}/{location}"

    def _new_entries(self, playlist: MediaPlaylist, now: datetime) -> Sequence[PlaylistEntry]:
        newest, expected = playlist.entries[-1], self._expected_sequence or 0
        if newest.sequence < expected - _sequence_step(newest) * 3 / 2:
            if self._may_be_outdated(playlist, now):
                return ()
            self._restart(playlist, now)
            return playlist.entries
        self._outdated_since = None
        new_entries = [entry for entry in playlist.entries if entry.sequence >= expected - _sequence_step(entry) // 2]
        if new_entries and self._is_renumbered(new_entries[0], len(playlist.entries), now):
            self._restart(playlist, now)
            return playlist.entries
        return new_entries

    def _may_be_outdated(self, playlist: MediaPlaylist, now: datetime) -> bool:
        """Whether a playlist whose numbers went backwards may be an outdated copy."""
        recent = set(self._recent)
        newest = playlist.entries[-1]
        drop = ((self._expected_sequence or 0) - newest.next_sequence) / _sequence_step(newest)
        if recent and not any((entry.sequence, entry.media_location) in recent for entry in playlist.entries):
            return False
        if not recent and drop > len(playlist.entries):
            return False
        self._outdated_since = self._outdated_since or now
        return abs(now - self._outdated_since) < timedelta(seconds=_STALE_CACHE_TARGETS * playlist.target_seconds)

    def _is_renumbered(self, first: PlaylistEntry, count: int, now: datetime) -> bool:
        """Whether the numbers jumped ahead by more segments than can have been produced since the last update."""
        if self._progress_at is None or not first.duration_seconds:
            return False
        jump = (first.sequence - (self._expected_sequence or 0)) / _sequence_step(first)
        # a clock that was set back tells nothing
        seconds = max(0.0, (now - self._progress_at).total_seconds())
        return jump > count + 10 + 2 * seconds / first.duration_seconds

    def _restart(self, playlist: MediaPlaylist, now: datetime) -> None:
        first = playlist.entries[0]
        self._offset = self._last_sequence + _sequence_step(first) - first.sequence
        self._expected_sequence = first.sequence
        self._outdated_since = None
        self._recent.clear()
        self._is_restarted = True
        starts_at = now if playlist.is_ended else now - _total(playlist.entries)
        self._next_starts_at = max(starts_at, self._next_starts_at or starts_at)

    def _catch_up(self, new_entries: Sequence[PlaylistEntry], playlist: MediaPlaylist, now: datetime) -> None:
        """After an outage of a live stream without times, continue its timeline at the present."""
        if self._next_starts_at is None or playlist.is_ended:
            return
        slack = max(_total(playlist.entries), timedelta(seconds=_STALE_CACHE_TARGETS * playlist.target_seconds))
        starts_at = now - _total(new_entries)
        if starts_at - self._next_starts_at > slack:
            self._next_starts_at = starts_at

    def _lost_items(self, first: PlaylistEntry, playlist: MediaPlaylist, now: datetime) -> list[SegmentOrFailure]:
        """One failure for each segment between the last one returned and the first new one."""
        step = _sequence_step(first)
        count = round((first.sequence - (self._expected_sequence or 0)) / step)
        seconds = first.duration_seconds or playlist.target_seconds
        if count > 0:
            # numbers may jump by any amount, times must stay times
            seconds = min(seconds, _MAX_GAP_SECONDS / count)
        starts_at = self._next_starts_at or now
        if first.starts_at:
            starts_at = first.starts_at - timedelta(seconds=seconds * count)
        # of a long gap the oldest segments are one failure, which says how many they are and lasts as long
        together = count - MAX_SKIPPED + 1 if count > MAX_SKIPPED else min(count, 1)
        items: list[SegmentOrFailure] = []
        for number in [0, *range(together, count)] if count > 0 else ():
            length = together if number == 0 else 1
            error = SegmentError("skipped")
            if length > 1:
                error = SegmentError("skipped", f"{error.detail}; {length} segments in a row, of {count} lost ones")
            segment = Segment(
                rendition=self._rendition,
                sequence=first.sequence + self._offset - (count - number - length + 1) * step,
                url=self._url,
                starts_at=starts_at + timedelta(seconds=seconds * number),
                duration_seconds=seconds * length,
            )
            items.append(failure_from_error(segment, error, observed_at=now))
        if count > 0:
            self._next_starts_at = starts_at + timedelta(seconds=seconds * count)
        return items

    def _make_item(self, entry: PlaylistEntry, now: datetime) -> SegmentOrFailure:
        starts_at = entry.starts_at or add_seconds(self._next_starts_at or now, self._gap_seconds(entry))
        segment = replace(
            self._make_segment(entry, starts_at),
            is_discontinuity=entry.is_discontinuity or self._is_restarted,
            labels={AD_BREAK_LABEL: "yes"} if self._ad_breaks.is_ad_break(entry, starts_at) else {},
        )
        self._is_restarted = False
        self._last_sequence = segment.sequence
        self._expected_sequence = entry.next_sequence
        self._next_starts_at = segment.ends_at
        self._presentation_end_seconds = _presentation_end_seconds(entry)
        self._recent.append((entry.sequence, entry.media_location))
        if entry.is_gap:
            return failure_from_error(segment, SegmentError("gap"), observed_at=now)
        if entry.problem:
            return failure_from_error(segment, SegmentError("playlist", entry.problem), observed_at=now)
        return segment

    def _gap_seconds(self, entry: PlaylistEntry) -> float:
        """By how much an entry begins after the end of the one before it, or before it (below 0)."""
        if entry.presentation_seconds is None or self._presentation_end_seconds is None:
            return 0.0
        return entry.presentation_seconds - self._presentation_end_seconds

    def _make_segment(self, entry: PlaylistEntry, starts_at: datetime) -> Segment:
        return Segment(
            rendition=self._rendition,
            sequence=entry.sequence + self._offset,
            url=entry.url,
            starts_at=starts_at,
            duration_seconds=entry.duration_seconds,
            byte_range=entry.byte_range,
            init_url=entry.init_url,
            init_byte_range=entry.init_byte_range,
            encryption=entry.encryption,
            mirrors=entry.mirrors,
        )


def _presentation_end_seconds(entry: PlaylistEntry) -> float | None:
    return None if entry.presentation_seconds is None else entry.presentation_seconds + entry.duration_seconds


def _sequence_step(entry: PlaylistEntry) -> int:
    return max(1, entry.next_sequence - entry.sequence)


def _total(entries: Sequence[PlaylistEntry]) -> timedelta:
    return timedelta(seconds=sum(entry.duration_seconds for entry in entries))
