"""What periods and sets of an MPD hold: which are video, how they are encrypted, and where ad breaks are.

Ad breaks are those of EventStreams with splice messages (ANSI/SCTE 214-1), as text, XML or bytes.
"""

import base64
import binascii
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from vqmon.core.types import Encryption
from vqmon.errors import SegmentError
from vqmon.media.ancillary.splice import SpliceMessage, choose_message, parse_segmentation_type, parse_splice
from vqmon.media.sources.dash import xml
from vqmon.media.sources.media_playlist import (
    SOUND_CODECS,
    SUBTITLE_CODECS,
    has_only_other_codecs,
    resolve_url,
)

_NO_VIDEO_SCHEMES = frozenset(
    {
        "http://dashif.org/guidelines/trickmode",
        "http://dashif.org/guidelines/thumbnail_tile",
        "http://dashif.org/thumbnail_tile",
    }
)
_VIDEO_CODECS = ("avc", "hvc", "hev", "dvh", "dva", "av01", "dav1", "vp08", "vp09", "vp8", "vp9", "vvc", "vvi", "mp4v")
_SEGMENT_ENCRYPTION = "urn:mpeg:dash:sea:2012"
_COMMON_ENCRYPTION = "urn:mpeg:dash:mp4protection:2011"
_PROTECTION_SCHEMES = frozenset({"cenc", "cens", "cbc1", "cbcs"})
_SPLICE_SCHEMES = ("urn:scte:scte35:2013:", "urn:scte:scte35:2014:")
_CLOCK_HZ = 90_000
_MAX_EVENTS = 10_000
_TOLERANCE_SECONDS = 0.5
"""A segment that begins less than this before the end of a break is not in it: durations are rounded."""

_MAX_BREAK_SECONDS = 3600.0
"""A break without an end is over after this time, so that a lost message does not mute a stream for ever."""


def is_video(adaptation_set: Element, element: Element) -> bool:
    """Whether a Representation has moving pictures of its own: no sound, text, tiles, trick mode or enhancement layer.

    The codecs decide where they are given, as they name every component of a multiplex; then the kinds of content that
    the set declares, then the media type.
    """
    for level in (adaptation_set, element):
        properties = xml.find_children(level, "EssentialProperty") + xml.find_children(level, "SupplementalProperty")
        if any(descriptor.get("schemeIdUri") in _NO_VIDEO_SCHEMES for descriptor in properties):
            return False
    mime = (element.get("mimeType") or adaptation_set.get("mimeType") or "").strip().lower()
    if "dependencyId" in element.attrib or mime.startswith("image/"):
        return False
    components = [component.get("contentType") for component in xml.find_children(adaptation_set, "ContentComponent")]
    kinds = {kind.strip().lower() for kind in (adaptation_set.get("contentType"), *components) if kind}
    codecs = element.get("codecs") or adaptation_set.get("codecs") or ""
    if any(codec.strip().startswith(_VIDEO_CODECS) for codec in codecs.lower().split(",")):
        return True
    if has_only_other_codecs(codecs):
        return False
    if kinds:
        return "video" in kinds
    return mime.startswith("video/") if mime else any(name in element.attrib for name in ("width", "height"))


def is_sound(adaptation_set: Element, element: Element) -> bool:
    """Whether a Representation has sound alone, by its kind of content, its media type or its codecs."""
    codecs = (element.get("codecs") or adaptation_set.get("codecs") or "").lower().split(",")
    if any(codec.strip() and not codec.strip().startswith(SOUND_CODECS) for codec in codecs):
        return False
    kind = (adaptation_set.get("contentType") or "").strip().lower()
    mime = (element.get("mimeType") or adaptation_set.get("mimeType") or "").strip().lower()
    return kind == "audio" or mime.startswith("audio/") or any(codec.strip() for codec in codecs)


def is_subtitles(adaptation_set: Element, element: Element) -> bool:
    """Whether a Representation is WebVTT or TTML, as plain files or in MP4."""
    codecs = (element.get("codecs") or adaptation_set.get("codecs") or "").strip().lower()
    mime = (element.get("mimeType") or adaptation_set.get("mimeType") or "").strip().lower()
    if codecs:
        return codecs.startswith(SUBTITLE_CODECS)
    kind = (adaptation_set.get("contentType") or "").strip().lower()
    return mime in ("text/vtt", "application/ttml+xml") or (kind == "text" and mime == "application/mp4")


