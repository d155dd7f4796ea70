"""Reading the XML of an MPD: names without namespaces, numbers and durations within bounds."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from vqmon.core.types import ByteRange
from vqmon.errors import SegmentError

MAX_XML_BYTES = 4_000_000
"""As a tree, XML takes up to a hundred times its size."""

_DURATION = re.compile(
    r"P(?:(\d{1,6})Y)?(?:(\d{1,6})M)?(?:(\d{1,9})D)?(?:T(?:(\d{1,9})H)?(?:(\d{1,9})M)?(?:(\d{1,12}(?:\.\d{1,12})?)S)?)?"
)
_DURATION_UNITS_SECONDS = (31_536_000, 2_592_000, 86_400, 3_600, 60, 1)
_RANGE = re.compile(r"\s*(\d{1,18})-(\d{1,18})\s*")
_INTEGER = re.compile(r"\s*-?\d{1,18}\s*")


def read_xml(body: bytes) -> Element:
    """The root element; document types and entities are refused."""
    if len(body) > MAX_XML_BYTES:
        raise SegmentError("playlist", f"an MPD of more than {MAX_XML_BYTES} bytes")
    try:
        root: Element = fromstring(body, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
        raise SegmentError("playlist", f"XML that cannot be read ({type(error).__name__})") from None
    if name_of(root) != "MPD":
        raise SegmentError("playlist", "XML that is no MPD")
    return root


def name_of(element: Element) -> str:
    """The element's name without its namespace."""
    return str(element.tag).rpartition("}")[2]


def children(element: Element, name: str) -> list[Element]:
    """The children of that name, in any namespace."""
    return [child for child in element if name_of(child) == name]


def child(element: Element, name: str) -> Element | None:
    """The first child of that name."""
    return next((found for found in element if name_of(found) == name), None)


def integer(attributes: Mapping[str, str], name: str, default: int) -> int:
    """A whole number of at most 18 digits."""
    text = attributes.get(name)
    if text is None:
        return default
    if not _INTEGER.fullmatch(text):
        raise SegmentError("playlist", f"{name} is no whole number")
    return int(text)


def positive(attributes: Mapping[str, str], name: str, default: int) -> int:
    """A whole number above zero."""
    value = integer(attributes, name, default)
    if value <= 0:
        raise SegmentError("playlist", f"{name} must be above zero")
    return value


def duration(attributes: Mapping[str, str], name: str) -> float | None:
    """An ISO 8601 duration in seconds; None when absent. Years and months are taken as 365 and 30 days."""
    text = attributes.get(name)
    if text is None:
        return None
    found = _DURATION.fullmatch(text.strip())
    if not found:
        raise SegmentError("playlist", f"{name} is no duration")
    return sum(float(part or 0) * unit for part, unit in zip(found.groups(), _DURATION_UNITS_SECONDS, strict=True))


def byte_range(text: str | None) -> ByteRange | None:
    """`first-last`, both inclusive; None when absent."""
    if text is None:
        return None
    found = _RANGE.fullmatch(text)
    if not found or int(found[2]) < int(found[1]):
        raise SegmentError("playlist", "a byte range that is none")
    return ByteRange(offset_bytes=int(found[1]), length_bytes=int(found[2]) - int(found[1]) + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inherited:
    """One of SegmentTemplate, SegmentList and SegmentBase, with what it inherits from the levels above."""

    name: str
    attributes: Mapping[str, str]
    children: Mapping[str, Sequence[Element]]


def inherited(levels: Sequence[Element]) -> Inherited | None:
    """How a representation is addressed; `levels` are Period, AdaptationSet and Representation, in that order."""
    names = ("SegmentTemplate", "SegmentList", "SegmentBase")
    found = [(name, part) for level in levels for name in names if (part := child(level, name)) is not None]
    if not found:
        return None
    name = found[-1][0]
    attributes: dict[str, str] = {}
    parts: dict[str, Sequence[Element]] = {}
    for element in (part for kind, part in found if kind == name):
        attributes.update(element.attrib)
        kinds: dict[str, Any] = {}
        for part in element:
            kinds.setdefault(name_of(part), []).append(part)
        parts.update(kinds)
    return Inherited(name=name, attributes=attributes, children=parts)
