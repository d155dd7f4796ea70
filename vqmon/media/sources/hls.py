"""Parsing of HLS playlists (RFC 8216) with the `m3u8` library; raises SegmentError("playlist") only."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import m3u8

from vqmon.core.types import ByteRange, Encryption
from vqmon.errors import SegmentError
from vqmon.media.fetch.decryption import add_encryption_fragment
from vqmon.media.sources.media_playlist import (
    MAX_ENTRIES,
    MAX_SEQUENCE,
    MAX_TRACKS,
    MediaPlaylist,
    PlaylistEntry,
    Track,
    add_seconds,
    assign_names,
    parse_seconds,
    parse_timestamp,
    plausible_time,
    resolve_url,
)

_DEFINE_ATTRIBUTE = re.compile(r'(NAME|VALUE|QUERYPARAM|IMPORT)="([^"]*)"')
_VARIABLE_REFERENCE = re.compile(r"\{\$([A-Za-z0-9_-]+)\}")
# Variables can make a very long playlist of a short one.
_MAX_ADDED_CHARACTERS = 16_000_000


def _substitute_variables(text: str, url: str, *, imported: Mapping[str, str]) -> tuple[str, Mapping[str, str]]:
    """Replace the variables of a playlist (EXT-X-DEFINE); returns the text and the variables that it defines.

    `imported` are the variables of the master playlist. Raises SegmentError("playlist") for an undefined variable.
    """
    variables: dict[str, str] = {}
    if "#EXT-X-DEFINE" not in text:
        return text, variables
    added = 0

    def value_of(reference: re.Match[str]) -> str:
        nonlocal added
        name = reference[1]
        if name not in variables:
            raise SegmentError("playlist", f"variable {name[:40]} is not defined")
        added += len(variables[name])
        if added > _MAX_ADDED_CHARACTERS:
            raise SegmentError("playlist", "variables make the playlist too large")
        return variables[name]

    lines = []
    for line in text.splitlines():
        if line.startswith("#EXT-X-DEFINE:"):
            variables.update(_parse_definition(line, url, imported))
        else:
            lines.append(_VARIABLE_REFERENCE.sub(value_of, line))
    return "\n".join(lines), variables


def _parse_definition(line: str, url: str, imported: Mapping[str, str]) -> dict[str, str]:
    attributes: dict[str, str] = dict(_DEFINE_ATTRIBUTE.findall(line))
    if "NAME" in attributes:
        return {attributes["NAME"]: attributes.get("VALUE", "")}
    if "QUERYPARAM" in attributes:
        name = attributes["QUERYPARAM"]
        try:
            values = parse_qs(urlsplit(url).query, keep_blank_values=True, max_num_fields=1000).get(name)
        except ValueError:
            values = None
        if values is None:
            raise SegmentError("playlist", f"the URL has no query parameter {name[:40]}")
        return {name: values[0]}
    name = attributes.get("IMPORT", "")
    if name not in imported:
        raise SegmentError("playlist", f"variable {name[:40]} cannot be imported")
    return {name: imported[name]}


# All other tags are dropped before the library parses them: an invalid tag that is not needed must not cause a failure.
# Partial segments of low-latency HLS are dropped too: only whole segments are decoded.
_TAGS_USED = frozenset(
    f"#EXT{name}"
    for name in (
        "INF",
        "-X-BYTERANGE",
        "-X-DISCONTINUITY",
        "-X-ENDLIST",
        "-X-GAP",
        "-X-I-FRAMES-ONLY",
        "-X-MAP",
        "-X-MEDIA",
        "-X-MEDIA-SEQUENCE",
        "-X-PLAYLIST-TYPE",
        "-X-STREAM-INF",
    )
)
_AUDIO_CODECS = ("mp4a", "ac-3", "ec-3", "ac-4", "opus", "flac", "alac", "mp3", "dts", "mhm1", "mha1")
_ATTRIBUTE = re.compile(r'([A-Z0-9-]{1,64})=("[^"]*"|[^",]*)')
_BYTE_RANGE = re.compile(r"\s*(\d{1,18})(?:@(\d{1,18}))?\s*")
_RESOLUTION = re.compile(r"\s*(\d{1,5})x(\d{1,5})\s*")

_M3u8Dict = dict[str, Any]
"""A playlist, or a part of one, as the library parses it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MasterPlaylist:
    """The video renditions of a master playlist, and the variables that its media playlists may import."""

    tracks: tuple[Track, ...]
    variables: Mapping[str, str] = field(default_factory=dict)


