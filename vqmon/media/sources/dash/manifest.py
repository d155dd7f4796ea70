"""A parsed DASH MPD: its periods, and the media playlist of each track at a time; raises SegmentError("playlist") only.

Segments of a presentation with a wall-clock origin are numbered by their start in milliseconds, because $Number$
restarts with each period and changes with each update of a timeline; segments of other VOD by their position.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from vqmon.errors import SegmentError
from vqmon.media.sources.dash.clock import ClockSource
from vqmon.media.sources.dash.content import AdBreak
from vqmon.media.sources.dash.segments import Indexes, Representation
from vqmon.media.sources.dash.sidx import IndexLocation
from vqmon.media.sources.dash.timeline import MAX_EARLY_SECONDS, MAX_NEWEST_SEGMENTS, PeriodBounds
from vqmon.media.sources.media_playlist import (
    MAX_ENTRIES,
    MAX_SEQUENCE,
    MAX_SUBTITLES,
    MediaPlaylist,
    OpenEntry,
    Origin,
    PlaylistEntry,
    SubtitleTrack,
    Track,
    add_seconds,
    parse_seconds,
    plausible_time,
    with_mirrors,
)
from vqmon.media.sources.steering import SteeringServer

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DEFAULT_TARGET_SECONDS = 2.0
_LOW_LATENCY_RELOAD_SECONDS = 0.5
"""Chunks of low-latency DASH last from 0.2 s to 1 s; the MPD itself is fetched once a second at most."""


_OrderOrigins = Callable[[Sequence[Origin]], list[Origin]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """One Period: its start and duration within the presentation, and its representations."""

    start_seconds: float
    # None = open end
    duration_seconds: float | None
    # of the video
    representations: Sequence[Representation]
    # of the adaptation set whose sound a player begins with
    sound: Sequence[Representation] = ()
    # of each adaptation set of subtitles
    subtitles: Mapping[SubtitleTrack, Sequence[Representation]] = field(default_factory=dict)
    # why nothing of the period can be used; empty otherwise
    problem: str = ""

    def closest_representation(self, track: Track) -> Representation | None:
        """The representation that continues a track: the same one, else the most similar one."""

        def distance(other: Representation) -> tuple[bool, int, float]:
            size = abs((other.track.height or 0) - (track.height or 0))
            rate = abs((other.track.bitrate_kbps or 0) - (track.bitrate_kbps or 0))
            return other.track.id != track.id or size > 0, size, rate

        return min(self.representations, key=distance, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A parsed MPD."""

    is_dynamic: bool
    # the wall-clock time of presentation time zero (availabilityStartTime)
    available_at: datetime | None
    # time-shift buffer depth
    window_seconds: float | None
    duration_seconds: float | None
    is_updated: bool
    periods: Sequence[Period]
    tracks: tuple[Track, ...]
    # the URL of the next update
    location: str
    # the URLs of remote elements
    links: Sequence[str] = ()
    clocks: Sequence[ClockSource] = ()
    steering: SteeringServer | None = None
    ad_breaks: Sequence[AdBreak] = ()
    # what the MPD says that could not be used
    warnings: tuple[str, ...] = ()

    @property
    def sound(self) -> "Manifest":
        """The same presentation with its sound as the one track; without tracks when no set has sound alone."""
        listed = [representation for period in self.periods for representation in period.sound]
        best = max(listed, key=lambda representation: representation.bandwidth, default=None)
        return replace(
            self,
            periods=[replace(period, representations=period.sound) for period in self.periods],
            tracks=() if best is None else (replace(best.track, name="sound"),),
        )

    @property
    def subtitles(self) -> tuple[SubtitleTrack, ...]:
        """The sets of subtitles of all periods, each name once."""
        tracks = {track.name: track for period in reversed(self.periods) for track in period.subtitles}
        return tuple(tracks.values())[:MAX_SUBTITLES]

    def of_subtitles(self, name: str) -> "Manifest":
        """The same presentation with one set of subtitles as the one track; without tracks when there is none."""
        listed = [
            next((texts for track, texts in period.subtitles.items() if track.name == name), ())
            for period in self.periods
        ]
        first = next((text for texts in listed for text in texts), None)
        return replace(
            self,
            periods=[
                replace(period, representations=texts, problem="")
                for period, texts in zip(self.periods, listed, strict=True)
            ],
            tracks=() if first is None else (replace(first.track, name=name),),
        )

    def index_locations(self, track: Track) -> list[IndexLocation]:
        """The locations of the indexes that `media_playlist` needs for a track."""
        locations = []
        for period in self.periods:
            representation = period.closest_representation(track)
            # an invalid one is the problem of its period in `media_playlist`
            with suppress(SegmentError):
                if representation and (location := representation.index_location()):
                    locations.append(location)
        return locations

    def media_playlist(
        self, track: Track, now: datetime, indexes: Indexes, *, order: _OrderOrigins = list
    ) -> MediaPlaylist:
        """The segments of a track that are available at the time `now`; `order` puts the preferred origin first.

        A period that cannot be used is one entry with a `problem`, unless there is nothing else.
        """
        entries: list[PlaylistEntry] = []
        errors: list[SegmentError] = []
        for number, period in enumerate(self.periods):
            try:
                listed = self._list_period(period, track, now, indexes, order, count=len(entries))
            except SegmentError as error:
                errors.append(error)
                listed = [self._problem_entry(period, error, count=len(entries))]
            if number > 0 and listed:
                listed[0] = replace(listed[0], is_discontinuity=True)
            for entry in listed:
                # Overlapping periods, or a timeline that jumps back, must not make sequence numbers decrease.
                if not entries or entry.sequence > entries[-1].sequence:
                    entries.append(entry)
            if len(entries) > MAX_ENTRIES:
                raise SegmentError("playlist", "the MPD lists too many segments")
        has_low_latency = self._has_low_latency(track)
        if errors and all(entry.problem for entry in entries):
            raise errors[0]
        longest = max((entry.duration_seconds for entry in entries if not entry.problem), default=0.0)
        return MediaPlaylist(
            entries=entries[-MAX_NEWEST_SEGMENTS:] if self.is_dynamic else entries,
            target_seconds=longest or _DEFAULT_TARGET_SECONDS,
            is_ended=self._is_ended(now),
            warnings=self.warnings,
            reload_seconds=_LOW_LATENCY_RELOAD_SECONDS if has_low_latency else None,
            open_entry=self._open_entry(entries, track, now, indexes, order) if has_low_latency else None,
        )

    def _open_entry(
        self,
        entries: Sequence[PlaylistEntry],
        track: Track,
        now: datetime,
        indexes: Indexes,
        order: _OrderOrigins,
    ) -> OpenEntry | None:
        """The segment after the listed ones, when it has begun and its server sends it as it is made."""
        if not entries:
            return None
        seconds = entries[-1].duration_seconds
        try:
            listed = self._list_period(
                self.periods[-1], track, now, indexes, order, count=len(entries), max_early_seconds=seconds
            )
        except SegmentError:
            return None
        for entry in listed:
            if entry.sequence > entries[-1].sequence and entry.encryption is None:
                return OpenEntry(sequence=entry.sequence, parts=(entry,), is_growing=True)
        return None

    def _has_low_latency(self, track: Track) -> bool:
        representations = (period.closest_representation(track) for period in self.periods)
        return self.is_dynamic and any(
            representation.offset_seconds > 0 for representation in representations if representation
        )

    def _list_period(
        self,
        period: Period,
        track: Track,
        now: datetime,
        indexes: Indexes,
        order: _OrderOrigins,
        *,
        count: int,
        max_early_seconds: float = MAX_EARLY_SECONDS,
    ) -> list[PlaylistEntry]:
        if period.problem:
            raise SegmentError("playlist", period.problem)
        representation = period.closest_representation(track)
        if representation is None:
            return []
        origin, *others = order(representation.origins)
        representation = replace(representation, origins=(origin,))
        init_section = representation.init_section(indexes)
        media_offset_seconds = representation.media_offset_seconds
        entries = []
        bounds = self._period_bounds(period, now, representation, max_early_seconds)
        for position, segment in enumerate(representation.segments(bounds, indexes), count):
            starts = period.start_seconds + segment.start_seconds
            sequence, next_sequence = self._sequence_numbers(starts, segment.duration_seconds, position)
            entries.append(
                PlaylistEntry(
                    sequence=sequence,
                    next_sequence=next_sequence,
                    url=segment.url,
                    reference=segment.reference,
                    duration_seconds=parse_seconds(segment.duration_seconds),
                    starts_at=plausible_time(add_seconds(self.available_at, starts)) if self.available_at else None,
                    byte_range=segment.byte_range,
                    problem=segment.problem,
                    init_url=init_section.url if init_section else None,
                    init_reference=init_section.reference if init_section else "",
                    init_byte_range=init_section.byte_range if init_section else None,
                    encryption=representation.encryption,
                    media_offset_seconds=media_offset_seconds,
                    presentation_seconds=starts,
                    is_ad_break=any(each.covers(starts) for each in self.ad_breaks),
                )
            )
        return with_mirrors(entries, others) if others else entries

    def _problem_entry(self, period: Period, error: SegmentError, *, count: int) -> PlaylistEntry:
        """The entry that stands for a whole period."""
        seconds = parse_seconds(period.duration_seconds or 0.0)
        sequence, next_sequence = self._sequence_numbers(period.start_seconds, seconds, count)
        starts_at = plausible_time(add_seconds(self.available_at, period.start_seconds)) if self.available_at else None
        return PlaylistEntry(
            sequence=sequence,
            next_sequence=next_sequence,
            url=self.location,
            duration_seconds=seconds,
            starts_at=starts_at,
            presentation_seconds=period.start_seconds,
            problem=error.detail,
        )

    def _sequence_numbers(self, starts: float, seconds: float, position: int) -> tuple[int, int]:
        """The sequence numbers of a segment and of the next one; `starts` is in seconds of presentation time."""
        if self.available_at is None and not self.is_dynamic:
            return position, position + 1
        origin = (self.available_at - _EPOCH).total_seconds() if self.available_at else 0.0
        sequence, next_sequence = (round((origin + time) * 1000) for time in (starts, starts + seconds))
        if not 0 <= sequence < MAX_SEQUENCE:
            raise SegmentError("playlist", "a time in the MPD is out of range")
        return sequence, max(next_sequence, sequence + 1)

    def _period_bounds(
        self, period: Period, now: datetime, representation: Representation, max_early_seconds: float
    ) -> PeriodBounds:
        available_seconds = None
        if self.is_dynamic:
            available_seconds = (now - (self.available_at or _EPOCH)).total_seconds() - period.start_seconds
        return PeriodBounds(
            end_seconds=period.duration_seconds,
            available_seconds=available_seconds,
            window_seconds=self.window_seconds,
            offset_seconds=representation.offset_seconds,
            max_early_seconds=max_early_seconds,
        )

    def _is_ended(self, now: datetime) -> bool:
        if not self.is_dynamic:
            return True
        if self.is_updated or self.duration_seconds is None or self.available_at is None:
            return False
        return (now - self.available_at).total_seconds() > self.duration_seconds + 1
