"""Takes user parts, queries and fragments out of the addresses in a text, as the last guard before it leaves."""

import re

from vqmon.core.types import public_url

_ADDRESS = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*://|data:)[^\s\"'<>`|\\]*")
_END_OF_SENTENCE = ":;,.)]}"
_NETLOC = re.compile(r"netloc '[^']*'")


def redact_addresses(text: str) -> str:
    """The text, its addresses without what may be a secret.

    >>> redact_addresses("cannot fetch https://me:pw@cdn.example/a.ts?token=x#y: status 403")
    'cannot fetch https://cdn.example/a.ts: status 403'
    """
    # urllib.parse quotes the user part in its messages
    return _ADDRESS.sub(_redacted, _NETLOC.sub("netloc", text)) if ":" in text or "netloc" in text else text


def _redacted(match: re.Match[str]) -> str:
    address = match[0].rstrip(_END_OF_SENTENCE)
    return public_url(address) + match[0][len(address) :]
