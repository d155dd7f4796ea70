"""DASH MPD -> tracks and listings (ISO/IEC 23009-1); raises SegmentError("playlist") only.

Segments of a presentation with a wall-clock origin are numbered by their start in milliseconds, because $Number$ begins
again with each period and moves with each update of a timeline; those of a plain VOD by their place in the list.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from xml.etree.ElementTree import Element

from vqmon.core.types import Encryption
from vqmon.errors import SegmentError
from vqmon.media.sources.dash import xml
from vqmon.media.sources.dash.segments import Indexes, IndexPlace, Representation
from vqmon.media.sources.dash.timeline import Clock
from vqmon.media.sources.listing import (
    MAX_LISTED,
    MAX_SEQUENCE,
    MAX_TRACKS,
    Listed,
    Listing,
    Track,
    later,
    moment_of,
    real,
    resolve,
    seconds_of,
    with_names,
)

_TRICK_MODE = "http://dashif.org/guidelines/trickmode"
_SEGMENT_ENCRYPTION = "urn:mpeg:dash:sea:2012"
_COMMON_ENCRYPTION = "urn:mpeg:dash:mp4protection:2011"
_SCHEMES = frozenset({"cenc", "cens", "cbc1", "cbcs"})
# A presentation that began earlier than this only says that its media times count from zero.
_EARLIEST_REAL = datetime(2000, 1, 1, tzinfo=UTC)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DEFAULT_TARGET_SECONDS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """One Period: where it stands in the presentation, and its video."""

    begins_seconds: float
    # None = open end
    duration_seconds: float | None
    representations: Sequence[Representation]

    def nearest(self, track: Track) -> Representation | None:
        """The representation that goes on with a track: the same one, else the most similar."""

        def distance(other: Representation) -> tuple[bool, int, float]:
            size = abs((other.track.height or 0) - (track.height or 0))
            rate = abs((other.track.bitrate_kbps or 0) - (track.bitrate_kbps or 0))
            return other.track.id != track.id or size > 0, size, rate

        return min(self.representations, key=distance, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """An MPD, read."""

    is_dynamic: bool
    # the wall-clock moment of presentation time zero
    available_at: datetime | None
    window_seconds: float | None
    duration_seconds: float | None
    is_updated: bool
    periods: Sequence[Period]
    tracks: tuple[Track, ...]
    # where the next update is
    location: str

    def indexes(self, track: Track) -> list[IndexPlace]:
        """The indexes that `listing` needs for a track."""
        found = (period.nearest(track) for period in self.periods)
        return [place for representation in found if representation and (place := representation.index())]

    def listing(self, track: Track, now: datetime, indexes: Indexes) -> Listing:
        """What a track lists at the moment `now`."""
        entries: list[Listed] = []
        for entry in self._entries(track, now, indexes):
            # Periods that overlap, or a timeline that jumps back, must not make the numbers fall.
            if not entries or entry.sequence > entries[-1].sequence:
                entries.append(entry)
            if len(entries) > MAX_LISTED:
                raise SegmentError("playlist", "more segments than any real MPD has")
        longest = max((entry.duration_seconds for entry in entries), default=_DEFAULT_TARGET_SECONDS)
        return Listing(entries=entries, target_seconds=longest, is_ended=self._is_ended(now))

    def _entries(self, track: Track, now: datetime, indexes: Indexes) -> Iterator[Listed]:
        count = 0
        for number, period in enumerate(self.periods):
            representation = period.nearest(track)
            if representation is None:
                continue
            init = representation.init(indexes)
            for place, part in enumerate(representation.parts(self._clock(period, now), indexes)):
                begins = period.begins_seconds + part.begins_seconds
                sequence, following = self._numbers(begins, part.duration_seconds, count)
                count += 1
                yield Listed(
                    sequence=sequence,
                    next_sequence=following,
                    url=part.url,
                    duration_seconds=seconds_of(part.duration_seconds),
                    starts_at=real(later(self.available_at, begins)) if self.available_at else None,
                    byte_range=part.byte_range,
                    init_url=init.url if init else None,
                    init_byte_range=init.byte_range if init else None,
                    encryption=representation.encryption,
                    is_discontinuity=number > 0 and place == 0,
                )

    def _numbers(self, begins: float, seconds: float, place: int) -> tuple[int, int]:
        """The number of a segment and of the one after it."""
        if self.available_at is None and not self.is_dynamic:
            return place, place + 1
        origin = (self.available_at - _EPOCH).total_seconds() if self.available_at else 0.0
        sequence, following = (round((origin + moment) * 1000) for moment in (begins, begins + seconds))
        if not 0 <= sequence < MAX_SEQUENCE:
            raise SegmentError("playlist", "the MPD counts time beyond the calendar")
        return sequence, max(following, sequence + 1)

    def _clock(self, period: Period, now: datetime) -> Clock:
        available = None
        if self.is_dynamic:
            available = (now - (self.available_at or _EPOCH)).total_seconds() - period.begins_seconds
        return Clock(ends=period.duration_seconds, available=available, window=self.window_seconds)

    def _is_ended(self, now: datetime) -> bool:
        if not self.is_dynamic:
            return True
        if self.is_updated or self.duration_seconds is None or self.available_at is None:
            return False
        return (now - self.available_at).total_seconds() > self.duration_seconds + 1


def parse_mpd(body: bytes, url: str) -> Manifest:
    """Read an MPD that was found at `url`."""
    root = xml.read_xml(body)
    is_dynamic = root.get("type", "static") == "dynamic"
    base = _base(url, root)
    duration = xml.duration(root.attrib, "mediaPresentationDuration")
    periods = _periods(root, base, duration)
    location = xml.child(root, "Location")
    return Manifest(
        is_dynamic=is_dynamic,
        available_at=_origin(root, periods, is_dynamic=is_dynamic),
        window_seconds=xml.duration(root.attrib, "timeShiftBufferDepth"),
        duration_seconds=duration,
        is_updated=is_dynamic and "minimumUpdatePeriod" in root.attrib,
        periods=periods,
        tracks=_tracks(periods, url),
        location=resolve(url, location.text) if location is not None and location.text else url,
    )


def _origin(root: Element, periods: Sequence[Period], *, is_dynamic: bool) -> datetime | None:
    origin = real(moment_of(root.get("availabilityStartTime", "")))
    if origin is None or is_dynamic:
        return origin
    first = periods[0].begins_seconds if periods else 0.0
    return origin if later(origin, first) >= _EARLIEST_REAL else None


def _periods(root: Element, base: str, total_seconds: float | None) -> list[Period]:
    elements = xml.children(root, "Period")
    starts = [xml.duration(element.attrib, "start") for element in elements]
    periods: list[Period] = []
    begins: float | None = 0.0
    for number, element in enumerate(elements):
        begins = starts[number] if starts[number] is not None else begins
        if begins is None:
            # announced, but nobody knows yet when it begins
            break
        length = xml.duration(element.attrib, "duration")
        following = starts[number + 1] if number + 1 < len(elements) else total_seconds
        if length is None and following is not None:
            length = max(0.0, following - begins)
        periods.append(
            Period(
                begins_seconds=begins,
                duration_seconds=length,
                representations=list(_representations(element, _base(base, element))),
            )
        )
        begins = begins + length if length is not None else None
    return periods


def _representations(period: Element, base: str) -> Iterator[Representation]:
    for group in xml.children(period, "AdaptationSet"):
        group_base = _base(base, group)
        for element in xml.children(group, "Representation"):
            if not _is_video(group, element):
                continue
            own_base = _base(group_base, element)
            facts = {**group.attrib, **element.attrib}
            bandwidth = xml.integer(facts, "bandwidth", 0)
            yield Representation(
                track=Track(
                    name="",
                    url=own_base,
                    id=facts.get("id", "") if "id" in element.attrib else "",
                    width=xml.integer(facts, "width", 0) or None,
                    height=xml.integer(facts, "height", 0) or None,
                    bitrate_kbps=bandwidth / 1000 if 0 < bandwidth < 10**12 else None,
                    codecs=facts.get("codecs"),
                ),
                bandwidth=bandwidth,
                base_url=own_base,
                addressing=xml.inherited((period, group, element)),
                encryption=_encryption((group, element), own_base),
            )


def _is_video(group: Element, element: Element) -> bool:
    for level in (group, element):
        properties = xml.children(level, "EssentialProperty") + xml.children(level, "SupplementalProperty")
        if any(found.get("schemeIdUri") == _TRICK_MODE for found in properties):
            return False
    if "dependencyId" in element.attrib:
        return False
    component = xml.child(group, "ContentComponent")
    kind = group.get("contentType") or (component.get("contentType") if component is not None else None)
    if kind:
        return kind == "video"
    mime = element.get("mimeType") or group.get("mimeType")
    return mime.startswith("video/") if mime else any(name in element.attrib for name in ("width", "height"))


def _encryption(levels: Sequence[Element], base: str) -> Encryption | None:
    found = [element for level in levels for element in xml.children(level, "ContentProtection")]
    if not found:
        return None
    for element in found:
        period = xml.child(element, "CryptoPeriod")
        if element.get("schemeIdUri") == _SEGMENT_ENCRYPTION and period is not None:
            return _whole_segments(element, period, base)
    values = [element.get("value", "") for element in found if element.get("schemeIdUri") == _COMMON_ENCRYPTION]
    return Encryption(method=next((value for value in values if value in _SCHEMES), "cenc"))


def _whole_segments(element: Element, period: Element, base: str) -> Encryption:
    """ISO/IEC 23009-4: AES-128-CBC over whole segments, one key and IV for all of them; more is not undone here."""
    system = xml.child(element, "SegmentEncryption")
    scheme = system.get("schemeIdUri", "") if system is not None else ""
    key, iv = period.get("keyUriTemplate", ""), period.get("IV", "")
    if "aes128-cbc" not in scheme or not key or "$" in key or not iv or len(xml.children(element, "CryptoPeriod")) > 1:
        return Encryption(method="sea")
    return Encryption(method="AES-128", key_url=resolve(base, key), iv_hex=iv.lower().removeprefix("0x").zfill(32))


def _tracks(periods: Sequence[Period], url: str) -> tuple[Track, ...]:
    """Named after the longest period: advertisements come and go with ladders of their own."""
    with_video = [period for period in periods if period.representations]
    if not with_video:
        raise SegmentError("playlist", "the MPD offers no video")

    def length(period: Period) -> float:
        return period.duration_seconds if period.duration_seconds is not None else math.inf

    main = max(with_video, key=length)
    if len(main.representations) > MAX_TRACKS:
        raise SegmentError("playlist", "more renditions than any real MPD has")
    return with_names([replace(representation.track, url=url) for representation in main.representations])


def _base(base: str, element: Element) -> str:
    found = xml.child(element, "BaseURL")
    return resolve(base, found.text) if found is not None and found.text else base
