"""Reads the text cells and numbers of a MATLAB 5 file, the form in which LIVE-VQC states its scores.

Layout: MathWorks, "MAT-File Format", version 5: a header of 128 bytes, then elements of (type, size, bytes), padded to
8 bytes; a matrix is an element whose parts are flags, dimensions, name and content.
"""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vqmon.errors import SettingsError

_HEADER_BYTES = 128
_COMPRESSED, _MATRIX = 15, 14
_CELL, _CHAR = 1, 4
_NUMERIC_CLASSES = range(6, 16)
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_TEXTS = {4: "utf-16-le", 16: "utf-8", 17: "utf-16-le", 18: "utf-32-le", 2: "latin-1"}
_MAX_BYTES = 2**28


def read_matlab_columns(file: Path) -> dict[str, list[str] | list[float]]:
    """The variables of a file by name: cells of text as texts, matrices of numbers as floats in column order.

    Other kinds of variables are left out. Raises SettingsError for a file that is not of MATLAB 5.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise SettingsError(f"{file}: cannot be read: {error.strerror}") from error
    if len(content) > _MAX_BYTES or content[124:128] != b"\x00\x01IM":
        raise SettingsError(f"{file}: is not a MATLAB file of version 5 (little endian); export its scores as CSV")
    try:
        columns = {}
        for kind, element in _elements(content[_HEADER_BYTES:]):
            name, value = _matrix(element) if kind == _MATRIX else ("", None)
            if value is not None:
                columns[name] = value
        return columns
    except (struct.error, zlib.error, ValueError, IndexError, KeyError, StopIteration) as error:
        raise SettingsError(f"{file}: is damaged, or not a MATLAB file that is understood: {error}") from error


def _elements(content: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 8 <= len(content):
        kind, size = struct.unpack_from("<II", content, at)
        if kind >> 16:
            # A small element: its size is in the upper half of the type, its bytes follow at once.
            yield kind & 0xFFFF, content[at + 4 : at + 4 + (kind >> 16)]
            at += 8
            continue
        body = content[at + 8 : at + 8 + size]
        if kind == _COMPRESSED:
            yield from _elements(zlib.decompressobj().decompress(body, _MAX_BYTES))
            at += 8 + size
            continue
        yield kind, body
        at += 8 + -(-size // 8) * 8


def _matrix(content: bytes) -> tuple[str, list[str] | list[float] | None]:
    parts = list(_elements(content))
    flags = struct.unpack("<I", parts[0][1][:4])[0]
    name, rest = parts[2][1].decode("latin-1"), parts[3:]
    if flags & 0xFF == _CELL:
        texts = [_text(list(_elements(cell))) for kind, cell in rest if kind == _MATRIX]
        return name, texts if all(text is not None for text in texts) else None  # type: ignore[return-value]
    if flags & 0xFF not in _NUMERIC_CLASSES or not rest or rest[0][0] not in _NUMBERS:
        return name, None
    return name, np.frombuffer(rest[0][1], dtype="<" + _NUMBERS[rest[0][0]]).astype(np.float64).tolist()


def _text(parts: list[tuple[int, bytes]]) -> str | None:
    """The text of a matrix of characters; None for a matrix of another class."""
    if struct.unpack("<I", parts[0][1][:4])[0] & 0xFF != _CHAR:
        return None
    kind, content = parts[3]
    return content.decode(_TEXTS[kind])
