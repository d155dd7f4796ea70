"""Names of files, which are bytes and need not be UTF-8, as paths and as text."""

import os
from urllib.parse import unquote_to_bytes


def path_of(url_path: str) -> str:
    """The path that the path of a file: address stands for, byte for byte."""
    return os.fsdecode(unquote_to_bytes(os.fsencode(url_path)))


def printable(name: str) -> str:
    r"""A name as text that can be encoded: bytes that are not UTF-8 become \xNN.

    >>> printable("caf\udce9.mp4")
    'caf\\xe9.mp4'
    """
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
