"""Parsing of MPD XML: elements without namespaces, numbers and durations within bounds."""

import codecs
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from vqmon.core.types import ByteRange
from vqmon.errors import SegmentError
from vqmon.media.sources.media_playlist import quote_value

_MAX_XML_BYTES = 4_000_000
"""A parsed XML document takes up to a hundred times its size in memory."""

_NUMBER = r"(\d{1,30}(?:[.,]\d{0,60})?)"
_DURATION = re.compile(
    rf"P(?:{_NUMBER}Y)?(?:{_NUMBER}M)?(?:{_NUMBER}W)?(?:{_NUMBER}D)?"
    rf"(?:T(?:{_NUMBER}H)?(?:{_NUMBER}M)?(?:{_NUMBER}S)?)?"
)
_DURATION_UNITS_SECONDS = (31_536_000, 2_592_000, 604_800, 86_400, 3_600, 60, 1)
_MAX_DURATION_SECONDS = 1e11
_LONE_AMPERSAND = re.compile(rb"&(?!(?:amp|lt|gt|quot|apos|#\d{1,7}|#x[0-9A-Fa-f]{1,6});)")
_CDATA = b"<![CDATA["
_DECLARATION = re.compile(rb"(?:\xef\xbb\xbf)?<\?xml[^>]{0,200}\?>")
# no character of XML, however it is written
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_ROOT = re.compile(rb"<[A-Za-z_][\w.:-]*")
_PREFIX = re.compile(rb"[<\s]/?([A-Za-z_][\w.-]{0,31}):[A-Za-z_]")
_DECLARED_PREFIX = re.compile(rb"xmlns:([\w.-]{1,32})\s*=")
_MAX_PREFIXES = 20
_NAMESPACES = {b"xlink": b"http://www.w3.org/1999/xlink"}
_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_RANGE = re.compile(r"\s*(\d{1,18})-(\d{1,18})\s*")
# some packagers write whole numbers as floats
_INTEGER = re.compile(r"\s*-?\d{1,18}(?:\.0{0,18})?\s*")


def parse_mpd_xml(body: bytes) -> Element:
    """The root element of an MPD; raises SegmentError("playlist"), also for document types and entities."""
    root = parse_xml(body)
    if local_name(root) != "MPD":
        raise SegmentError("playlist", f"the XML is not an MPD: its root is {local_name(root)[:40]}")
    return root


def parse_xml(body: bytes) -> Element:
    """The root element of a document; raises SegmentError("playlist"), also for document types and entities."""
    if len(body) > _MAX_XML_BYTES:
        raise SegmentError("playlist", f"the XML has more than {_MAX_XML_BYTES} bytes")
    # nothing may stand before the declaration, and what does is usually a blank line; NULs fill up files
    body = body.lstrip(b" \t\r\n").rstrip(b" \t\r\n\0") if not body.startswith(_UTF16_MARKS) else body
    for repaired in _repairs(body):
        try:
            root: Element = fromstring(repaired[:_MAX_XML_BYTES], forbid_dtd=True)
            return root
        except DefusedXmlException as error:
            raise SegmentError("playlist", f"the XML cannot be parsed ({type(error).__name__})") from None
        except (ParseError, ValueError, LookupError) as error:
            problem = type(error).__name__
    raise SegmentError("playlist", f"the XML cannot be parsed ({problem})")


def _repairs(body: bytes) -> Iterator[bytes]:
    """The document; then repaired; then with the prefixes that it does not declare; then without what is no UTF-8.

    Repaired is a declaration of an encoding that is not the one of the bytes, `&` that begins no entity, and control
    characters.
    """
    yield body
    if b"\0" in body[:4]:
        # UTF-16: there are no bytes of single characters
        return
    text = body.decode("utf-8", "replace").encode()
    is_utf8 = text == body
    if is_utf8:
        body = _DECLARATION.sub(b"", body, count=1)
    body = _CONTROL.sub(b"", _escape_ampersands(body))
    yield body
    yield _declare_prefixes(body)
    if not is_utf8:
        yield _declare_prefixes(_CONTROL.sub(b"", _escape_ampersands(text)))