def parse_hls(text: str, url: str, *, variables: Mapping[str, str] | None = None) -> MasterPlaylist | MediaPlaylist:
    """Parse a master or a media playlist; `url` is its own, `variables` are those of its master playlist."""
    if text.count("#EXTINF") > MAX_ENTRIES or text.count("\n") > 8 * MAX_ENTRIES:
        raise SegmentError("playlist", "the playlist is too long")
    text, defined = _substitute_variables(text, url, imported=variables or {})
    interceptor = _TagInterceptor()
    try:
        tree = m3u8.parse(text, custom_tags_parser=interceptor.intercept)
    except Exception as error:  # the library does not document what it raises on invalid input
        raise SegmentError("playlist", f"the HLS playlist cannot be parsed ({type(error).__name__})") from None
    if tree["is_variant"]:
        return MasterPlaylist(tracks=_parse_tracks(tree, url), variables=defined)
    return _parse_media_playlist(tree, interceptor, url)


class _TagInterceptor:
    """Handles tags before the library does where it would lose information, fail, or take quadratic time."""

    def __init__(self) -> None:
        # the key in force at each EXT-X-MAP, in order: it applies to the initialization section
        self.map_keys: list[_M3u8Dict | None] = []
        self._has_plain_key = False

    def intercept(self, line: str, _number: int, tree: _M3u8Dict, state: _M3u8Dict) -> bool:
        """Whether the library must ignore this line."""
        name, _, value = line.partition(":")
        name = name.strip()
        if name == "#EXT-X-TARGETDURATION":
            tree["targetduration"] = parse_seconds(value)
        elif name == "#EXT-X-PROGRAM-DATE-TIME":
            time = parse_timestamp(value)
            if time is not None:
                state["current_program_date_time"] = time
        elif name == "#EXT-X-KEY":
            self._set_key(value, state)
        else:
            if name == "#EXT-X-MAP":
                self.map_keys.append(state["current_key"])
            elif name == "#EXTINF":
                self._has_plain_key = False
            return name not in _TAGS_USED
        return True

    def _set_key(self, value: str, state: _M3u8Dict) -> None:
        """Of several keys for the same segments, prefer one with the identity format, which is a plain file."""
        key = {"method": ""} | {name.lower(): text.strip().strip('"') for name, text in _ATTRIBUTE.findall(value)}
        is_plain = key.get("keyformat", "identity") == "identity"
        if is_plain or not self._has_plain_key:
            state["current_key"] = key
            self._has_plain_key = is_plain


def _parse_media_playlist(tree: _M3u8Dict, interceptor: _TagInterceptor, url: str) -> MediaPlaylist:
    if tree["is_i_frames_only"]:
        raise SegmentError("playlist", "the playlist lists key frames only (EXT-X-I-FRAMES-ONLY)")
    segments = [segment for segment in tree["segments"] if segment.get("uri")]
    first = tree["media_sequence"] or 0
    if not 0 <= first < MAX_SEQUENCE:
        raise SegmentError("playlist", "the media sequence number is out of range")
    map_keys = {id(section): key for section, key in zip(tree["segment_map"], interceptor.map_keys, strict=False)}
    entries: list[PlaylistEntry] = []
    for sequence, segment in enumerate(segments, first):
        section = segment.get("init_section")
        init_url, init_range = _parse_init_section(section, map_keys.get(id(section)), url) if section else (None, None)
        segment_url = resolve_url(url, segment["uri"])
        previous = entries[-1] if entries and entries[-1].url == segment_url else None
        entries.append(
            PlaylistEntry(
                sequence=sequence,
                next_sequence=sequence + 1,
                url=segment_url,
                duration_seconds=parse_seconds(segment.get("duration")),
                starts_at=plausible_time(segment.get("current_program_date_time")),
                byte_range=_parse_byte_range(segment.get("byterange"), previous.byte_range if previous else None),
                init_url=init_url,
                init_byte_range=init_range,
                encryption=_parse_encryption(segment.get("key"), url, sequence),
                is_discontinuity=bool(segment.get("discontinuity")),
                is_gap=bool(segment.get("gap_tag")),
            )
        )
    longest = max((entry.duration_seconds for entry in entries), default=0.0)
    return MediaPlaylist(
        entries=_date_first_entries(entries),
        target_seconds=tree.get("targetduration") or longest,
        is_ended=tree["is_endlist"] or tree["playlist_type"] == "vod",
    )


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


