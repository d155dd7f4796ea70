"""Reading of HLS tags one by one, so that an invalid line costs that line and not the playlist."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vqmon.core.types import ByteRange
from vqmon.media.sources.hls.ad_breaks import read_cue
from vqmon.media.sources.media_playlist import (
    MAX_ENTRIES,
    MAX_SEQUENCE,
    ParseWarnings,
    parse_seconds,
    parse_timestamp,
    quote_value,
)

M3u8Dict = dict[str, Any]
"""A playlist, or a part of one, as the `m3u8` library parses it."""

# All other tags are dropped before the library parses them: an invalid tag that is not needed must not cause a failure.
_FLAGS = frozenset({"#EXT-X-DISCONTINUITY", "#EXT-X-ENDLIST", "#EXT-X-GAP", "#EXT-X-I-FRAMES-ONLY"})

_CUE_TAGS = frozenset({"#EXT-X-CUE", "#EXT-X-CUE-OUT", "#EXT-X-CUE-OUT-CONT", "#EXT-X-CUE-IN", "#EXT-X-SCTE35"})
_MAX_DATE_RANGES = 1000
_ANNOUNCING_TAGS = ("#EXTINF", "#EXT-X-BYTERANGE", "#EXT-X-STREAM-INF")
_TAG = re.compile(r"#EXT(?:INF|-X-[A-Z0-9-]+)")
# names are in capitals and no space may be beside =, but packagers write both
_ATTRIBUTE = re.compile(r"""([A-Za-z0-9-]{1,64})[ \t]{0,8}=[ \t]{0,8}("[^"]*"|'[^'"]*'(?=[ \t]{0,8}(?:,|$))|[^",]*)""")
# a list of codecs without quotes ends before the next attribute
_PLAIN_CODECS = re.compile(
    r"(?:^|,)[ \t]{0,8}CODECS[ \t]{0,8}=[ \t]{0,8}([^\"',=]{1,64}(?:,[^\"',=]{1,64}(?=,|$)){1,16})", re.IGNORECASE
)
_BYTE_RANGE = re.compile(r"\s*\d{1,18}\s*(?:@\s*(?:\d{1,18})?\s*)?")
_INTEGER = re.compile(r"[+-]?\d{1,40}(?:\.0*)?")
_UNITLESS_NUMBER = re.compile(r"\d{1,15}(?:\.\d{1,15})?")
# the IV of a segment without one is its sequence number as 16 bytes (RFC 8216 5.2)
_MAX_IV = 2**128


def is_byte_range(text: str) -> bool:
    """Whether a text is `length[@[offset]]`."""
    return bool(_BYTE_RANGE.fullmatch(text)) and int(text.split("@")[0]) > 0


def parse_byte_range(text: str | None, previous: ByteRange | None) -> ByteRange | None:
    """Parse `length[@[offset]]`, which was checked; without an offset it follows the previous one of the resource."""
    if text is None:
        return None
    length, _, offset = (part.strip() for part in text.partition("@"))
    next_offset = previous.offset_bytes + previous.length_bytes if previous else 0
    return ByteRange(offset_bytes=int(offset) if offset else next_offset, length_bytes=int(length))


def _parse_attributes(value: str) -> dict[str, str]:
    """The attributes of a tag, without quotes; names in lower case with underscores."""
    return {name.lower().replace("-", "_"): _without_quotes(text.strip()) for name, text in _ATTRIBUTE.findall(value)}


def _without_quotes(text: str) -> str:
    is_single = len(text) > 1 and text[0] == text[-1] == "'"
    return text[1:-1].strip() if is_single else text.strip('"').strip()


