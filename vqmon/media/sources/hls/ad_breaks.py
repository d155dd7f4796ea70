"""Ad breaks in HLS: EXT-X-CUE-OUT, -CONT and -IN, EXT-X-CUE, EXT-X-SCTE35, and EXT-X-DATERANGE with SCTE 35.

The cue tags are no standard; they are read as packagers write them: `#EXT-X-CUE-OUT:30`, `:DURATION=30`, or without a
duration until the next `#EXT-X-CUE-IN`; `#EXT-X-CUE-OUT-CONT:8.3/30` or `:ElapsedTime=8.3,Duration=30`;
`#EXT-X-CUE:TYPE="SpliceOut",DURATION=30` until "SpliceIn". Date ranges are those of RFC 8216bis 4.4.5.1. Where a tag
has no duration the one of its splice message counts.
"""

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from vqmon.media.ancillary.splice import SpliceMessage, parse_splice
from vqmon.media.sources.media_playlist import AdCue, PlaylistEntry, add_seconds, parse_seconds, parse_timestamp

_ELAPSED = re.compile(r"\s*(\d{1,9}(?:\.\d{1,9})?)\s*/\s*(\d{1,9}(?:\.\d{1,9})?)\s*")
_TOLERANCE_SECONDS = 0.5
"""A segment that begins less than this before the end of a break is not in it: durations are rounded."""
_MAX_BREAK_SECONDS = 3600.0
"""A break without an end is over after this time, so that a lost cue does not mute a stream for ever."""


def read_cue(tag: str, value: str, attributes: Mapping[str, str]) -> AdCue | None:
    """The cue in a tag, given with its text and its attributes; None when it is none."""
    if tag == "#EXT-X-SCTE35":
        if attributes.get("cue_in", "").upper() == "YES":
            return AdCue(begins=False)
        is_out = attributes.get("cue_out", "").upper() in ("YES", "CONT")
        message = _splice(attributes.get("cue", ""))
        if message is not None and "cue_out" not in attributes:
            return AdCue(begins=message.begins, seconds=_remaining(attributes) or message.seconds)
        return AdCue(begins=True, seconds=_remaining(attributes)) if is_out else None
    if tag == "#EXT-X-CUE":
        kind = attributes.get("type", "").lower()
        if kind == "splicein":
            return AdCue(begins=False)
        return AdCue(begins=True, seconds=_remaining(attributes)) if kind == "spliceout" else None
    if tag == "#EXT-X-CUE-IN":
        return AdCue(begins=False)
    if (match := _ELAPSED.fullmatch(value)) is not None:
        return AdCue(begins=True, seconds=max(float(match[2]) - float(match[1]), 0.0))
    return AdCue(begins=True, seconds=parse_seconds(value) or _remaining({**attributes, **_mixed_case(value)}))


def _mixed_case(value: str) -> dict[str, str]:
    """Attributes whose names are not in capitals, such as ElapsedTime."""
    return {name.lower(): text for name, text in re.findall(r"([A-Za-z]{1,32})=([\d.]{1,20})", value)}


def _splice(text: str) -> SpliceMessage | None:
    """The splice message in an attribute, in hexadecimal digits or base64; None when it is none."""
    digits = text.lower().removeprefix("0x")
    try:
        section = bytes.fromhex(digits) if digits != text.lower() else base64.b64decode(text, validate=True)
    except ValueError:
        return None
    return parse_splice(section)