def _parse_init_section(section: _M3u8Dict, key: _M3u8Dict | None, base: str) -> tuple[str, ByteRange | None]:
    if not section.get("uri"):
        raise SegmentError("playlist", "an EXT-X-MAP without a URI")
    url = add_encryption_fragment(resolve_url(base, section["uri"]), _parse_encryption(key, base, None))
    return url, _parse_byte_range(section.get("byterange"), None)


def _parse_byte_range(text: str | None, previous: ByteRange | None) -> ByteRange | None:
    """Parse `length[@offset]`; without an offset the range follows the previous one in the same resource."""
    if text is None:
        return None
    match = _BYTE_RANGE.fullmatch(text)
    if not match or not int(match[1]):
        raise SegmentError("playlist", "a byte range is invalid")
    next_offset = previous.offset_bytes + previous.length_bytes if previous else 0
    return ByteRange(offset_bytes=int(match[2]) if match[2] else next_offset, length_bytes=int(match[1]))


def _parse_encryption(key: _M3u8Dict | None, base: str, sequence: int | None) -> Encryption | None:
    """The encryption of a segment; without an IV its sequence number is the IV (RFC 8216 5.2)."""
    if key is None or key["method"].upper() == "NONE":
        return None
    method = key["method"].upper() or "unnamed"
    key_url = None
    if key.get("uri") and key.get("keyformat", "identity") == "identity":
        key_url = resolve_url(base, key["uri"])
        key_url = key_url if urlsplit(key_url).scheme in ("http", "https", "file") else None
    iv_digits = key.get("iv", "").lower().removeprefix("0x")
    iv_hex = iv_digits.zfill(32) if iv_digits else None
    if iv_hex is None and sequence is not None:
        iv_hex = f"{sequence:032x}"
    return Encryption(method=method[:40], key_url=key_url, iv_hex=iv_hex)


def _parse_tracks(tree: _M3u8Dict, base: str) -> tuple[Track, ...]:
    """The variants with video, and alternative video renditions (camera angles) that have playlists of their own."""
    if len(tree["playlists"]) + len(tree["media"]) > MAX_TRACKS:
        raise SegmentError("playlist", "the playlist lists too many renditions")
    tracks: dict[str, Track] = {}
    hints: dict[str, str] = {}
    for variant in tree["playlists"]:
        attributes = variant["stream_info"]
        if _is_audio_only(attributes):
            continue
        track = _parse_track(attributes, resolve_url(base, variant["uri"]))
        if tracks.setdefault(track.url, track) is track:
            hints[track.url] = str(attributes.get("name") or "").strip('"')
        for angle in tree["media"]:
            if _is_angle_of(angle, attributes):
                angle_track = replace(track, url=resolve_url(base, angle["uri"]))
                tracks.setdefault(angle_track.url, angle_track)
                hints.setdefault(angle_track.url, f"{assign_names([track])[0].name}-{angle.get('name') or 'angle'}")
    if not tracks:
        raise SegmentError("playlist", "the master playlist offers no video")
    return assign_names(list(tracks.values()), list(hints.values()))


def _is_angle_of(angle: _M3u8Dict, variant: _M3u8Dict) -> bool:
    return bool(angle.get("type") == "VIDEO" and angle.get("uri") and angle.get("group_id") == variant.get("video"))


def _is_audio_only(attributes: _M3u8Dict) -> bool:
    codecs = [codec.strip().lower() for codec in str(attributes.get("codecs") or "").split(",") if codec.strip()]
    return (
        bool(codecs) and not attributes.get("resolution") and all(codec.startswith(_AUDIO_CODECS) for codec in codecs)
    )


def _parse_track(attributes: _M3u8Dict, url: str) -> Track:
    size = _RESOLUTION.fullmatch(str(attributes.get("resolution") or ""))
    bandwidth = attributes.get("average_bandwidth") or attributes.get("bandwidth") or 0
    return Track(
        name="",
        url=url,
        width=int(size[1]) if size else None,
        height=int(size[2]) if size else None,
        bitrate_kbps=bandwidth / 1000 if 0 < bandwidth < 1e12 else None,
        codecs=attributes.get("codecs"),
    )
