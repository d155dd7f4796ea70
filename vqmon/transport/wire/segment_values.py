"""What a segment message may say in other words than the schema's, and which values make no sense.

Producers differ in harmless ways, which are taken: a byte order mark, null for "not set", any offset of RFC 3339.
Values that would be understood as something else are refused with field and value, never guessed.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from vqmon.core.types import AudioAddress, Rendition, Segment
from vqmon.errors import WireError

_MAX_DURATION_SECONDS = 86_400.0
MAX_YEAR = 2999
_MAX_INTEGER = 2**62
MAX_NAME = 500
_MAX_URL = 8000
_MAX_SHOWN = 80
# each may take until the deadline of a fetch
_MAX_MIRRORS = 8
_MAX_AUDIO = 15

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_CONFLUENT_BYTES = 5
_GLUE_BYTES = 18
_UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_GZIP = b"\x1f\x8b"

_RANGES = tuple((name, part) for name in ("byte_range", "init_byte_range") for part in ("offset_bytes", "length_bytes"))
_NUMBERS = (
    ("sequence",),
    ("duration_seconds",),
    ("rendition", "width"),
    ("rendition", "height"),
    ("rendition", "bitrate_kbps"),
    ("audio", "starts_seconds"),
    ("audio", "ends_seconds"),
    *_RANGES,
    *((media, *path) for media in ("reference", "audio") for path in _RANGES),
)
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)
_PLAIN_UTC = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:[0-5]\d(\.\d{1,6})?(Z|\+00:00)")
"""A time that needs no other words."""

_PLAIN_STARTS_AT = re.compile(rb'"starts_at" ?: ?"' + _PLAIN_UTC.pattern.encode() + rb'"')
_PLAIN_FLAG = re.compile(rb'"is_discontinuity" ?: ?(true|false) ?[,}]')

_LEAP_SECOND = re.compile(r":60(?=[.,Z+-]|$)", re.IGNORECASE)


def json_bytes(value: bytes) -> bytes:
    """The JSON text in a record, without a byte order mark; raises WireError when a serializer put bytes before it."""
    value = value.removeprefix(_BYTE_ORDER_MARK)
    if value[:1] == b"\0" and len(value) > _CONFLUENT_BYTES and not value.startswith(b"\0{"):
        schema = int.from_bytes(value[1:_CONFLUENT_BYTES], "big")
        raise WireError(
            "the record begins with the prefix of a Confluent schema registry serializer "
            f"(byte 0, schema id {schema}); write plain JSON (StringSerializer or ByteArraySerializer)"
        )
    if value[:2] in (b"\x03\x00", b"\x03\x05") and len(value) > _GLUE_BYTES:
        raise WireError("the record begins with the prefix of an AWS Glue schema registry serializer; write plain JSON")
    if value.startswith(_GZIP):
        raise WireError(
            "the value is compressed by gzip; let the producer compress (compression.type), not the message"
        )
    if value.startswith(_UTF_16_MARKS):
        raise WireError("the value is UTF-16; JSON in records must be UTF-8")
    return value


def normalise(value: bytes, *, data_key: str | None) -> bytes:
    """A message in the schema's words: without nulls, with times in UTC. `data_key` is where the segment is.

    Raises WireError for booleans in place of numbers and the reverse. Text that is not JSON comes back as it is.
    """
    if _is_normal(value):
        return value
    try:
        document = json.loads(value)
    except (ValueError, RecursionError):
        return value
    if isinstance(document, str):
        raise WireError("the value is a JSON string, not an object: it was encoded twice")
    segment = document.get(data_key) if data_key and isinstance(document, dict) else document
    if not isinstance(segment, dict):
        return value
    prefix = f"{data_key}." if data_key else ""
    if b"true" in value or b"false" in value:
        _check_numbers(segment, prefix)
    flag = segment.get("is_discontinuity")
    if flag is not None and not isinstance(flag, bool):
        raise WireError(f"{prefix}is_discontinuity: {json.dumps(flag)[:_MAX_SHOWN]} is not true or false")
    starts_at = segment.get("starts_at")
    utc = _in_utc(starts_at) if isinstance(starts_at, str) and not _PLAIN_UTC.fullmatch(starts_at) else None
    if utc is None and b"null" not in value:
        return value
    if utc is not None:
        segment["starts_at"] = utc
    return json.dumps(_without_nulls(document)).encode()


def _is_normal(value: bytes) -> bool:
    """Whether a message is in the schema's words already, as far as can be seen without parsing it: most are.

    It has no null, no boolean but the flag, and one start, in UTC; names that are spelled with escapes are not read.
    """
    booleans = value.count(b"true") + value.count(b"false")
    return (
        value.startswith(b"{")
        and b"null" not in value
        and b"\\u" not in value
        and value.count(b"starts_at") == 1
        and _PLAIN_STARTS_AT.search(value) is not None
        and booleans == value.count(b"is_discontinuity") == len(_PLAIN_FLAG.findall(value))
        and booleans <= 1
    )


def check_values(segment: Segment) -> None:
    """Raise WireError for values that are valid for their types but make no sense or cannot be represented later."""
    rendition = segment.rendition
    numbers = (segment.duration_seconds, rendition.bitrate_kbps or 0.0)
    if not all(math.isfinite(number) for number in numbers):
        raise WireError("a number is not finite")
    if segment.duration_seconds > _MAX_DURATION_SECONDS:
        raise WireError(f"data.duration_seconds: more than {_MAX_DURATION_SECONDS:.0f}")
    if not 1970 <= segment.starts_at.year <= MAX_YEAR:
        raise WireError("data.starts_at: not between 1970 and 2999")
    if not -_MAX_INTEGER <= segment.sequence <= _MAX_INTEGER:
        raise WireError("data.sequence: not a 63-bit integer")
    _check_rendition(rendition)
    if len(segment.mirrors) > _MAX_MIRRORS:
        raise WireError(f"data.mirrors: {len(segment.mirrors)} addresses; at most {_MAX_MIRRORS}")
    if segment.audio is not None:
        _check_audio(segment.audio)
    for field, url in _addresses(segment):
        _check_address(field, url)
    try:
        segment.key.encode()
    except ValueError as error:
        raise WireError(f"data: {error}") from error


def _check_audio(audio: AudioAddress) -> None:
    if len(audio.more) > _MAX_AUDIO:
        raise WireError(f"data.audio.more: {len(audio.more)} addresses; at most {_MAX_AUDIO}")
    for name in ("starts_seconds", "ends_seconds"):
        if not abs(getattr(audio, name)) <= _MAX_DURATION_SECONDS:
            raise WireError(f"data.audio.{name}: not within a day")


def _check_rendition(rendition: Rendition) -> None:
    for name, size in (("width", rendition.width), ("height", rendition.height)):
        if size is not None and size <= 0:
            raise WireError(f"data.rendition.{name}: {size} is no size; leave it out when it is not known")
    if rendition.bitrate_kbps is not None and rendition.bitrate_kbps < 0:
        raise WireError(f"data.rendition.bitrate_kbps: {rendition.bitrate_kbps:g} is negative")
    if len(rendition.key) > MAX_NAME:
        raise WireError("data: a name is too long")


def _check_numbers(segment: Mapping[str, Any], prefix: str) -> None:
    audio = segment.get("audio")
    more = audio.get("more") if isinstance(audio, dict) else None
    parts = range(len(more)) if isinstance(more, list) else ()
    for path in (*_NUMBERS, *(("audio", "more", str(number), *path) for number in parts for path in _RANGES)):
        number: Any = segment
        for name in path:
            if isinstance(number, list):
                number = number[int(name)] if name.isdecimal() else None
            else:
                number = number.get(name) if isinstance(number, dict) else None
        if isinstance(number, bool):
            raise WireError(f"{prefix}{'.'.join(path)}: {str(number).lower()} is a boolean, not a number")


def _in_utc(text: str) -> str | None:
    """A time of RFC 3339 in UTC; None for other text, and for a time without an offset."""
    try:
        time = datetime.fromisoformat(_LEAP_SECOND.sub(":59", text.strip().upper()))
        return time.astimezone(UTC).isoformat() if time.tzinfo else None
    except (ValueError, OverflowError):
        return None


def _without_nulls(document: Any) -> Any:
    if isinstance(document, dict):
        return {name: _without_nulls(value) for name, value in document.items() if value is not None}
    return [_without_nulls(value) for value in document] if isinstance(document, list) else document


def _addresses(segment: Segment) -> Iterator[tuple[str, str]]:
    yield "data.url", segment.url
    sound = segment.audio.more if segment.audio else ()
    optional: dict[str, str | None] = {
        "data.init_url": segment.init_url,
        "data.reference.url": segment.reference.url if segment.reference else None,
        "data.reference.init_url": segment.reference.init_url if segment.reference else None,
        "data.audio.url": segment.audio.url if segment.audio else None,
        "data.audio.init_url": segment.audio.init_url if segment.audio else None,
        **{f"data.audio.more.{number}.url": part.url for number, part in enumerate(sound)},
        **{f"data.audio.more.{number}.init_url": part.init_url for number, part in enumerate(sound)},
        **{f"data.mirrors.{number}.url": mirror.url for number, mirror in enumerate(segment.mirrors)},
        **{f"data.mirrors.{number}.init_url": mirror.init_url for number, mirror in enumerate(segment.mirrors)},
    }
    yield from ((field, url) for field, url in optional.items() if url is not None)


def _check_address(field: str, url: str) -> None:
    if not url.strip():
        raise WireError(f'{field}: "" is empty')
    if len(url) > _MAX_URL:
        raise WireError(f"{field}: an address that is too long: {len(url)} characters; at most {_MAX_URL}")
    if not _SCHEME.match(url):
        # neither query nor user part, which may hold secrets
        shown = re.split(r"[?#]", url.rpartition("@")[2], maxsplit=1)[0][:_MAX_SHOWN]
        raise WireError(f'{field}: "{shown}" is a relative address; write it in full, with https:// or file://')
    try:
        urlsplit(url).hostname  # noqa: B018 - raises for an invalid host
    except ValueError:
        # without its message, which quotes the user part
        raise WireError(f"{field}: the host of this address is invalid") from None
