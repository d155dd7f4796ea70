"""Parsing of DASH MPDs (ISO/IEC 23009-1) to tracks and media playlists; raises SegmentError("playlist") only.

Segments of a presentation with a wall-clock origin are numbered by their start in milliseconds, because $Number$
restarts with each period and changes with each update of a timeline; segments of other VOD by their position.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from xml.etree.ElementTree import Element

from vqmon.core.types import Encryption
from vqmon.errors import SegmentError
from vqmon.media.sources.dash import xml
from vqmon.media.sources.dash.segments import Indexes, IndexLocation, Representation
from vqmon.media.sources.dash.timeline import PeriodBounds
from vqmon.media.sources.media_playlist import (
    MAX_ENTRIES,
    MAX_SEQUENCE,
    MAX_TRACKS,
    MediaPlaylist,
    PlaylistEntry,
    Track,
    add_seconds,
    assign_names,
    parse_seconds,
    parse_timestamp,
    plausible_time,
    resolve_url,
)

_TRICK_MODE = "http://dashif.org/guidelines/trickmode"
_SEGMENT_ENCRYPTION = "urn:mpeg:dash:sea:2012"
_COMMON_ENCRYPTION = "urn:mpeg:dash:mp4protection:2011"
_PROTECTION_SCHEMES = frozenset({"cenc", "cens", "cbc1", "cbcs"})
# An earlier start of a VOD presentation is not a real time: its media times just count from zero.
_EARLIEST_ORIGIN = datetime(2000, 1, 1, tzinfo=UTC)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DEFAULT_TARGET_SECONDS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """One Period: its start and duration within the presentation, and its video representations."""

    start_seconds: float
    # None = open end
    duration_seconds: float | None
    representations: Sequence[Representation]

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

    def index_locations(self, track: Track) -> list[IndexLocation]:
        """The locations of the indexes that `media_playlist` needs for a track."""
        representations = (period.closest_representation(track) for period in self.periods)
        locations = (representation.index_location() for representation in representations if representation)
        return [location for location in locations if location]

    def media_playlist(self, track: Track, now: datetime, indexes: Indexes) -> MediaPlaylist:
        """The segments of a track that are available at the time `now`."""
        entries: list[PlaylistEntry] = []
        for entry in self._list_entries(track, now, indexes):
            # Overlapping periods, or a timeline that jumps back, must not make sequence numbers decrease.
            if not entries or entry.sequence > entries[-1].sequence:
                entries.append(entry)
            if len(entries) > MAX_ENTRIES:
                raise SegmentError("playlist", "the MPD lists too many segments")
        longest = max((entry.duration_seconds for entry in entries), default=_DEFAULT_TARGET_SECONDS)
        return MediaPlaylist(entries=entries, target_seconds=longest, is_ended=self._is_ended(now))

    def _list_entries(self, track: Track, now: datetime, indexes: Indexes) -> Iterator[PlaylistEntry]:
        count = 0
        for number, period in enumerate(self.periods):
            representation = period.closest_representation(track)
            if representation is None:
                continue
            init_section = representation.init_section(indexes)
            segments = representation.segments(self._period_bounds(period, now), indexes)
            for position, segment in enumerate(segments):
                starts = period.start_seconds + segment.start_seconds
                sequence, next_sequence = self._sequence_numbers(starts, segment.duration_seconds, count)
                count += 1
                yield PlaylistEntry(
                    sequence=sequence,
                    next_sequence=next_sequence,
                    url=segment.url,
                    duration_seconds=parse_seconds(segment.duration_seconds),
                    starts_at=plausible_time(add_seconds(self.available_at, starts)) if self.available_at else None,
                    byte_range=segment.byte_range,
                    init_url=init_section.url if init_section else None,
                    init_byte_range=init_section.byte_range if init_section else None,
                    encryption=representation.encryption,
                    is_discontinuity=number > 0 and position == 0,
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

    def _period_bounds(self, period: Period, now: datetime) -> PeriodBounds:
        available_seconds = None
        if self.is_dynamic:
            available_seconds = (now - (self.available_at or _EPOCH)).total_seconds() - period.start_seconds
        return PeriodBounds(
            end_seconds=period.duration_seconds, available_seconds=available_seconds, window_seconds=self.window_seconds
        )

    def _is_ended(self, now: datetime) -> bool:
        if not self.is_dynamic:
            return True
        if self.is_updated or self.duration_seconds is None or self.available_at is None:
            return False
        return (now - self.available_at).total_seconds() > self.duration_seconds + 1


def parse_mpd(body: bytes, url: str) -> Manifest:
    """Parse an MPD; `url` is its own."""
    root = xml.parse_mpd_xml(body)
    is_dynamic = root.get("type", "static") == "dynamic"
    base = _base_url(url, root)
    duration = xml.parse_duration_seconds(root.attrib, "mediaPresentationDuration")
    periods = _parse_periods(root, base, duration)
    location = xml.find_child(root, "Location")
    return Manifest(
        is_dynamic=is_dynamic,
        available_at=_find_origin(root, periods, is_dynamic=is_dynamic),
        window_seconds=xml.parse_duration_seconds(root.attrib, "timeShiftBufferDepth"),
        duration_seconds=duration,
        is_updated=is_dynamic and "minimumUpdatePeriod" in root.attrib,
        periods=periods,
        tracks=_name_tracks(periods, url),
        location=resolve_url(url, location.text) if location is not None and location.text else url,
    )


def _find_origin(root: Element, periods: Sequence[Period], *, is_dynamic: bool) -> datetime | None:
    origin = plausible_time(parse_timestamp(root.get("availabilityStartTime", "")))
    if origin is None or is_dynamic:
        return origin
    first = periods[0].start_seconds if periods else 0.0
    return origin if add_seconds(origin, first) >= _EARLIEST_ORIGIN else None


def _parse_periods(root: Element, base: str, total_seconds: float | None) -> list[Period]:
    elements = xml.find_children(root, "Period")
    period_starts = [xml.parse_duration_seconds(element.attrib, "start") for element in elements]
    periods: list[Period] = []
    starts: float | None = 0.0
    for number, element in enumerate(elements):
        period_start = period_starts[number]
        starts = period_start if period_start is not None else starts
        if starts is None:
            # an early available period, whose start is not known yet
            break
        length = xml.parse_duration_seconds(element.attrib, "duration")
        next_start = period_starts[number + 1] if number + 1 < len(elements) else total_seconds
        if length is None and next_start is not None:
            length = max(0.0, next_start - starts)
        periods.append(
            Period(
                start_seconds=starts,
                duration_seconds=length,
                representations=list(_parse_representations(element, _base_url(base, element))),
            )
        )
        starts = starts + length if length is not None else None
    return periods


def _parse_representations(period: Element, base: str) -> Iterator[Representation]:
    for adaptation_set in xml.find_children(period, "AdaptationSet"):
        set_base = _base_url(base, adaptation_set)
        for element in xml.find_children(adaptation_set, "Representation"):
            if not _is_video(adaptation_set, element):
                continue
            own_base = _base_url(set_base, element)
            attributes = {**adaptation_set.attrib, **element.attrib}
            bandwidth = xml.parse_integer(attributes, "bandwidth", 0)
            yield Representation(
                track=Track(
                    name="",
                    url=own_base,
                    id=attributes.get("id", "") if "id" in element.attrib else "",
                    width=xml.parse_integer(attributes, "width", 0) or None,
                    height=xml.parse_integer(attributes, "height", 0) or None,
                    bitrate_kbps=bandwidth / 1000 if 0 < bandwidth < 10**12 else None,
                    codecs=attributes.get("codecs"),
                ),
                bandwidth=bandwidth,
                base_url=own_base,
                addressing=xml.find_addressing((period, adaptation_set, element)),
                encryption=_parse_encryption((adaptation_set, element), own_base),
            )


def _is_video(adaptation_set: Element, element: Element) -> bool:
    for level in (adaptation_set, element):
        properties = xml.find_children(level, "EssentialProperty") + xml.find_children(level, "SupplementalProperty")
        if any(descriptor.get("schemeIdUri") == _TRICK_MODE for descriptor in properties):
            return False
    if "dependencyId" in element.attrib:
        return False
    component = xml.find_child(adaptation_set, "ContentComponent")
    kind = adaptation_set.get("contentType") or (component.get("contentType") if component is not None else None)
    if kind:
        return kind == "video"
    mime = element.get("mimeType") or adaptation_set.get("mimeType")
    return mime.startswith("video/") if mime else any(name in element.attrib for name in ("width", "height"))


def _parse_encryption(levels: Sequence[Element], base: str) -> Encryption | None:
    protections = [element for level in levels for element in xml.find_children(level, "ContentProtection")]
    if not protections:
        return None
    for element in protections:
        period = xml.find_child(element, "CryptoPeriod")
        if element.get("schemeIdUri") == _SEGMENT_ENCRYPTION and period is not None:
            return _parse_segment_encryption(element, period, base)
    values = [element.get("value", "") for element in protections if element.get("schemeIdUri") == _COMMON_ENCRYPTION]
    return Encryption(method=next((value for value in values if value in _PROTECTION_SCHEMES), "cenc"))


def _parse_segment_encryption(element: Element, period: Element, base: str) -> Encryption:
    """ISO/IEC 23009-4: AES-128-CBC of whole segments with one key and IV for all; nothing else is supported."""
    system = xml.find_child(element, "SegmentEncryption")
    scheme = system.get("schemeIdUri", "") if system is not None else ""
    key, iv = period.get("keyUriTemplate", ""), period.get("IV", "")
    if (
        "aes128-cbc" not in scheme
        or not key
        or "$" in key
        or not iv
        or len(xml.find_children(element, "CryptoPeriod")) > 1
    ):
        return Encryption(method="sea")
    return Encryption(method="AES-128", key_url=resolve_url(base, key), iv_hex=iv.lower().removeprefix("0x").zfill(32))


def _name_tracks(periods: Sequence[Period], url: str) -> tuple[Track, ...]:
    """Name the tracks of the longest period, because advertisement periods have ladders of their own."""
    with_video = [period for period in periods if period.representations]
    if not with_video:
        raise SegmentError("playlist", "the MPD offers no video")

    def length(period: Period) -> float:
        return period.duration_seconds if period.duration_seconds is not None else math.inf

    main = max(with_video, key=length)
    if len(main.representations) > MAX_TRACKS:
        raise SegmentError("playlist", "the MPD lists too many renditions")
    return assign_names([replace(representation.track, url=url) for representation in main.representations])


def _base_url(base: str, element: Element) -> str:
    child = xml.find_child(element, "BaseURL")
    return resolve_url(base, child.text) if child is not None and child.text else base