def parse_encryption(levels: Sequence[Element], base: str) -> Encryption | None:
    """The encryption that the ContentProtection elements of a set and its representation declare."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class AdBreak:
    """A break, in seconds of presentation time."""

    starts_seconds: float
    ends_seconds: float

    def covers(self, seconds: float) -> bool:
        """Whether a segment that begins at this time is in the break."""
        return self.starts_seconds - _TOLERANCE_SECONDS <= seconds < self.ends_seconds - _TOLERANCE_SECONDS


def parse_ad_breaks(periods: Sequence[tuple[Element, float]]) -> tuple[AdBreak, ...]:
    """The breaks of an MPD, given its periods with their starts in seconds; an unreadable event is no break."""
    messages = sorted(
        (message for element, starts in periods for message in _messages(element, starts)),
        # at one moment what ends comes first: between two ads the break goes on
        key=lambda message: (message[0], message[1].begins),
    )
    breaks: list[AdBreak] = []
    for seconds, message in messages[:_MAX_EVENTS]:
        if message.begins:
            length = min(message.seconds or _MAX_BREAK_SECONDS, _MAX_BREAK_SECONDS)
            breaks.append(AdBreak(starts_seconds=seconds, ends_seconds=seconds + length))
            continue
        breaks = [
            AdBreak(starts_seconds=each.starts_seconds, ends_seconds=min(each.ends_seconds, seconds)) for each in breaks
        ]
    return tuple(breaks)


def _messages(period: Element, starts_seconds: float) -> Iterator[tuple[float, SpliceMessage]]:
    """(presentation time in seconds, message) of each event of a period."""
    for stream in xml.find_children(period, "EventStream"):
        if not stream.get("schemeIdUri", "").lower().startswith(_SPLICE_SCHEMES):
            continue
        try:
            timescale = xml.parse_positive_integer(stream.attrib, "timescale", 1)
            offset = xml.parse_integer(stream.attrib, "presentationTimeOffset", 0)
        except SegmentError:
            continue
        for event in xml.find_children(stream, "Event"):
            message = _message(event)
            if message is None:
                continue
            try:
                time = xml.parse_integer(event.attrib, "presentationTime", 0) - offset
                length = xml.parse_integer(event.attrib, "duration", 0)
            except SegmentError:
                continue
            seconds = length / timescale if length > 0 else message.seconds
            yield starts_seconds + time / timescale, SpliceMessage(begins=message.begins, seconds=seconds)


def _message(event: Element) -> SpliceMessage | None:
    """The splice message in an event: as Binary, as the text of the event, or as SpliceInfoSection."""
    texts, descriptors = [event.get("messageData") or event.text or ""], []
    for element in event.iter():
        name = xml.local_name(element)
        if name == "Binary":
            texts.append(element.text or "")
        elif name == "SpliceInsert":
            return _from_insert(element)
        elif name == "SegmentationDescriptor":
            descriptors.append(_from_segmentation(element))
    if (message := choose_message(descriptors)) is not None:
        return message
    for text in texts:
        try:
            section = base64.b64decode("".join(text.split()), validate=True)
        except (binascii.Error, ValueError):
            continue
        if (message := parse_splice(section)) is not None:
            return message
    return None


def _from_insert(element: Element) -> SpliceMessage | None:
    if element.get("spliceEventCancelIndicator", "") in ("true", "1"):
        return None
    length = xml.find_child(element, "BreakDuration")
    return SpliceMessage(
        begins=element.get("outOfNetworkIndicator", "") in ("true", "1"),
        seconds=_ticks(length, "duration") if length is not None else 0.0,
    )


def _from_segmentation(element: Element) -> SpliceMessage | None:
    text = element.get("segmentationTypeId", "")
    begins = parse_segmentation_type(int(text)) if text.isascii() and text.isdigit() and len(text) < 4 else None
    if begins is None:
        return None
    return SpliceMessage(begins=begins, seconds=_ticks(element, "segmentationDuration") if begins else 0.0)


def _ticks(element: Element, name: str) -> float:
    """Seconds of an attribute in ticks of 90 kHz; 0 when it is absent or no number."""
    text = element.get(name, "")
    return int(text) / _CLOCK_HZ if text.isascii() and text.isdigit() and len(text) < 13 else 0.0
