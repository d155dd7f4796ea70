"""Counts the cues in a segment of subtitles: WebVTT, TTML, and both in MP4 (`wvtt` and `stpp`, ISO/IEC 14496-30)."""

import re
from collections.abc import Iterator
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import iterparse

_MAX_BYTES = 4_000_000
"""Parsed XML takes up to a hundred times its size in memory; an hour of dialogue takes 0.1 MB."""

_MAX_DEPTH = 100
_MAX_BOXES = 100_000
_TIMING = re.compile(r"^[ \t]*(?:\d{2,}:)?\d\d:\d\d\.\d{3}[ \t]+-->[ \t]+(?:\d{2,}:)?\d\d:\d\d\.\d{3}", re.MULTILINE)
_BLANK_LINES = re.compile(r"\n(?:[ \t]*\n)+")
_DOCUMENT = re.compile(rb"<\?xml|<(?:\w+:)?tt[\s>]")


def count_cues(media: bytes) -> int:
    """How many cues with text or a picture a segment holds; 0 when nothing is to be shown.

    Their times are not compared with those of the segment. Raises ValueError, with the reason, for bytes that are
    neither WebVTT nor TTML, for damaged ones, and for more than 4 MB.
    """
    if len(media) > _MAX_BYTES:
        raise ValueError(f"more than {_MAX_BYTES} bytes")
    text = media.removeprefix(b"\xef\xbb\xbf")
    if re.match(rb"WEBVTT(?:[ \t\r\n]|$)", text):
        return _count_webvtt(text)
    if text.lstrip()[:1] == b"<":
        return _count_ttml(text)
    if _is_box_name(media[4:8]):
        return _count_in_mp4(media)
    raise ValueError("neither WebVTT nor TTML" if media else "no bytes")


def _count_webvtt(media: bytes) -> int:
    """Blocks with a line of times and a text after it (WebVTT 4.1); a block is what stands between blank lines."""
    text = media.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n")
    timings = (
        (block, _TIMING.search(block)) for block in _BLANK_LINES.split(text) if not block.startswith(("NOTE", "STYLE"))
    )
    return sum(bool(match and block[match.end() :].partition("\n")[2].strip()) for block, match in timings)


def _count_ttml(media: bytes) -> int:
    """Elements `p` that hold text or a picture (TTML2 8.1.5); pictures stand in `div` in the image profile of IMSC."""
    depth, count, root = 0, 0, ""
    try:
        for event, element in iterparse(_Bytes(media), events=("start", "end"), forbid_dtd=True):
            depth += 1 if event == "start" else -1
            if depth > _MAX_DEPTH:
                raise ValueError(f"TTML with more than {_MAX_DEPTH} levels of elements")
            if event == "start":
                root = root or _local_name(element)
                continue
            name = _local_name(element)
            if name == "p" or (name == "div" and _shows_picture(element)):
                count += _shows_picture(element) or bool("".join(element.itertext()).strip())
                element.clear()
    except (ParseError, DefusedXmlException, LookupError) as error:
        raise ValueError(f"the TTML cannot be parsed ({type(error).__name__})") from None
    if root != "tt":
        raise ValueError("XML that is not TTML")
    return count


class _Bytes:
    """A file of bytes for the parser, in small parts: what is refused is refused before all of it is parsed."""

    def __init__(self, content: bytes) -> None:
        self._content, self._offset = content, 0

    def read(self, size: int = -1) -> bytes:
        end = len(self._content) if size < 0 else self._offset + size
        part, self._offset = self._content[self._offset : end], end
        return part


def _local_name(element: Element) -> str:
    return str(element.tag).rpartition("}")[2]


def _shows_picture(element: Element) -> bool:
    has_background = any(name.rpartition("}")[2] == "backgroundImage" for name in element.attrib)
    return has_background or any(_local_name(child) == "image" for child in element)


def _count_in_mp4(media: bytes) -> int:
    """Cues in the samples of fragments: boxes `vttc` with a `payl`, or TTML documents."""
    contents = [content for name, content in _boxes(media) if name == b"mdat"]
    if not contents and not any(name in (b"moov", b"moof", b"styp") for name, _ in _boxes(media)):
        raise ValueError("an MP4 file without fragments")
    return sum(_count_in_samples(content) for content in contents if content)


def _count_in_samples(content: bytes) -> int:
    if content[4:8] in (b"vttc", b"vtte", b"vtta"):
        return sum(name == b"vttc" and _has_payload(cue) for name, cue in _boxes(content))
    starts = [match.start() for match in _DOCUMENT.finditer(content)]
    if not starts or content[: starts[0]].strip(b"\xef\xbb\xbf \t\r\n"):
        raise ValueError("fragments with neither WebVTT nor TTML; they may be encrypted")
    return sum(_count_ttml(document) for document in _documents(content, starts))


def _documents(content: bytes, starts: list[int]) -> Iterator[bytes]:
    """Each TTML document of the samples; pictures may follow a document in its sample (ISO/IEC 14496-30 5)."""
    offset = 0
    for start in starts:
        if start < offset:
            continue
        end = re.compile(rb"</(?:\w+:)?tt\s*>").search(content, start)
        if end is None:
            raise ValueError("a TTML document that is cut off")
        offset = end.end()
        yield content[start:offset]


def _has_payload(cue: bytes) -> bool:
    return any(name == b"payl" and bool(text.strip()) for name, text in _boxes(cue))


def _is_box_name(name: bytes) -> bool:
    return name in (b"ftyp", b"styp", b"moov", b"moof", b"sidx", b"emsg", b"prft", b"mdat", b"free", b"skip")


def _boxes(media: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(type, content) of each box; raises ValueError for a malformed one (ISO/IEC 14496-12 4.2)."""
    offset = 0
    for _ in range(_MAX_BOXES):
        if offset == len(media):
            return
        size, name, header_bytes = int.from_bytes(media[offset : offset + 4], "big"), media[offset + 4 : offset + 8], 8
        if size == 1:
            size, header_bytes = int.from_bytes(media[offset + 8 : offset + 16], "big"), 16
        elif size == 0:
            size = len(media) - offset
        if size < header_bytes or offset + size > len(media):
            raise ValueError("MP4 that is damaged or cut off")
        yield name, media[offset + header_bytes : offset + size]
        offset += size
    raise ValueError(f"more than {_MAX_BOXES} boxes")
