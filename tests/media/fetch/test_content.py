"""Compressed bodies and data: URLs."""

import base64
import gzip
import zlib

import pytest

from vqmon.errors import FetchError
from vqmon.media.fetch.content import decode_data_url, decompress

TEXT = b"#EXTM3U\n" * 1000
# Without the time of compression, which would be in the names of the tests: every process must find the same names.
GZIP = gzip.compress(TEXT, mtime=0)
RAW = zlib.compressobj(wbits=-15)
RAW_DEFLATE = RAW.compress(TEXT) + RAW.flush()


@pytest.mark.parametrize(
    ("body", "coding"),
    [
        (GZIP, "gzip"),
        (GZIP, ""),
        (GZIP, "deflate"),
        (GZIP + b"trailing", "gzip"),
        (gzip.compress(TEXT[:5]) + gzip.compress(b"") + gzip.compress(TEXT[5:]) + b"\0", "gzip"),
        (zlib.compress(TEXT), "deflate"),
        (RAW_DEFLATE, "deflate"),
        (TEXT, "gzip"),
        (TEXT, "deflate"),
        (TEXT, "identity"),
    ],
)
def test_the_bytes_decide_whatever_the_header_says(body: bytes, coding: str) -> None:
    """With, without and with a wrong Content-Encoding."""
    assert decompress(body, coding, max_bytes=len(TEXT)) == TEXT


def test_the_limit_holds_for_the_content() -> None:
    """Of all members together; a body that was cut off gives its beginning."""
    with pytest.raises(FetchError, match="more than 10 bytes"):
        decompress(gzip.compress(b"six...") * 2, "gzip", max_bytes=10)
    with pytest.raises(FetchError) as caught:
        decompress(gzip.compress(bytes(10_000_000)), "gzip", max_bytes=1000)
    assert caught.value.reason == "too_large"
    with pytest.raises(FetchError, match="more than 10000 gzip members"):
        decompress(gzip.compress(b"") * 10_001, "gzip", max_bytes=10)
    assert TEXT.startswith(decompress(gzip.compress(TEXT)[:-20], "gzip", max_bytes=10**6))


@pytest.mark.parametrize(
    ("url", "content"),
    [
        ("data:,a%20b", b"a b"),
        ("data:text/plain;charset=utf-8,x,y", b"x,y"),
        (f"data:video/mp2t;base64,{base64.b64encode(TEXT).decode()}", TEXT),
        ("DATA:;BASE64,QUJD", b"ABC"),
        ("data:;base64,QUI", b"AB"),
        ("data:;base64,_-8=", b"\xff\xef"),
        ("data:;base64,QUI%3D", b"AB"),
        ("data:,", b""),
    ],
)
def test_a_data_url_holds_its_content(url: str, content: bytes) -> None:
    """RFC 2397, also without padding and with the characters for URLs."""
    assert decode_data_url(url, max_bytes=len(TEXT)) == content


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("data:", "refused"),
        ("data:text/plain", "refused"),
        ("data://host/path,x", "refused"),
        ("data:;base64,???", "refused"),
        ("data:,12345678901", "too_large"),
        ("data:," + "x" * 5000, "too_large"),
        ("data:;base64," + "QUJD" * 4, "too_large"),
    ],
)
def test_other_data_urls_are_refused(url: str, reason: str) -> None:
    """What is none, and what is larger than allowed."""
    with pytest.raises(FetchError) as caught:
        decode_data_url(url, max_bytes=10)
    assert caught.value.reason == reason