class TagReader:
    """Reads each tag of a playlist in place of the library, and says which ones it could not use.

    `intercept` is called by `m3u8.parse` for every line that begins with #.
    """

    def __init__(self, numbers: Sequence[int], warnings: ParseWarnings) -> None:
        self._numbers = numbers
        self._warnings = warnings
        # the key in force at each EXT-X-MAP, in order: it applies to the initialization section
        self.map_keys: list[M3u8Dict | None] = []
        self._has_plain_key = False
        # None: the playlist does not number its segments
        self.first_sequence: int | None = None
        # of the first segment, where its number is not one that we can count with
        self.first_iv: int | None = None
        self.steering: Mapping[str, str] = {}
        # low latency: attributes of the server, the duration of parts, segments left out, parts of the open segment
        self.control: Mapping[str, str] = {}
        self.part_seconds = 0.0
        self.skipped_segments = 0
        self.open_parts: list[M3u8Dict] = []
        # the part that will follow them
        self.hinted_part: M3u8Dict | None = None
        self.has_keys = False
        # it lists tiles of thumbnails
        self.has_images_only = False
        # attributes of each EXT-X-DATERANGE
        self.date_ranges: list[Mapping[str, str]] = []
        self._readers = {
            "#EXTINF": self._read_duration,
            "#EXT-X-BYTERANGE": self._read_byte_range,
            "#EXT-X-KEY": self._read_key,
            "#EXT-X-MAP": self._read_map,
            "#EXT-X-MEDIA-SEQUENCE": self._read_sequence,
            "#EXT-X-PROGRAM-DATE-TIME": self._read_date,
            "#EXT-X-PLAYLIST-TYPE": self._read_type,
            "#EXT-X-TARGETDURATION": self._read_target,
            "#EXT-X-STREAM-INF": self._read_variant,
            "#EXT-X-MEDIA": self._read_media,
            "#EXT-X-CONTENT-STEERING": self._read_steering,
            "#EXT-X-SERVER-CONTROL": self._read_control,
            "#EXT-X-PART-INF": self._read_part_target,
            "#EXT-X-PART": self._read_part,
            "#EXT-X-PRELOAD-HINT": self._read_hint,
            "#EXT-X-SKIP": self._read_skip,
            "#EXT-X-DATERANGE": self._read_date_range,
            "#EXT-X-IMAGES-ONLY": self._read_images_only,
        }

    def intercept(self, line: str, number: int, tree: M3u8Dict, state: M3u8Dict) -> bool:
        """Read a tag; returns whether the library must ignore this line."""
        match = _TAG.match(line)
        if match is None:
            return True
        name, value = match[0], line[match.end() :].lstrip(":").strip()
        if name in _CUE_TAGS:
            cue = read_cue(name, value, _parse_attributes(value))
            if cue is not None:
                state.setdefault("segment", {})["ad_cue"] = cue
            return True
        if name in self._readers:
            self._readers[name](value, f"line {self._numbers[number - 1]}: {name[1:]}", tree, state)
            return True
        return name not in _FLAGS

    def _read_duration(self, value: str, where: str, _tree: M3u8Dict, state: M3u8Dict) -> None:
        self._has_plain_key = False
        self.open_parts = []
        text = value.split(",", 1)[0].strip().strip("\"'").strip()
        segment = state.setdefault("segment", {})
        # attributes may follow without a comma, as in channel lists
        segment["duration"] = parse_seconds(text.split(maxsplit=1)[0] if text else text)
        if not segment["duration"] and not _is_no_duration(text):
            self._warnings.add(f"{where}: {quote_value(text)} is no duration; it counts as unknown")
        state["expect_segment"] = True

    def _read_byte_range(self, value: str, where: str, _tree: M3u8Dict, state: M3u8Dict) -> None:
        segment = state.setdefault("segment", {})
        text = value.strip("\"'")
        if is_byte_range(text):
            segment["byterange"] = text
        else:
            segment["problem"] = f"{where}: {quote_value(text)} is no byte range"
        state["expect_segment"] = True

    def _read_key(self, value: str, where: str, _tree: M3u8Dict, state: M3u8Dict) -> None:
        """Of several keys for the same segments, prefer one with the identity format, which is a plain file."""
        key = {"method": "", "where": where} | _parse_attributes(value)
        self.has_keys = True
        is_plain = key.get("keyformat", "identity") == "identity"
        if is_plain or not self._has_plain_key:
            state["current_key"] = key
            self._has_plain_key = is_plain

    def _read_map(self, value: str, where: str, tree: M3u8Dict, state: M3u8Dict) -> None:
        section: M3u8Dict = {"where": where} | _parse_attributes(value)
        text = section.get("byterange")
        if not section.get("uri"):
            section["problem"] = f"{where}: there is no URI"
        elif text is not None and not is_byte_range(text):
            section["problem"] = f"{where}: {quote_value(text)} is no byte range"
        state["current_segment_map"] = section
        tree["segment_map"].append(section)
        self.map_keys.append(state["current_key"])

    def _read_sequence(self, value: str, where: str, _tree: M3u8Dict, _state: M3u8Dict) -> None:
        text = value.strip("\"'").strip()
        sequence = int(text.split(".")[0]) if _INTEGER.fullmatch(text) else None
        if sequence is not None and 0 <= sequence < _MAX_IV:
            self.first_iv = sequence
        if sequence is not None and 0 <= sequence < MAX_SEQUENCE:
            self.first_sequence = sequence
            return
        self.first_sequence = None
        self._warnings.add(f"{where}: {quote_value(text)} is no number from 0 to 2^62; segments are counted by address")

    def _read_date(self, value: str, where: str, _tree: M3u8Dict, state: M3u8Dict) -> None:
        time = parse_timestamp(value.strip("\"'"))
        if time is not None:
            state["current_program_date_time"] = time
        else:
            self._warnings.add(f"{where}: {quote_value(value)} is no time")

    def _read_type(self, value: str, _where: str, tree: M3u8Dict, _state: M3u8Dict) -> None:
        tree["playlist_type"] = value.strip("\"'").lower()

    def _read_target(self, value: str, where: str, tree: M3u8Dict, _state: M3u8Dict) -> None:
        tree["targetduration"] = parse_seconds(value.strip("\"'"))
        if not tree["targetduration"]:
            self._warnings.add(f"{where}: {quote_value(value)} is no duration; the longest segment counts")

    def _read_variant(self, value: str, where: str, tree: M3u8Dict, state: M3u8Dict) -> None:
        attributes: M3u8Dict = {"where": where} | _parse_attributes(value)
        if (plain := _PLAIN_CODECS.search(value)) is not None:
            attributes["codecs"] = plain[1]
        for name in ("bandwidth", "average_bandwidth"):
            text = attributes.get(name)
            if text is not None and not _UNITLESS_NUMBER.fullmatch(text):
                label = name.upper().replace("_", "-")
                self._warnings.add(f"{where}: {label}={quote_value(text)} is no number")
            attributes[name] = float(text) if text is not None and _UNITLESS_NUMBER.fullmatch(text) else 0.0
        tree["is_variant"] = True
        state["stream_info"] = attributes
        state["expect_playlist"] = True

    def _read_media(self, value: str, where: str, tree: M3u8Dict, _state: M3u8Dict) -> None:
        tree["media"].append({"where": where} | _parse_attributes(value))

    def _read_steering(self, value: str, _where: str, _tree: M3u8Dict, _state: M3u8Dict) -> None:
        self.steering = _parse_attributes(value)

    def _read_control(self, value: str, _where: str, _tree: M3u8Dict, _state: M3u8Dict) -> None:
        self.control = _parse_attributes(value)

    def _read_part_target(self, value: str, _where: str, _tree: M3u8Dict, _state: M3u8Dict) -> None:
        self.part_seconds = parse_seconds(_parse_attributes(value).get("part_target"))

    def _read_part(self, value: str, where: str, _tree: M3u8Dict, state: M3u8Dict) -> None:
        part: M3u8Dict = {"where": where} | _parse_attributes(value)
        part |= {"key": state.get("current_key"), "init_section": state.get("current_segment_map")}
        self.open_parts.append(part)

    def _read_hint(self, value: str, where: str, _tree: M3u8Dict, state: M3u8Dict) -> None:
        hint: M3u8Dict = {"where": where} | _parse_attributes(value)
        hint |= {"key": state.get("current_key"), "init_section": state.get("current_segment_map")}
        start, length = hint.get("byterange_start"), hint.get("byterange_length")
        if start is not None or length is not None:
            hint["byterange"] = f"{length}@{start or 0}"
        if hint.get("type", "").upper() == "PART":
            self.hinted_part = hint

    def _read_date_range(self, value: str, where: str, _tree: M3u8Dict, _state: M3u8Dict) -> None:
        if len(self.date_ranges) < _MAX_DATE_RANGES:
            self.date_ranges.append(_parse_attributes(value))
        else:
            self._warnings.add(f"{where}: more than {_MAX_DATE_RANGES} date ranges")

    def _read_images_only(self, _value: str, _where: str, _tree: M3u8Dict, _state: M3u8Dict) -> None:
        self.has_images_only = True

    def _read_skip(self, value: str, where: str, _tree: M3u8Dict, _state: M3u8Dict) -> None:
        text = _parse_attributes(value).get("skipped_segments", "")
        if text.isascii() and text.isdigit() and int(text[:9]) <= MAX_ENTRIES:
            self.skipped_segments = int(text[:9])
        else:
            self._warnings.add(f"{where}: {quote_value(text)} is no number of segments")


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberedLines:
    """The lines of a playlist that are not blank, with their numbers, and the numbers of those that are addresses."""

    lines: Sequence[str]
    numbers: Sequence[int]
    address_numbers: Sequence[int]


