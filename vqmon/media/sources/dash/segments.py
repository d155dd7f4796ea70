"""A DASH Representation -> its pieces of media: SegmentTemplate, SegmentList and SegmentBase."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vqmon.core.types import ByteRange, Encryption
from vqmon.errors import SegmentError
from vqmon.media.fetch.decryption import with_encryption
from vqmon.media.sources.dash import xml
from vqmon.media.sources.dash.sidx import IndexedPart
from vqmon.media.sources.dash.timeline import Clock, Repeat, Times
from vqmon.media.sources.listing import MAX_LISTED, Track, resolve

_IDENTIFIER = re.compile(r"\$(?:(RepresentationID|Number|Time|Bandwidth)(?:%0(\d{1,2})d)?)?\$")


@dataclass(frozen=True, slots=True)
class IndexPlace:
    """Where the index of a file is."""

    url: str
    byte_range: ByteRange


Indexes = Mapping[IndexPlace, Sequence[IndexedPart]]
"""What was found at those places; empty when there was nothing of use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One piece of media: where it is, and when it begins in seconds since the period's start."""

    url: str
    begins_seconds: float
    duration_seconds: float
    byte_range: ByteRange | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Init:
    """The initialization section of a representation."""

    url: str
    byte_range: ByteRange | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Representation:
    """One video Representation of one Period; `track` has no name yet."""

    track: Track
    bandwidth: int
    base_url: str
    addressing: xml.Inherited | None
    encryption: Encryption | None

    def index(self) -> IndexPlace | None:
        """Where the index is that `parts` needs."""
        if self.addressing is None or self.addressing.name != "SegmentBase":
            return None
        place = xml.byte_range(self.addressing.attributes.get("indexRange"))
        return IndexPlace(self.base_url, place) if place else None

    def parts(self, clock: Clock, indexes: Indexes) -> list[Part]:
        """The pieces that are there now, oldest first; a file without an index is one piece."""
        if self.addressing is not None and self.addressing.name == "SegmentTemplate":
            return self._by_template(self.addressing, clock)
        if self.addressing is not None and self.addressing.name == "SegmentList":
            return self._by_list(self.addressing, clock)
        indexed = self._indexed(indexes)
        if not indexed:
            return [Part(url=self.base_url, begins_seconds=0.0, duration_seconds=clock.ends or 0.0)]
        parts = []
        begins = 0.0
        for part in indexed:
            parts.append(
                Part(
                    url=self.base_url,
                    begins_seconds=begins,
                    duration_seconds=part.duration_seconds,
                    byte_range=part.byte_range,
                )
            )
            begins += part.duration_seconds
        return parts

    def init(self, indexes: Indexes) -> Init | None:
        """The initialization section; None when the media holds its own."""
        addressing = self.addressing
        if addressing is None:
            return None
        if addressing.name == "SegmentBase" and not self._indexed(indexes):
            return None
        template = addressing.attributes.get("initialization")
        if template is not None and addressing.name == "SegmentTemplate":
            return self._encrypted(self._url(template, {}), None)
        for element in addressing.children.get("Initialization", ()):
            place = xml.byte_range(element.get("range"))
            return self._encrypted(resolve(self.base_url, element.get("sourceURL", "")), place)
        index = self.index()
        if index and index.byte_range.offset_bytes:
            before = ByteRange(offset_bytes=0, length_bytes=index.byte_range.offset_bytes)
            return self._encrypted(self.base_url, before)
        return None

    def _indexed(self, indexes: Indexes) -> Sequence[IndexedPart]:
        place = self.index()
        return indexes.get(place, ()) if place else ()

    def _encrypted(self, url: str, byte_range: ByteRange | None) -> Init:
        """Full-segment encryption covers the initialization section, common encryption does not."""
        whole = self.encryption if self.encryption and self.encryption.method == "AES-128" else None
        return Init(url=with_encryption(url, whole), byte_range=byte_range)

    def _by_template(self, addressing: xml.Inherited, clock: Clock) -> list[Part]:
        media = addressing.attributes.get("media")
        if media is None:
            raise SegmentError("playlist", "a SegmentTemplate without media")
        times = _times(addressing)
        parts = []
        for piece in times.pieces(clock):
            begins, seconds = times.seconds(piece.time), piece.length / times.timescale
            if times.timeline is None and clock.ends is not None:
                seconds = min(seconds, clock.ends - begins)
            url = self._url(media, {"Number": piece.number, "Time": piece.time})
            parts.append(Part(url=url, begins_seconds=begins, duration_seconds=seconds))
        return parts

    def _by_list(self, addressing: xml.Inherited, clock: Clock) -> list[Part]:
        elements = addressing.children.get("SegmentURL", ())
        times = _times(addressing)
        if len(elements) > MAX_LISTED:
            raise SegmentError("playlist", "more segments than any real MPD has")
        if times.timeline is not None:
            spans = [(times.seconds(piece.time), piece.length / times.timescale) for piece in times.pieces(clock)]
        else:
            whole = (clock.ends or 0.0) / max(1, len(elements))
            seconds = times.length / times.timescale if times.length else whole
            spans = [(seconds * number, seconds) for number in range(len(elements))]
        return [
            Part(
                url=resolve(self.base_url, element.get("media", "")),
                begins_seconds=begins,
                duration_seconds=seconds,
                byte_range=xml.byte_range(element.get("mediaRange")),
            )
            for element, (begins, seconds) in zip(elements, spans, strict=False)
        ]

    def _url(self, template: str, numbers: Mapping[str, int]) -> str:
        """Fill in a template (5.3.9.4.4); `$$` is a dollar sign."""
        facts: Mapping[str, int | str] = {"RepresentationID": self.track.id, "Bandwidth": self.bandwidth, **numbers}

        def value_of(found: re.Match[str]) -> str:
            name, width = found.groups()
            if name is None:
                return "$"
            value = facts.get(name)
            if value is None:
                raise SegmentError("playlist", f"${name}$ has no meaning here")
            return str(value).zfill(int(width or 0)) if isinstance(value, int) else value

        return resolve(self.base_url, _IDENTIFIER.sub(value_of, template))


def _times(addressing: xml.Inherited) -> Times:
    facts = addressing.attributes
    end_number = xml.integer(facts, "endNumber", -1)
    timeline = None
    for element in addressing.children.get("SegmentTimeline", ()):
        timeline = [
            Repeat(
                time=xml.integer(repeat.attrib, "t", 0) if "t" in repeat.attrib else None,
                length=xml.positive(repeat.attrib, "d", 0),
                count=-1 if (count := xml.integer(repeat.attrib, "r", 0)) < 0 else count + 1,
            )
            for repeat in xml.children(element, "S")
        ]
    return Times(
        timescale=xml.positive(facts, "timescale", 1),
        offset=xml.integer(facts, "presentationTimeOffset", 0),
        start_number=xml.integer(facts, "startNumber", 1),
        end_number=end_number if end_number >= 0 else None,
        length=xml.positive(facts, "duration", 1) if "duration" in facts else None,
        timeline=timeline,
    )
