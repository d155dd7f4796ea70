"""The parts that a low-latency HLS playlist lists of the segment that is being made (RFC 8216bis 4.4.4.9)."""

from vqmon.errors import SegmentError
from vqmon.media.sources.hls.tags import M3u8Dict, TagReader, is_byte_range, parse_byte_range
from vqmon.media.sources.media_playlist import OpenEntry, PlaylistEntry, parse_seconds, resolve_url


def parse_open_parts(reader: TagReader, url: str, *, sequence: int) -> OpenEntry | None:
    """What can be decoded of the segment that is being made; None when there is nothing.

    A part that cannot be used, is marked as a gap or is encrypted ends what can be decoded before it: the next one
    that is INDEPENDENT begins anew. Transport streams have their tables at the start of the segment only. A hint whose
    range has no end is left alone.
    """
    parts: list[PlaylistEntry] = []
    offset_seconds, seconds, is_decodable = 0.0, 0.0, True
    previous: PlaylistEntry | None = None
    for attributes in reader.open_parts:
        entry = _parse_part(attributes, url, sequence=sequence, previous=previous)
        is_independent = attributes.get("independent", "").upper() == "YES"
        if entry is None:
            parts, is_decodable = [], False
        elif is_independent and (not is_decodable or entry.init_url is not None):
            parts, offset_seconds, is_decodable = [entry], seconds, True
        elif is_decodable:
            parts.append(entry)
        previous = entry
        seconds += parse_seconds(attributes.get("duration"))
    if not parts:
        return None
    hint = None
    if reader.hinted_part is not None and is_decodable:
        hint = _parse_part(reader.hinted_part, url, sequence=sequence, previous=previous)
    return OpenEntry(
        sequence=sequence,
        parts=tuple(parts),
        offset_seconds=offset_seconds,
        part_seconds=reader.part_seconds,
        hint=hint,
    )


def _parse_part(
    attributes: M3u8Dict, base: str, *, sequence: int, previous: PlaylistEntry | None
) -> PlaylistEntry | None:
    """The part as an entry; None when it cannot be used."""
    key, section = attributes["key"], attributes["init_section"]
    is_encrypted = key is not None and key["method"].upper() not in ("", "NONE")
    ranges = [tag.get("byterange") for tag in (attributes, section or {})]
    is_usable = all(text is None or is_byte_range(text) for text in ranges)
    if is_encrypted or not is_usable or not attributes.get("uri") or attributes.get("gap", "").upper() == "YES":
        return None
    try:
        part_url = resolve_url(base, attributes["uri"])
        init_url = resolve_url(base, section["uri"]) if section and section.get("uri") else None
    except SegmentError:
        return None
    following = previous.byte_range if previous is not None and previous.url == part_url else None
    return PlaylistEntry(
        sequence=sequence,
        next_sequence=sequence + 1,
        url=part_url,
        duration_seconds=parse_seconds(attributes.get("duration")),
        byte_range=parse_byte_range(ranges[0], following),
        init_url=init_url,
        init_byte_range=parse_byte_range(ranges[1], None),
    )