def number_lines(text: str, warnings: ParseWarnings) -> NumberedLines:
    """Number the lines from 1 and announce every address.

    An address whose own EXTINF is missing or unreadable is a segment of unknown duration, so that the segments after it
    keep their numbers. Playlists that do not announce any segment are left alone.
    """
    is_media = "#EXTINF" in text
    lines: list[str] = []
    numbers: list[int] = []
    addresses: list[int] = []
    is_announced = False
    # the last line that announces an address, while that has not come
    pending: tuple[int, str] | None = None
    # a file that was allocated in advance ends with NULs
    for number, line in enumerate((line.strip().strip("\0") for line in text.splitlines()), 1):
        if not line:
            continue
        if line.startswith(_ANNOUNCING_TAGS):
            is_announced = True
            if not line.startswith("#EXT-X-BYTERANGE"):
                _warn_without_address(pending, warnings)
                pending = number, line
        elif not line.startswith("#"):
            if not is_announced and line.startswith("<"):
                # no address: what a server puts before or behind its answer, such as an error in HTML
                warnings.add(f"line {number}: {quote_value(line)} is no address")
                continue
            if not is_announced and is_media:
                warnings.add(f"line {number}: an address without EXTINF; its duration counts as unknown")
                lines.append("#EXTINF:0,")
                numbers.append(number)
            if is_announced or is_media:
                addresses.append(number)
            is_announced, pending = False, None
        lines.append(line)
        numbers.append(number)
    _warn_without_address(pending, warnings)
    return NumberedLines(lines=lines, numbers=numbers, address_numbers=addresses)


def _warn_without_address(pending: tuple[int, str] | None, warnings: ParseWarnings) -> None:
    if pending is not None:
        number, line = pending
        tag, kind = ("EXTINF", "segment") if line.startswith("#EXTINF") else ("EXT-X-STREAM-INF", "rendition")
        warnings.add(f"line {number}: {tag}: no address follows; the {kind} is left out")


def _is_no_duration(text: str) -> bool:
    """Whether a duration is written the way that packagers and lists write an unknown one: 0 or -1."""
    return (text.strip("0.") == "" and bool(text)) or text in ("-1", "-1.0")
