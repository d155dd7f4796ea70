"""HLS text -> tracks or a listing (RFC 8216), read with the `m3u8` library; raises SegmentError("playlist") only."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import m3u8

from vqmon.core.types import ByteRange, Encryption
from vqmon.errors import SegmentError
from vqmon.media.fetch.decryption import with_encryption
from vqmon.media.sources.listing import (
    MAX_LISTED,
    MAX_SEQUENCE,
    MAX_TRACKS,
    Listed,
    Listing,
    Track,
    later,
    moment_of,
    real,
    resolve,
    seconds_of,
    with_names,
)

_DEFINE_ATTRIBUTE = re.compile(r'(NAME|VALUE|QUERYPARAM|IMPORT)="([^"]*)"')
_REFERENCE = re.compile(r"\{\$([A-Za-z0-9_-]+)\}")
# A short playlist can ask for a very long one.
_MAX_ADDED = 16_000_000


def expand(text: str, url: str, *, imported: Mapping[str, str]) -> tuple[str, Mapping[str, str]]:
    """The text with its variables put in, and the variables; raises SegmentError("playlist") for an unknown one."""
    known: dict[str, str] = {}
    if "#EXT-X-DEFINE" not in text:
        return text, known
    added = 0

    def value_of(found: re.Match[str]) -> str:
        nonlocal added
        if found[1] not in known:
            raise SegmentError("playlist", f"variable {found[1][:40]} is not defined")
        added += len(known[found[1]])
        if added > _MAX_ADDED:
            raise SegmentError("playlist", "variables make the playlist too large")
        return known[found[1]]

    lines = []
    for line in text.splitlines():
        if line.startswith("#EXT-X-DEFINE:"):
            known.update(_definition(line, url, imported))
        else:
            lines.append(_REFERENCE.sub(value_of, line))
    return "\n".join(lines), known


def _definition(line: str, url: str, imported: Mapping[str, str]) -> dict[str, str]:
    facts: dict[str, str] = dict(_DEFINE_ATTRIBUTE.findall(line))
    if "NAME" in facts:
        return {facts["NAME"]: facts.get("VALUE", "")}
    if "QUERYPARAM" in facts:
        name = facts["QUERYPARAM"]
        try:
            values = parse_qs(urlsplit(url).query, keep_blank_values=True, max_num_fields=1000).get(name)
        except ValueError:
            values = None
        if values is None:
            raise SegmentError("playlist", f"the address has no query parameter {name[:40]}")
        return {name: values[0]}
    name = facts.get("IMPORT", "")
    if name not in imported:
        raise SegmentError("playlist", f"variable {name[:40]} cannot be imported")
    return {name: imported[name]}


# Everything else is dropped before the library sees it: a broken tag that we do not need must not cost the playlist.
# Low-latency parts are among them: only whole segments are looked at.
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

Tree = dict[str, Any]
"""What the library makes of a playlist, or of a part of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Master:
    """A master playlist: the video renditions, and the variables that media playlists may import."""

    tracks: tuple[Track, ...]
    variables: Mapping[str, str] = field(default_factory=dict)


def parse_hls(text: str, url: str, *, variables: Mapping[str, str] | None = None) -> Master | Listing:
    """Read a master or a media playlist that was found at `url`; `variables` are those of its master."""
    if text.count("#EXTINF") > MAX_LISTED or text.count("\n") > 8 * MAX_LISTED:
        raise SegmentError("playlist", "the playlist is longer than any real one")
    text, defined = expand(text, url, imported=variables or {})
    notes = _Notes()
    try:
        tree = m3u8.parse(text, custom_tags_parser=notes.tag)
    except Exception as error:  # the library promises nothing about what it raises on nonsense
        raise SegmentError("playlist", f"HLS that cannot be read ({type(error).__name__})") from None
    if tree["is_variant"]:
        return Master(tracks=_tracks(tree, url), variables=defined)
    return _listing(tree, notes, url)


class _Notes:
    """Sees every tag before the library does, and keeps what it would lose, trip over, or look at for ever."""

    def __init__(self) -> None:
        # the key in force at each EXT-X-MAP, in order: it belongs to the initialization section
        self.map_keys: list[Tree | None] = []
        self._has_plain_key = False

    def tag(self, line: str, _number: int, tree: Tree, state: Tree) -> bool:
        """Whether this line is done with."""
        name, _, value = line.partition(":")
        name = name.strip()
        if name == "#EXT-X-TARGETDURATION":
            tree["targetduration"] = seconds_of(value)
        elif name == "#EXT-X-PROGRAM-DATE-TIME":
            moment = moment_of(value)
            if moment is not None:
                state["current_program_date_time"] = moment
        elif name == "#EXT-X-KEY":
            self._take_key(value, state)
        else:
            if name == "#EXT-X-MAP":
                self.map_keys.append(state["current_key"])
            elif name == "#EXTINF":
                self._has_plain_key = False
            return name not in _TAGS_USED
        return True

    def _take_key(self, value: str, state: Tree) -> None:
        """Of several keys for the same segments, the one that is a plain file is kept."""
        key = {"method": ""} | {name.lower(): text.strip().strip('"') for name, text in _ATTRIBUTE.findall(value)}
        is_plain = key.get("keyformat", "identity") == "identity"
        if is_plain or not self._has_plain_key:
            state["current_key"] = key
            self._has_plain_key = is_plain


