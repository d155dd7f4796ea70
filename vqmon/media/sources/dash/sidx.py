"""The segment index box of ISO BMFF, which locates the segments of a file (ISO/IEC 14496-12, 8.16.3)."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from vqmon.core.types import ByteRange
from vqmon.errors import FetchError, SegmentError
from vqmon.media.fetch.fetcher import Fetcher
from vqmon.media.sources.media_playlist import MAX_ENTRIES

_REFERENCES_AN_INDEX = 1 << 31
_INDEX_MAX_BYTES = 4_000_000
# a sidx box has at most 65,535 references of 12 bytes
_NESTED_MAX_BYTES = 800_000
_MAX_NESTED = 500
_MAX_DEPTH = 4


@dataclass(frozen=True, slots=True)
class IndexLocation:
    """The URL and byte range of a segment index box, and the file that it indexes."""

    url: str
    # None: all of a file that holds nothing but the index
    byte_range: ByteRange | None
    media_url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Subsegment:
    """The part of a file that a segment index box lists as one subsegment."""

    byte_range: ByteRange
    duration_seconds: float
    # the range begins with a further index, which lists its subsegments
    is_index: bool = False


def parse_sidx(content: bytes, *, offset_bytes: int | None) -> tuple[Subsegment, ...]:
    """The subsegments in the first sidx box; boxes before it are passed over.

    `offset_bytes` is the position of `content` in the media file, None when the index is a file of its own, whose
    offsets count from the start of the media file. Empty when there is no sidx or it is damaged: the file is then one
    segment.
    """
    try:
        return _parse(content, offset_bytes)
    except (struct.error, ValueError, ZeroDivisionError):
        return ()


def _parse(content: bytes, offset_bytes: int | None) -> tuple[Subsegment, ...]:
    start = _find_sidx(content)
    if start is None:
        return ()
    size, _, version = struct.unpack_from(">I4sB", content, start)
    (timescale,) = struct.unpack_from(">I", content, start + 16)
    _, first, _, count = struct.unpack_from(">IIHH" if version == 0 else ">QQHH", content, start + 20)
    entry = start + (32 if version == 0 else 40)
    media_offset = first + (0 if offset_bytes is None else offset_bytes + start + size)
    subsegments = []
    for _ in range(count):
        length, duration, _ = struct.unpack_from(">III", content, entry)
        is_index = bool(length & _REFERENCES_AN_INDEX)
        length &= ~_REFERENCES_AN_INDEX
        subsegments.append(
            Subsegment(
                byte_range=ByteRange(offset_bytes=media_offset, length_bytes=length),
                duration_seconds=duration / timescale,
                is_index=is_index,
            )
        )
        media_offset += length
        entry += 12
    return tuple(subsegments)


def _find_sidx(content: bytes) -> int | None:
    offset = 0
    while offset + 8 <= len(content):
        size, kind = struct.unpack_from(">I4s", content, offset)
        if kind == b"sidx":
            return offset
        if size < 8:
            return None
        offset += size
    return None


async def load_index(location: IndexLocation, fetcher: Fetcher) -> Sequence[Subsegment]:
    """The subsegments that an index and the indexes below it list, in order; raises SegmentError("playlist").

    Empty when the index is damaged, or is deeper or larger than any real one: the file is then one segment.
    """
    content = await _fetch(location.url, location.byte_range, fetcher)
    offset = location.byte_range.offset_bytes if location.byte_range else 0
    loader = _NestedIndexLoader(location.media_url, fetcher)
    subsegments = await loader.expand(
        parse_sidx(content, offset_bytes=offset if location.url == location.media_url else None), depth=1
    )
    return () if loader.is_too_large else subsegments


class _NestedIndexLoader:
    """Replaces references to indexes by what these list."""

    def __init__(self, media_url: str, fetcher: Fetcher) -> None:
        self._media_url = media_url
        self._fetcher = fetcher
        self._loaded = 0
        self.is_too_large = False

    async def expand(self, subsegments: Sequence[Subsegment], *, depth: int) -> list[Subsegment]:
        expanded: list[Subsegment] = []
        for subsegment in subsegments:
            if not subsegment.is_index:
                expanded.append(subsegment)
                continue
            self._loaded += 1
            if depth > _MAX_DEPTH or self._loaded > _MAX_NESTED or len(expanded) > MAX_ENTRIES:
                self.is_too_large = True
                return []
            start = subsegment.byte_range
            part = ByteRange(offset_bytes=start.offset_bytes, length_bytes=min(start.length_bytes, _NESTED_MAX_BYTES))
            content = await _fetch(self._media_url, part, self._fetcher)
            nested = parse_sidx(content, offset_bytes=start.offset_bytes)
            if not nested:
                self.is_too_large = True
                return []
            expanded += await self.expand(nested, depth=depth + 1)
        return expanded


async def _fetch(url: str, byte_range: ByteRange | None, fetcher: Fetcher) -> bytes:
    try:
        return (await fetcher.get(url, max_bytes=_INDEX_MAX_BYTES, byte_range=byte_range)).body
    except FetchError as error:
        raise SegmentError("playlist", f"the index cannot be fetched: {error}") from None
