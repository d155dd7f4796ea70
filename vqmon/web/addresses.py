"""Paths of pages: any stream id goes into an address and comes back unharmed."""

import base64
import binascii
import re
from urllib.parse import quote, urlencode

EVENT_ID = re.compile(r"[0-9a-f]{32}")
_PLAIN = re.compile(r"[^\x00-\x1f\x7f]+")


def stream_path(stream_id: str) -> str:
    """The page of a stream; slashes stay readable.

    >>> stream_path("sports/one")
    '/streams/sports/one'
    >>> unquote_stream(stream_path("a/../b").removeprefix("/streams/"))
    'a/../b'
    """
    return f"/streams/{quote_stream(stream_id)}"


def segment_path(event_id: str) -> str:
    return f"/segments/{event_id}"


def alert_path(alert_id: str) -> str:
    return f"/alerts/{alert_id}"


def with_query(path: str, **query: str | int | None) -> str:
    """The path with what is given of the query.

    >>> with_query("/", q="a b", state=None)
    '/?q=a+b'
    """
    given = {name: value for name, value in query.items() if value not in (None, "")}
    return f"{path}?{urlencode(given)}" if given else path


def quote_stream(stream_id: str) -> str:
    """The id as it stands in a path.

    Browsers fold `.`, `..` and empty steps of a path, escaped or not; such ids go as `~` and base64.
    """
    steps = stream_id.split("/")
    if stream_id.startswith("~") or {"", ".", ".."} & set(steps) or not _PLAIN.fullmatch(stream_id):
        return "~" + base64.urlsafe_b64encode(stream_id.encode()).decode().rstrip("=")
    return quote(stream_id, safe="/")


def unquote_stream(text: str) -> str | None:
    """The id that a decoded path stands for; None when there can be none."""
    if not text.startswith("~"):
        return text or None
    packed = text[1:] + "=" * (-len(text[1:]) % 4)
    try:
        return base64.urlsafe_b64decode(packed.encode()).decode() or None
    except (binascii.Error, UnicodeError):
        return None
