"""Decoding of bodies: gzip and deflate within a limit, and `data:` URLs (RFC 2397)."""

import base64
import binascii
import re
import zlib
from urllib.parse import unquote_to_bytes

from vqmon.errors import FetchError

_GZIP = b"\x1f\x8b\x08"
_DATA_URL = re.compile(r"data:[^,]{0,1000}?(?P<base64>;\s*base64\s*)?,", re.IGNORECASE)
_STEP_BYTES = 65_536
_MAX_MEMBERS = 10_000

IDENTITY_CODINGS = frozenset({"", "identity", "none", "utf-8", "aws-chunked"})
"""Content-Encoding values that leave the bytes as they are; the last two are errors of servers that are common."""

_GZIP_CODINGS = frozenset({"gzip", "x-gzip"})


def is_decodable(coding: str) -> bool:
    """Whether a Content-Encoding can be undone here."""
    return coding in IDENTITY_CODINGS or coding in _GZIP_CODINGS or coding == "deflate"


def is_gzip(body: bytes) -> bool:
    """Whether a body is compressed by gzip."""
    return body.startswith(_GZIP)


def decompress(body: bytes, coding: str, *, max_bytes: int) -> bytes:
    """The content of a body; raises FetchError("too_large") or ("http_status").

    Gzip is recognized by its first bytes, with or without the header, and a header that is wrong is ignored: no
    playlist and no media begins as gzip does. A body that was cut off gives what can be had of it.
    """
    if is_gzip(body):
        return _inflate(body, 16 + zlib.MAX_WBITS, max_bytes)
    if coding == "deflate" and body:
        # zlib by the standard, raw deflate from servers that take the name literally
        for bits in (zlib.MAX_WBITS, -zlib.MAX_WBITS):
            try:
                return _inflate(body, bits, max_bytes)
            except FetchError as error:
                if error.reason == "too_large":
                    raise
    return body


def _inflate(body: bytes, bits: int, max_bytes: int) -> bytes:
    inflater, member_count = zlib.decompressobj(bits), 1
    content, rest, position = bytearray(), b"", 0
    try:
        while rest or position < len(body):
            if len(rest) < len(_GZIP):
                rest += body[position : position + _STEP_BYTES]
                position += _STEP_BYTES
            if inflater.eof:
                # gzip files may be concatenated (RFC 1952 2.2); anything else that follows is not part of the body
                if not is_gzip(rest):
                    break
                if member_count == _MAX_MEMBERS:
                    raise FetchError("too_large", f"more than {_MAX_MEMBERS} gzip members")
                inflater, member_count = zlib.decompressobj(bits), member_count + 1
            content += inflater.decompress(rest, min(_STEP_BYTES, max_bytes + 1 - len(content)))
            if len(content) > max_bytes:
                raise FetchError("too_large", f"more than {max_bytes} bytes after decompression")
            rest = inflater.unused_data if inflater.eof else inflater.unconsumed_tail
    except zlib.error:
        raise FetchError("http_status", "the compressed body is damaged") from None
    return bytes(content)


def is_data_url(url: str) -> bool:
    """Whether a URL holds its content itself."""
    return url[:5].lower() == "data:"


def decode_data_url(url: str, *, max_bytes: int) -> bytes:
    """The content of a `data:` URL; raises FetchError("refused") or ("too_large")."""
    match = _DATA_URL.match(url)
    if match is None or url.startswith("//", 5):
        raise FetchError("refused", "not a data: URL")
    # base64 has four characters for three bytes, percent-encoding at most three for one
    if len(url) - match.end() > 3 * max_bytes + 1000:
        raise FetchError("too_large", f"a data: URL of more than {max_bytes} bytes")
    content = unquote_to_bytes(url[match.end() :])
    if match["base64"]:
        try:
            padded = content.translate(None, b" \t\r\n").translate(bytes.maketrans(b"-_", b"+/")).rstrip(b"=")
            content = base64.b64decode(padded + b"=" * (-len(padded) % 4), validate=True)
        except (binascii.Error, ValueError):
            raise FetchError("refused", "a data: URL with invalid base64") from None
    if len(content) > max_bytes:
        raise FetchError("too_large", f"a data: URL of more than {max_bytes} bytes")
    return content
