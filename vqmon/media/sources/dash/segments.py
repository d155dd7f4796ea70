"""The segments of a DASH Representation, from SegmentTemplate, SegmentList or SegmentBase."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from xml.etree.ElementTree import Element

from vqmon.core.types import ByteRange, Encryption
from vqmon.errors import SegmentError
from vqmon.media.fetch.decryption import add_encryption_fragment
from vqmon.media.sources.dash import xml
from vqmon.media.sources.dash.sidx import IndexLocation, Subsegment
from vqmon.media.sources.dash.timeline import PeriodBounds, SegmentTiming, TimelineEntry
from vqmon.media.sources.media_playlist import MAX_ENTRIES, Origin, Track, parse_seconds, resolve_url

_ALWAYS_SECONDS = 86_400.0
_IDENTIFIER = re.compile(
    r"\$(?:(RepresentationID|Number|Time|Bandwidth)(?:%(?:0(\d{1,2}))?([diuxXo]))?|([A-Za-z]\w{0,31}(?:%\w{1,8})?))?\$"
)
"""The last group is an identifier or a format that is not known, or that we do not follow, such as SubNumber."""


Indexes = Mapping[IndexLocation, Sequence[Subsegment]]
"""The subsegments in each loaded index; empty for an index that cannot be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressedSegment:
    """One segment: its URL, and its start in seconds since the period's start."""

    url: str
    start_seconds: float
    duration_seconds: float
    byte_range: ByteRange | None = None
    # the URL relative to the base URL
    reference: str = ""
    # why it cannot be had; empty for one that can
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class InitSection:
    """The initialization section of a representation."""

    url: str
    byte_range: ByteRange | None = None
    # the URL relative to the base URL
    reference: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Representation:
    """One Representation of one Period; its `track` has no name yet."""

    track: Track
    bandwidth: int
    # servers with the same files, the preferred one first; their URLs are the base of all others
    origins: tuple[Origin, ...]
    addressing: xml.SegmentAddressing | None
    encryption: Encryption | None
    # availabilityTimeOffset of the base URL
    base_offset: str = ""

    @property
    def base_url(self) -> str:
        """The base URL on the preferred server."""
        return self.origins[0].url

    @property
    def offset_seconds(self) -> float:
        """How long before its end a segment may be requested (availabilityTimeOffset); 0 without low latency."""
        text = self.addressing.attributes.get("availabilityTimeOffset", "") if self.addressing else ""
        return _ALWAYS_SECONDS if text.strip().upper() == "INF" else parse_seconds(text or self.base_offset)

    @property
    def media_offset_seconds(self) -> float:
        """Media time at the start of the period (presentationTimeOffset); 0 when it is not stated."""
        attributes = self.addressing.attributes if self.addressing else {}
        ticks = xml.parse_integer(attributes, "presentationTimeOffset", 0)
        return ticks / xml.parse_positive_integer(attributes, "timescale", 1)

    def index_location(self) -> IndexLocation | None:
        """The location of the index that `segments` needs; None when it needs none."""
        if self.addressing is None or self.addressing.name != "SegmentBase":
            return None
        byte_range = xml.parse_byte_range(self.addressing.attributes, "indexRange")
        for element in self.addressing.children.get("RepresentationIndex", ()):
            url = resolve_url(self.base_url, element.get("sourceURL", ""))
            own_range = xml.parse_byte_range(element.attrib, "range") or (byte_range if url == self.base_url else None)
            return IndexLocation(url, own_range, self.base_url)
        return IndexLocation(self.base_url, byte_range, self.base_url) if byte_range else None

    def segments(self, bounds: PeriodBounds, indexes: Indexes) -> list[AddressedSegment]:
        """The available segments, oldest first; a file without an index is one segment."""
        if self.addressing is not None and self.addressing.name == "SegmentTemplate":
            return self._from_template(self.addressing, bounds)
        if self.addressing is not None and self.addressing.name == "SegmentList":
            return self._from_list(self.addressing, bounds)
        subsegments = self._subsegments(indexes)
        if not subsegments:
            return [AddressedSegment(url=self.base_url, start_seconds=0.0, duration_seconds=bounds.end_seconds or 0.0)]
        segments = []
        start_seconds = 0.0
        for subsegment in subsegments:
            segments.append(
                AddressedSegment(
                    url=self.base_url,
                    start_seconds=start_seconds,
                    duration_seconds=subsegment.duration_seconds,
                    byte_range=subsegment.byte_range,
                )
            )
            start_seconds += subsegment.duration_seconds
        return segments

    def init_section(self, indexes: Indexes) -> InitSection | None:
        """The initialization section; None when the segments contain it."""
        addressing = self.addressing
        if addressing is None:
            return None
        if addressing.name == "SegmentBase" and not self._subsegments(indexes):
            return None
        template = addressing.attributes.get("initialization")
        if template is not None and addressing.name == "SegmentTemplate":
            return self._make_init_section(self._fill_template(template, {}), None)
        for element in addressing.children.get("Initialization", ()):
            byte_range = xml.parse_byte_range(element.attrib, "range")
            return self._make_init_section(element.get("sourceURL", ""), byte_range)
        location = self.index_location()
        if location and location.url == self.base_url and location.byte_range and location.byte_range.offset_bytes:
            before_index = ByteRange(offset_bytes=0, length_bytes=location.byte_range.offset_bytes)
            return self._make_init_section("", before_index)
        return None

    def _subsegments(self, indexes: Indexes) -> Sequence[Subsegment]:
        location = self.index_location()
        return indexes.get(location, ()) if location else ()

    def _make_init_section(self, reference: str, byte_range: ByteRange | None) -> InitSection:
        """Full-segment encryption applies to the initialization section as well, common encryption does not."""
        encryption = self.encryption if self.encryption and self.encryption.method == "AES-128" else None
        url = add_encryption_fragment(resolve_url(self.base_url, reference), encryption)
        return InitSection(url=url, byte_range=byte_range, reference=reference)

    def _from_template(self, addressing: xml.SegmentAddressing, bounds: PeriodBounds) -> list[AddressedSegment]:
        media = addressing.attributes.get("media")
        if media is None:
            raise SegmentError("playlist", "the SegmentTemplate has no media attribute")
        timing = _parse_timing(addressing)
        segments = []
        for segment in timing.expand(bounds):
            start_seconds, seconds = timing.to_seconds(segment.time), segment.length / timing.timescale
            if timing.timeline is None and bounds.end_seconds is not None:
                seconds = min(seconds, bounds.end_seconds - start_seconds)
            reference = self._fill_template(media, {"Number": segment.number, "Time": segment.time})
            url = resolve_url(self.base_url, reference)
            segments.append(
                AddressedSegment(url=url, start_seconds=start_seconds, duration_seconds=seconds, reference=reference)
            )
        return segments

    def _from_list(self, addressing: xml.SegmentAddressing, bounds: PeriodBounds) -> list[AddressedSegment]:
        elements = addressing.children.get("SegmentURL", ())
        timing = _parse_timing(addressing)
        if len(elements) > MAX_ENTRIES:
            raise SegmentError("playlist", "the MPD lists too many segments")
        if not elements and any(name.endswith("}href") for name in addressing.attributes):
            raise SegmentError("playlist", "the SegmentList is elsewhere (xlink:href), which is not followed")
        if timing.timeline is not None:
            # segments that are not available any more have their addresses
            spans = {
                segment.number - timing.start_number: (
                    timing.to_seconds(segment.time),
                    segment.length / timing.timescale,
                )
                for segment in timing.expand(bounds)
            }
        else:
            even_share = (bounds.end_seconds or 0.0) / max(1, len(elements))
            seconds = timing.length / timing.timescale if timing.length else even_share
            spans = {number: (seconds * number, seconds) for number in range(len(elements))}
        return [
            self._listed_segment(elements[number], start_seconds, seconds)
            for number, (start_seconds, seconds) in spans.items()
            if number < len(elements)
        ]

    def _listed_segment(self, element: Element, start_seconds: float, seconds: float) -> AddressedSegment:
        """The segment of a SegmentURL; one that is invalid costs no other."""
        reference = element.get("media", "")
        segment = AddressedSegment(
            url=self.base_url, start_seconds=start_seconds, duration_seconds=seconds, reference=reference
        )
        try:
            byte_range = xml.parse_byte_range(element.attrib, "mediaRange")
            return replace(segment, url=resolve_url(self.base_url, reference), byte_range=byte_range)
        except SegmentError as error:
            return replace(segment, problem=f"SegmentURL: {error.detail}")

    def _fill_template(self, template: str, numbers: Mapping[str, int]) -> str:
        """The URL that a template gives, relative to the base URL (ISO/IEC 23009-1, 5.3.9.4.4)."""
        values: Mapping[str, int | str] = {"RepresentationID": self.track.id, "Bandwidth": self.bandwidth, **numbers}

        def value_of(identifier: re.Match[str]) -> str:
            name, width, kind, unknown = identifier.groups()
            if unknown is not None:
                raise SegmentError("playlist", f"the identifier ${unknown}$ of the template is not known")
            if name is None:
                return "$"
            value = values.get(name)
            if value is None:
                raise SegmentError("playlist", f"the identifier ${name}$ is not defined here")
            if isinstance(value, str):
                return value
            return format(value, kind if kind in ("x", "X", "o") else "d").zfill(int(width or 0))

        return _IDENTIFIER.sub(value_of, template)


