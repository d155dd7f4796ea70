"""URL paths of the pages, with any stream id or name encoded so that it survives a browser."""

import base64
import binascii
import re
from urllib.parse import quote, urlencode

EVENT_ID_PATTERN = re.compile(r"[0-9a-f]{32}")
"""Ids of outcomes and of alerts."""

_COUNT_PATTERN = re.compile(r"[0-9]{1,15}")
_PRINTABLE_PATTERN = re.compile(r"[^\x00-\x1f\x7f]+")


def stream_path(stream_id: str) -> str:
    """The page of a stream; slashes stay readable.

    >>> stream_path("sports/one")
    '/streams/sports/one'
    >>> unquote_stream_id(stream_path("a/../b").removeprefix("/streams/"))
    'a/../b'
    """
    return f"/streams/{quote_stream_id(stream_id)}"


def segment_path(event_id: str) -> str:
    return f"/segments/{event_id}"


def frame_pair_path(a_event_id: str, b_event_id: str) -> str:
    """The page that shows the frames of two segments in pairs."""
    return f"/pairs/{a_event_id}:{b_event_id}"


def experiment_path(name: str, *parts: str) -> str:
    """The page of an experiment, or one below it; each part becomes one path segment.

    >>> experiment_path("a b", "c/d", "review")
    '/experiments/a%20b/~Yy9k/review'
    """
    return "/".join(["/experiments", *(_quote_path_segment(part) for part in (name, *parts))])


def with_query(path: str, **query: str | int | None) -> str:
    """The path with a query string; parameters that are None or empty are left out.

    >>> with_query("/", q="a b", state=None)
    '/?q=a+b'
    """
    parameters = {name: value for name, value in query.items() if value not in (None, "")}
    return f"{path}?{urlencode(parameters)}" if parameters else path


def parse_count(text: str | None) -> int | None:
    """A whole number of at most 15 digits from a URL; None for anything else.

    >>> parse_count("12"), parse_count("-1"), parse_count("9" * 5000)
    (12, None, None)
    """
    return int(text) if text and _COUNT_PATTERN.fullmatch(text) else None


def _quote_path_segment(name: str) -> str:
    """A name as one segment of a path; `unquote_stream_id` decodes it."""
    return _base64_segment(name) if "/" in name else quote_stream_id(name)


def quote_stream_id(stream_id: str) -> str:
    """The id as part of a path, where its slashes separate segments.

    Browsers resolve `.`, `..` and empty path segments, escaped or not; ids with such segments become `~` and base64.
    """
    segments = stream_id.split("/")
    if stream_id.startswith("~") or {"", ".", ".."} & set(segments) or not _PRINTABLE_PATTERN.fullmatch(stream_id):
        return _base64_segment(stream_id)
    return quote(stream_id, safe="/")


def _base64_segment(text: str) -> str:
    return "~" + base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def unquote_stream_id(text: str) -> str | None:
    """The id that a percent-decoded path names; None when it names none."""
    if not text.startswith("~"):
        return text or None
    encoded = text[1:] + "=" * (-len(text[1:]) % 4)
    try:
        return base64.urlsafe_b64decode(encoded.encode()).decode() or None
    except (binascii.Error, UnicodeError):
        return None
