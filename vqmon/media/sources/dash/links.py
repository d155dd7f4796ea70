"""Remote elements of MPDs (xlink:href, ISO/IEC 23009-1 5.5): which there are, and putting them in their places."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from vqmon.errors import SegmentError
from vqmon.media.sources.dash import xml
from vqmon.media.sources.media_playlist import resolve_url

_HREF = "{http://www.w3.org/1999/xlink}href"
_RESOLVE_TO_ZERO = "urn:mpeg:dash:resolve-to-zero:2013"
_LINKED = ("Period", "AdaptationSet")
_DECLARATION = re.compile(rb"^\xef\xbb\xbf|<\?xml[^>]*\?>")

MAX_LINKS = 20
"""The most remote elements of an MPD that are fetched."""

UNRESOLVED = "vqmon-unresolved"
"""The attribute that says why a remote element could not be put in its place."""


@dataclass(frozen=True, slots=True)
class RemoteDocument:
    """What is behind a link: its bytes, or why they cannot be had."""

    body: bytes = b""
    error: str = ""


def find_links(root: Element, base: str) -> list[str]:
    """The URLs of the remote periods and adaptation sets, each once; those that are no URL are left out."""
    urls: dict[str, None] = {}
    for element in _linked_elements(root):
        href = element.get(_HREF, "")
        if href and href != _RESOLVE_TO_ZERO:
            try:
                urls.setdefault(resolve_url(base, href))
            except SegmentError:
                continue
    return list(urls)


def resolve_links(root: Element, base: str, documents: Mapping[str, RemoteDocument]) -> None:
    """Replace each remote element by what it refers to; one that cannot be resolved gets the attribute UNRESOLVED.

    A remote element that holds elements of its own keeps them in that case, as players do.
    """
    for parent in (root, *xml.find_children(root, "Period")):
        for position, child in reversed(list(enumerate(list(parent)))):
            href = child.get(_HREF)
            if href is None or xml.local_name(child) not in _LINKED:
                continue
            if href == _RESOLVE_TO_ZERO:
                parent.remove(child)
                continue
            try:
                replacements = _load(resolve_url(base, href), xml.local_name(child), documents)
            except SegmentError as error:
                if not len(child):
                    child.set(UNRESOLVED, f"xlink: {error.detail}")
                continue
            parent.remove(child)
            for offset, replacement in enumerate(replacements):
                parent.insert(position + offset, replacement)


def _linked_elements(root: Element) -> list[Element]:
    periods = xml.find_children(root, "Period")
    return [*periods, *(child for period in periods for child in xml.find_children(period, "AdaptationSet"))]


def _load(url: str, name: str, documents: Mapping[str, RemoteDocument]) -> list[Element]:
    """The elements in a remote document; it has no single root, and links in it are not followed."""
    document = documents.get(url)
    if document is None:
        raise SegmentError("playlist", f"more than {MAX_LINKS} remote elements")
    if document.error:
        raise SegmentError("playlist", document.error)
    root = xml.parse_xml(b"<remote>" + _DECLARATION.sub(b"", document.body.strip()) + b"</remote>")
    elements = xml.find_children(root, name)
    if not elements:
        raise SegmentError("playlist", f"the remote document holds no {name}")
    for element in elements:
        if _HREF in element.attrib:
            element.set(UNRESOLVED, "xlink: a remote element refers to another one")
    return elements