def _parse_timing(addressing: xml.SegmentAddressing) -> SegmentTiming:
    attributes = addressing.attributes
    end_number = xml.parse_integer(attributes, "endNumber", -1)
    timeline = None
    for element in addressing.children.get("SegmentTimeline", ()):
        timeline = _parse_timeline(xml.find_children(element, "S"))
    return SegmentTiming(
        timescale=xml.parse_positive_integer(attributes, "timescale", 1),
        offset=xml.parse_integer(attributes, "presentationTimeOffset", 0),
        start_number=xml.parse_integer(attributes, "startNumber", 1),
        end_number=end_number if end_number >= 0 else None,
        length=xml.parse_positive_integer(attributes, "duration", 1) if "duration" in attributes else None,
        timeline=timeline,
    )


def _parse_timeline(elements: Sequence[Element]) -> list[TimelineEntry]:
    """The S elements; one without a usable `d` lasts until the next one, or as long as the one before.

    A `t` that is no integer is refused: all that follows would be at wrong times.
    """
    times = [xml.parse_integer(element.attrib, "t", 0) if "t" in element.attrib else None for element in elements]
    entries: list[TimelineEntry] = []
    for index, (element, time) in enumerate(zip(elements, times, strict=True)):
        length, repeats = _integer_or_none(element, "d"), _integer_or_none(element, "r") or 0
        if length is None or length < 0:
            following = times[index + 1] if index + 1 < len(times) else None
            together = _length_until(time, following) // (max(repeats, 0) + 1)
            length = together or (entries[-1].length if entries else 0)
            if not length:
                raise SegmentError("playlist", f"S {index + 1} of the SegmentTimeline has no usable duration (d)")
        entries.append(TimelineEntry(time=time, length=length, count=-1 if repeats < 0 else repeats + 1))
    return entries


def _length_until(time: int | None, following: int | None) -> int:
    return max(following - time, 0) if time is not None and following is not None else 0


def _integer_or_none(element: Element, name: str) -> int | None:
    """An integer attribute; None when it is absent or none."""
    try:
        return xml.parse_integer(element.attrib, name, 0) if name in element.attrib else None
    except SegmentError:
        return None