def _listing(tree: Tree, notes: _Notes, url: str) -> Listing:
    if tree["is_i_frames_only"]:
        raise SegmentError("playlist", "the playlist lists key frames only (EXT-X-I-FRAMES-ONLY)")
    lines = [line for line in tree["segments"] if line.get("uri")]
    first = tree["media_sequence"] or 0
    if not 0 <= first < MAX_SEQUENCE:
        raise SegmentError("playlist", "the playlist counts higher than any real one")
    map_keys = {id(section): key for section, key in zip(tree["segment_map"], notes.map_keys, strict=False)}
    entries: list[Listed] = []
    for sequence, line in enumerate(lines, first):
        section = line.get("init_section")
        init_url, init_range = _init(section, map_keys.get(id(section)), url) if section else (None, None)
        place = resolve(url, line["uri"])
        before = entries[-1] if entries and entries[-1].url == place else None
        entries.append(
            Listed(
                sequence=sequence,
                next_sequence=sequence + 1,
                url=place,
                duration_seconds=seconds_of(line.get("duration")),
                starts_at=real(line.get("current_program_date_time")),
                byte_range=_byte_range(line.get("byterange"), before.byte_range if before else None),
                init_url=init_url,
                init_byte_range=init_range,
                encryption=_encryption(line.get("key"), url, sequence),
                is_discontinuity=bool(line.get("discontinuity")),
                is_gap=bool(line.get("gap_tag")),
            )
        )
    longest = max((entry.duration_seconds for entry in entries), default=0.0)
    return Listing(
        entries=_dated_backwards(entries),
        target_seconds=tree.get("targetduration") or longest,
        is_ended=tree["is_endlist"] or tree["playlist_type"] == "vod",
    )


def _dated_backwards(entries: Sequence[Listed]) -> tuple[Listed, ...]:
    """The library dates what follows a date; what comes before the first one is dated here (RFC 8216 6.3.3)."""
    dated = next((index for index, entry in enumerate(entries) if entry.starts_at), 0)
    out = list(entries)
    for index in range(dated - 1, -1, -1):
        following = out[index + 1].starts_at
        if following:
            out[index] = replace(out[index], starts_at=later(following, -out[index].duration_seconds))
    return tuple(out)


def _init(section: Tree, key: Tree | None, base: str) -> tuple[str, ByteRange | None]:
    if not section.get("uri"):
        raise SegmentError("playlist", "an EXT-X-MAP without an address")
    url = with_encryption(resolve(base, section["uri"]), _encryption(key, base, None))
    return url, _byte_range(section.get("byterange"), None)


def _byte_range(text: str | None, before: ByteRange | None) -> ByteRange | None:
    """`length[@offset]`; without an offset it follows the range before it in the same resource."""
    if text is None:
        return None
    found = _BYTE_RANGE.fullmatch(text)
    if not found or not int(found[1]):
        raise SegmentError("playlist", "a byte range that is none")
    follows = before.offset_bytes + before.length_bytes if before else 0
    return ByteRange(offset_bytes=int(found[2]) if found[2] else follows, length_bytes=int(found[1]))


def _encryption(key: Tree | None, base: str, sequence: int | None) -> Encryption | None:
    """How a segment is encrypted; without an IV its sequence number is one (RFC 8216 5.2)."""
    if key is None or key["method"].upper() == "NONE":
        return None
    method = key["method"].upper() or "unnamed"
    key_url = None
    if key.get("uri") and key.get("keyformat", "identity") == "identity":
        key_url = resolve(base, key["uri"])
        key_url = key_url if urlsplit(key_url).scheme in ("http", "https", "file") else None
    given = key.get("iv", "").lower().removeprefix("0x")
    iv_hex = given.zfill(32) if given else None
    if iv_hex is None and sequence is not None:
        iv_hex = f"{sequence:032x}"
    return Encryption(method=method[:40], key_url=key_url, iv_hex=iv_hex)


def _tracks(tree: Tree, base: str) -> tuple[Track, ...]:
    """The variants that hold video, and alternative video renditions (camera angles) with a playlist of their own."""
    if len(tree["playlists"]) + len(tree["media"]) > MAX_TRACKS:
        raise SegmentError("playlist", "more renditions than any real playlist has")
    tracks: dict[str, Track] = {}
    hints: dict[str, str] = {}
    for variant in tree["playlists"]:
        facts = variant["stream_info"]
        if _is_audio(facts):
            continue
        track = _track(facts, resolve(base, variant["uri"]))
        if tracks.setdefault(track.url, track) is track:
            hints[track.url] = str(facts.get("name") or "").strip('"')
        for angle in tree["media"]:
            if _is_angle_of(angle, facts):
                other = replace(track, url=resolve(base, angle["uri"]))
                tracks.setdefault(other.url, other)
                hints.setdefault(other.url, f"{with_names([track])[0].name}-{angle.get('name') or 'angle'}")
    if not tracks:
        raise SegmentError("playlist", "the master playlist offers no video")
    return with_names(list(tracks.values()), list(hints.values()))


def _is_angle_of(angle: Tree, variant: Tree) -> bool:
    return bool(angle.get("type") == "VIDEO" and angle.get("uri") and angle.get("group_id") == variant.get("video"))


def _is_audio(facts: Tree) -> bool:
    codecs = [codec.strip().lower() for codec in str(facts.get("codecs") or "").split(",") if codec.strip()]
    return bool(codecs) and not facts.get("resolution") and all(codec.startswith(_AUDIO_CODECS) for codec in codecs)


def _track(facts: Tree, url: str) -> Track:
    size = _RESOLUTION.fullmatch(str(facts.get("resolution") or ""))
    bandwidth = facts.get("average_bandwidth") or facts.get("bandwidth") or 0
    return Track(
        name="",
        url=url,
        width=int(size[1]) if size else None,
        height=int(size[2]) if size else None,
        bitrate_kbps=bandwidth / 1000 if 0 < bandwidth < 1e12 else None,
        codecs=facts.get("codecs"),
    )
