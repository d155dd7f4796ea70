"""Paths of pages: any stream id goes into an address and comes back unharmed."""

import base64
import binascii
import re
from urllib.parse import quote, urlencode

EVENT_ID = re.compile(r"[0-9a-f]{32}")
_COUNT = re.compile(r"[0-9]{1,15}")
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


def pair_path(a_event_id: str, b_event_id: str) -> str:
    """The page that holds two looks at the same moment against each other."""
    return f"/pairs/{a_event_id}:{b_event_id}"


def experiment_path(name: str, *parts: str) -> str:
    """The page of an experiment, or one below it; each part is a name of its own.

    >>> experiment_path("a b", "c/d", "review")
    '/experiments/a%20b/~Yy9k/review'
    """
    return "/".join(["/experiments", *(quote_name(part) for part in (name, *parts))])


def with_query(path: str, **query: str | int | None) -> str:
    """The path with what is given of the query.

    >>> with_query("/", q="a b", state=None)
    '/?q=a+b'
    """
    given = {name: value for name, value in query.items() if value not in (None, "")}
    return f"{path}?{urlencode(given)}" if given else path


def count_of(text: str | None) -> int | None:
    """A whole number out of an address; None for anything else, and for more digits than anything here has.

    >>> count_of("12"), count_of("-1"), count_of("9" * 5000)
    (12, None, None)
    """
    return int(text) if text and _COUNT.fullmatch(text) else None


def quote_name(name: str) -> str:
    """A name as one step of a path; `unquote_stream` undoes it."""
    return _packed(name) if "/" in name else quote_stream(name)


def quote_stream(stream_id: str) -> str:
    """The id as it stands in a path.

    Browsers fold `.`, `..` and empty steps of a path, escaped or not; such ids go as `~` and base64.
    """
    steps = stream_id.split("/")
    if stream_id.startswith("~") or {"", ".", ".."} & set(steps) or not _PLAIN.fullmatch(stream_id):
        return _packed(stream_id)
    return quote(stream_id, safe="/")


def _packed(text: str) -> str:
    return "~" + base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def unquote_stream(text: str) -> str | None:
    """The id that a decoded path stands for; None when there can be none."""
    if not text.startswith("~"):
        return text or None
    packed = text[1:] + "=" * (-len(text[1:]) % 4)
    try:
        return base64.urlsafe_b64decode(packed.encode()).decode() or None
    except (binascii.Error, UnicodeError):
        return None