def _remaining(attributes: Mapping[str, str]) -> float:
    """Seconds from here to the end of the break; 0 when it is not stated."""
    elapsed = parse_seconds(attributes.get("elapsedtime", attributes.get("elapsed", "0")))
    return max(parse_seconds(attributes.get("duration")) - elapsed, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Range:
    begins_at: datetime
    ends_at: datetime


def mark_date_ranges(
    entries: Sequence[PlaylistEntry], date_ranges: Iterable[Mapping[str, str]]
) -> tuple[PlaylistEntry, ...]:
    """The entries, marked where they begin within the date range of an ad break.

    `date_ranges` are the attributes of EXT-X-DATERANGE, names in lower case with underscores.
    """
    ranges = list(_ad_ranges(date_ranges))
    return tuple(
        replace(entry, is_ad_break=True) if any(_covers(each, entry) for each in ranges) else entry for entry in entries
    )


def _ad_ranges(date_ranges: Iterable[Mapping[str, str]]) -> Iterable[_Range]:
    """One range per ID: SCTE35-IN may come in a second tag, and END-DATE and DURATION with it.

    One that states no end lasts until the next end of a break, which may have an ID of its own.
    """
    by_id: dict[str, dict[str, str]] = {}
    for attributes in date_ranges:
        by_id.setdefault(attributes.get("id", ""), {}).update(attributes)
    ends = [parse_timestamp(attributes.get("start_date", "")) for attributes in by_id.values() if _is_end(attributes)]
    for attributes in by_id.values():
        begins_at = parse_timestamp(attributes.get("start_date", ""))
        ends_at = parse_timestamp(attributes.get("end_date", ""))
        seconds = parse_seconds(attributes.get("duration")) or parse_seconds(attributes.get("planned_duration"))
        message = _splice(attributes.get("scte35_out", "") or attributes.get("scte35_cmd", ""))
        if message is not None and message.begins:
            attributes.setdefault("scte35_out", "")
            seconds = seconds or message.seconds
        # of a break whose first tag has left the playlist the tag of its end may tell both times
        is_ended = "scte35_in" in attributes and (ends_at is not None or seconds > 0)
        if begins_at is None or not ("scte35_out" in attributes or is_ended):
            continue
        if ends_at is None:
            ends_at = add_seconds(begins_at, seconds or _MAX_BREAK_SECONDS)
            if not seconds:
                ends_at = min([ends_at, *(end for end in ends if end is not None and end > begins_at)])
        yield _Range(begins_at=begins_at, ends_at=ends_at)


def _is_end(attributes: Mapping[str, str]) -> bool:
    """Whether a date range says that a break ends where it begins."""
    if "scte35_out" in attributes:
        return False
    message = _splice(attributes.get("scte35_cmd", ""))
    return "scte35_in" in attributes or (message is not None and not message.begins)


def _covers(ad_range: _Range, entry: PlaylistEntry) -> bool:
    if entry.starts_at is None:
        return False
    tolerance = timedelta(seconds=_TOLERANCE_SECONDS)
    begun = ad_range.begins_at - tolerance <= entry.starts_at
    return begun and entry.starts_at < ad_range.ends_at - tolerance


class AdBreakClock:
    """Tells of one entry after the other whether it is in an ad break, also when the cue has left the playlist."""

    def __init__(self) -> None:
        self._is_open = False
        self._ends_at: datetime | None = None

    def begin(self, entries: Sequence[PlaylistEntry]) -> None:
        """Note where a live playlist begins: within a break, when the first cue that it lists is an end."""
        first_cue = next((entry.ad_cue for entry in entries if entry.ad_cue is not None), None)
        self._is_open = first_cue is not None and not first_cue.begins

    def is_ad_break(self, entry: PlaylistEntry, starts_at: datetime) -> bool:
        """Whether the entry, which begins at `starts_at`, is in an ad break; call it for every entry in order."""
        cue = entry.ad_cue
        if cue is not None:
            self._is_open = cue.begins
            self._ends_at = add_seconds(starts_at, min(cue.seconds or _MAX_BREAK_SECONDS, _MAX_BREAK_SECONDS))
        if self._ends_at is not None and starts_at >= self._ends_at - timedelta(seconds=_TOLERANCE_SECONDS):
            self._is_open, self._ends_at = False, None
        return self._is_open or entry.is_ad_break