def _declare_prefixes(body: bytes) -> bytes:
    """With a namespace at the root for each prefix that is used and not declared there."""
    root = _ROOT.search(body)
    if root is None:
        return body
    end = body.find(b">", root.end())
    declared = {b"xml", b"xmlns", *_DECLARED_PREFIX.findall(body[root.end() : end])}
    # what is no prefix, such as the scheme of a URL in a text, declares one that nothing uses
    used = sorted(set(_PREFIX.findall(body)) - declared)[:_MAX_PREFIXES]
    namespaces = [b' xmlns:%b="%b"' % (prefix, _NAMESPACES.get(prefix, b"urn:" + prefix)) for prefix in used]
    return body[: root.end()] + b"".join(namespaces) + body[root.end() :]


def _escape_ampersands(body: bytes) -> bytes:
    """With `&amp;` for each `&` that begins no entity; what is in CDATA sections is text already."""
    first, *others = body.split(_CDATA)
    parts = [_LONE_AMPERSAND.sub(b"&amp;", first)]
    for text, end, rest in (other.partition(b"]]>") for other in others):
        parts.append(text + end + _LONE_AMPERSAND.sub(b"&amp;", rest))
    return _CDATA.join(parts)


def local_name(element: Element) -> str:
    """The element's name without its namespace."""
    return str(element.tag).rpartition("}")[2]


def find_children(element: Element, name: str) -> list[Element]:
    """The child elements with a name, in any namespace."""
    return [child for child in element if local_name(child) == name]


def find_child(element: Element, name: str) -> Element | None:
    """The first child element with a name, in any namespace."""
    return next((child for child in element if local_name(child) == name), None)


def parse_integer(attributes: Mapping[str, str], name: str, default: int) -> int:
    """An integer attribute of at most 18 digits; raises SegmentError("playlist")."""
    text = attributes.get(name)
    if text is None:
        return default
    if not _INTEGER.fullmatch(text):
        raise SegmentError("playlist", f"{name} is not an integer: {quote_value(text)}")
    return int(text.partition(".")[0])


def parse_positive_integer(attributes: Mapping[str, str], name: str, default: int) -> int:
    """An integer attribute above zero; raises SegmentError("playlist")."""
    value = parse_integer(attributes, name, default)
    if value <= 0:
        raise SegmentError("playlist", f"{name} must be positive, not {value}")
    return value


def parse_duration_seconds(attributes: Mapping[str, str], name: str) -> float | None:
    """An ISO 8601 duration attribute in seconds; None when absent. Years and months count as 365 and 30 days."""
    text = attributes.get(name)
    if text is None:
        return None
    match = _DURATION.fullmatch(text.strip())
    if not match:
        raise SegmentError("playlist", f"{name} is not a duration")
    parts = [float((part or "0").replace(",", ".")) for part in match.groups()]
    seconds = sum(part * unit for part, unit in zip(parts, _DURATION_UNITS_SECONDS, strict=True))
    if seconds > _MAX_DURATION_SECONDS:
        raise SegmentError("playlist", f"{name} is out of range")
    return seconds


def parse_byte_range(attributes: Mapping[str, str], name: str) -> ByteRange | None:
    """Parse the attribute `first-last`, both inclusive; None when absent. Raises SegmentError("playlist")."""
    text = attributes.get(name)
    if text is None:
        return None
    match = _RANGE.fullmatch(text)
    if not match or int(match[2]) < int(match[1]):
        raise SegmentError("playlist", f"{name} is no byte range: {quote_value(text)}")
    return ByteRange(offset_bytes=int(match[1]), length_bytes=int(match[2]) - int(match[1]) + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentAddressing:
    """A SegmentTemplate, SegmentList or SegmentBase, merged with the elements of that name on higher levels."""

    name: str
    attributes: Mapping[str, str]
    children: Mapping[str, Sequence[Element]]


def find_addressing(levels: Sequence[Element]) -> SegmentAddressing | None:
    """The addressing of a representation; `levels` are Period, AdaptationSet and Representation in that order."""
    names = ("SegmentTemplate", "SegmentList", "SegmentBase")
    elements = [
        (name, element) for level in levels for name in names if (element := find_child(level, name)) is not None
    ]
    if not elements:
        return None
    name = elements[-1][0]
    attributes: dict[str, str] = {}
    children: dict[str, Sequence[Element]] = {}
    for element in (element for element_name, element in elements if element_name == name):
        attributes.update(element.attrib)
        own_children: dict[str, Any] = {}
        for child in element:
            own_children.setdefault(local_name(child), []).append(child)
        children.update(own_children)
    return SegmentAddressing(name=name, attributes=attributes, children=children)
