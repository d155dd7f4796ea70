"""The segments of an HLS media playlist; raises SegmentError("playlist") only."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from vqmon.core.types import Encryption
from vqmon.errors import SegmentError
from vqmon.media.fetch.decryption import add_encryption_fragment
from vqmon.media.sources.hls.ad_breaks import mark_date_ranges
from vqmon.media.sources.hls.low_latency import reload_seconds
from vqmon.media.sources.hls.parts import parse_open_parts
from vqmon.media.sources.hls.tags import M3u8Dict, TagReader, parse_byte_range
from vqmon.media.sources.hls.variables import resolve_reference
from vqmon.media.sources.media_playlist import (
    DeliveryDirectives,
    MediaPlaylist,
    ParseWarnings,
    PlaylistEntry,
    add_seconds,
    parse_seconds,
    plausible_time,
)

_KEY_SCHEMES = ("http", "https", "file", "data")


def parse_media(
    tree: M3u8Dict, reader: TagReader, url: str, *, address_numbers: Sequence[int], warnings: ParseWarnings
) -> MediaPlaylist:
    """The media playlist; a segment that an invalid line describes is an entry with a `problem`.

    `address_numbers` are the line numbers of the segments' addresses.
    """
    _refuse_trick_play(tree, reader)
    segments = [segment for segment in tree["segments"] if segment.get("uri")]
    first = (reader.first_sequence or 0) + reader.skipped_segments
    first_iv = first if reader.first_iv is None else reader.first_iv + reader.skipped_segments
    map_keys = {id(section): key for section, key in zip(tree["segment_map"], reader.map_keys, strict=False)}
    entries: list[PlaylistEntry] = []
    for index, segment in enumerate(segments):
        location: dict[str, Any] = {"url": url}
        problem = segment.get("problem", "")
        try:
            if not problem:
                map_key = map_keys.get(id(segment.get("init_section")))
                previous = entries[-1] if entries else None
                location = _locate(segment, map_key, url, iv=first_iv + index, previous=previous)
        except SegmentError as error:
            where = f"line {address_numbers[index]}: " if index < len(address_numbers) else ""
            problem = error.detail if error.detail.startswith("line") else where + error.detail
        entries.append(
            PlaylistEntry(
                sequence=first + index,
                next_sequence=first + index + 1,
                duration_seconds=parse_seconds(segment.get("duration")),
                starts_at=plausible_time(segment.get("current_program_date_time")),
                is_discontinuity=bool(segment.get("discontinuity")),
                is_gap=bool(segment.get("gap_tag")),
                problem=problem,
                ad_cue=segment.get("ad_cue"),
                **location,
            )
        )
    longest = max((entry.duration_seconds for entry in entries), default=0.0)
    is_ended = tree["is_endlist"] or tree["playlist_type"] == "vod"
    return MediaPlaylist(
        entries=mark_date_ranges(_date_first_entries(entries), reader.date_ranges),
        target_seconds=tree.get("targetduration") or longest,
        is_ended=is_ended,
        is_numbered=is_ended or reader.first_sequence is not None,
        warnings=warnings.texts,
        **_parse_delivery(reader, next_sequence=first + len(segments), is_ended=is_ended),
        open_entry=None if is_ended else parse_open_parts(reader, url, sequence=first + len(segments)),
    )


def _refuse_trick_play(tree: M3u8Dict, reader: TagReader) -> None:
    if tree["is_i_frames_only"]:
        raise SegmentError("playlist", "the playlist lists key frames only (EXT-X-I-FRAMES-ONLY)")
    if reader.has_images_only:
        raise SegmentError("playlist", "the playlist lists thumbnails only (EXT-X-IMAGES-ONLY)")


def _parse_delivery(reader: TagReader, *, next_sequence: int, is_ended: bool) -> dict[str, Any]:
    """What a playlist says about low latency, as arguments of MediaPlaylist."""
    if is_ended and not reader.skipped_segments:
        return {}
    can_block = reader.control.get("can_block_reload", "").upper() == "YES"
    delivery = DeliveryDirectives(
        can_block=can_block and not is_ended and reader.first_sequence is not None,
        part_seconds=reader.part_seconds,
        skip_until_seconds=parse_seconds(reader.control.get("can_skip_until")),
        next_sequence=next_sequence,
        next_part=len(reader.open_parts),
        skipped_segments=reader.skipped_segments,
        has_keys=reader.has_keys,
    )
    return {"delivery": delivery, "reload_seconds": reload_seconds(delivery)}


def _locate(
    segment: M3u8Dict, map_key: M3u8Dict | None, base: str, *, iv: int, previous: PlaylistEntry | None
) -> dict[str, Any]:
    """The addresses, ranges and key of a segment's media, as arguments of PlaylistEntry; raises SegmentError.

    Arguments and not an entry to be completed, as a playlist of a day has 43,200 of them at each reload.
    """
    init_url, init_range = None, None
    if section := segment.get("init_section"):
        if "problem" in section:
            raise SegmentError("playlist", section["problem"])
        init_url = add_encryption_fragment(
            _resolve(section, base), _parse_encryption(map_key, base, None) if map_key else None
        )
        init_range = parse_byte_range(section.get("byterange"), None)
    url = resolve_reference(base, segment["uri"])
    previous_range = previous.byte_range if previous and previous.url == url else None
    return {
        "url": url,
        "reference": segment["uri"],
        "byte_range": parse_byte_range(segment.get("byterange"), previous_range),
        "init_url": init_url,
        "init_reference": section["uri"] if section else "",
        "init_byte_range": init_range,
        "encryption": _parse_encryption(segment.get("key"), base, iv),
    }


def _date_first_entries(entries: Sequence[PlaylistEntry]) -> tuple[PlaylistEntry, ...]:
    """Set the times of the entries before the first date; the library sets the later ones (RFC 8216 6.3.3)."""
    first_dated = next((index for index, entry in enumerate(entries) if entry.starts_at), 0)
    dated_entries = list(entries)
    for index in range(first_dated - 1, -1, -1):
        following = dated_entries[index + 1].starts_at
        if following:
            entry = dated_entries[index]
            dated_entries[index] = replace(entry, starts_at=add_seconds(following, -entry.duration_seconds))
    return tuple(dated_entries)


def _resolve(tag: M3u8Dict, base: str) -> str:
    """The URL in the attribute URI of a tag; the error names its line."""
    try:
        return resolve_reference(base, tag["uri"])
    except SegmentError as error:
        raise SegmentError("playlist", f"{tag['where']}: {error.detail}") from None


def _parse_encryption(key: M3u8Dict | None, base: str, iv: int | None) -> Encryption | None:
    """The encryption of a segment; without an IV its sequence number is the IV (RFC 8216 5.2)."""
    if key is None or key["method"].upper() == "NONE":
        return None
    method = key["method"].upper() or "unnamed"
    key_url = None
    if key.get("uri") and key.get("keyformat", "identity") == "identity":
        key_url = _resolve(key, base)
        key_url = key_url if urlsplit(key_url).scheme in _KEY_SCHEMES else None
    iv_digits = key.get("iv", "").lower().removeprefix("0x")
    iv_hex = iv_digits.zfill(32) if iv_digits else None
    if iv_hex is None and iv is not None:
        iv_hex = f"{iv:032x}"
    return Encryption(method=method[:40], key_url=key_url, iv_hex=iv_hex)
