"""AES decryption of whole segments in numpy (FIPS 197, NIST SP 800-38A), for installations without the extra `aes`.

Blocks are worked on side by side, by the table look-ups of FIPS 197 5.3.5: about 15 MB/s of one core, where the package
cryptography does a gigabyte. For decryption of media only: look-ups take a time that depends on key and data.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_Bytes = NDArray[np.uint8]
_Words = NDArray[np.uint32]

_BLOCK_BYTES = 16
_CHUNK_BLOCKS = 8192
"""Blocks that are worked on at once: few enough for the cache of a core."""


def decrypt_cbc(encrypted: bytes, key: bytes, iv: bytes) -> bytes:
    """Cipher block chaining: whole blocks of 16 bytes; the key has 16 or 32 bytes, `iv` 16. Padding stays."""
    blocks = np.frombuffer(encrypted, np.uint8).reshape(-1, _BLOCK_BYTES)
    before = np.frombuffer(iv + encrypted[:-_BLOCK_BYTES], np.uint8).reshape(-1, _BLOCK_BYTES)
    return (_run(blocks, _inverse_keys(key), _INVERSE) ^ before[: len(blocks)]).tobytes()


def decrypt_ctr(encrypted: bytes, key: bytes, iv: bytes) -> bytes:
    """Counter mode: any length; `iv` is the first counter block, which counts up as one 128-bit number."""
    count = -(-len(encrypted) // _BLOCK_BYTES)
    start = int.from_bytes(iv, "big")
    low = np.arange(count, dtype=np.uint64) + np.uint64(start & (2**64 - 1))
    carry = low < np.uint64(start & (2**64 - 1))
    counters = np.stack([np.uint64(start >> 64) + carry.astype(np.uint64), low], axis=1).astype(">u8")
    stream = _run(counters.view(np.uint8).reshape(-1, _BLOCK_BYTES), _round_keys(key), _FORWARD).reshape(-1)
    return (np.frombuffer(encrypted, np.uint8) ^ stream[: len(encrypted)]).tobytes()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Direction:
    """A direction of the cipher: its substitution, the tables of substitution and column mixing, the shift of rows."""

    box: _Bytes
    tables: Sequence[_Words]
    # from how many columns ahead row 1 comes; row r from r times as many
    step: int


def _run(blocks: _Bytes, keys: Sequence[_Bytes], direction: _Direction) -> _Bytes:
    """All rounds over blocks (n, 16) with keys in the order in which they are added."""
    chunks = [blocks[first : first + _CHUNK_BLOCKS] for first in range(0, len(blocks), _CHUNK_BLOCKS)]
    return np.concatenate([np.empty((0, 16), np.uint8), *(_rounds(chunk, keys, direction) for chunk in chunks)])


def _rounds(blocks: _Bytes, keys: Sequence[_Bytes], direction: _Direction) -> _Bytes:
    state = blocks ^ keys[0]
    columns = [[(column + direction.step * row) % 4 for row in range(4)] for column in range(4)]
    for key in keys[1:-1]:
        words, by_column = key.view(np.uint32), state.reshape(-1, 4, 4)
        mixed = np.empty((len(blocks), 4), np.uint32)
        for column, origins in enumerate(columns):
            word = direction.tables[0].take(by_column[:, origins[0], 0])
            for row in (1, 2, 3):
                word ^= direction.tables[row].take(by_column[:, origins[row], row])
            mixed[:, column] = word ^ words[column]
        state = mixed.view(np.uint8)
    by_column = state.reshape(-1, 4, 4)
    last = np.empty_like(by_column)
    for column, origins in enumerate(columns):
        for row in range(4):
            last[:, column, row] = direction.box.take(by_column[:, origins[row], row])
    return last.reshape(-1, _BLOCK_BYTES) ^ keys[-1]


def _round_keys(key: bytes) -> list[_Bytes]:
    """The key expansion of FIPS 197 5.2: 11 or 15 keys of 16 bytes."""
    length, rounds = len(key) // 4, len(key) // 4 + 6
    words = [np.frombuffer(key[4 * index : 4 * index + 4], np.uint8) for index in range(length)]
    constant = np.array([1, 0, 0, 0], np.uint8)
    for index in range(length, 4 * (rounds + 1)):
        word = words[-1]
        if index % length == 0:
            word = _FORWARD.box[np.roll(word, -1)] ^ constant
            constant = _times(constant, 2)
        elif length > 6 and index % length == 4:
            word = _FORWARD.box[word]
        words.append(words[index - length] ^ word)
    return list(np.concatenate(words).reshape(-1, _BLOCK_BYTES))


def _inverse_keys(key: bytes) -> list[_Bytes]:
    """The keys of the equivalent inverse cipher: in reverse order, the inner ones with their columns unmixed."""
    first, *middle, last = _round_keys(key)
    unmixed = [_unmix_columns(round_key) for round_key in middle]
    return [last, *reversed(unmixed), first]


def _unmix_columns(key: _Bytes) -> _Bytes:
    rows = _FORWARD.box[key].reshape(4, 4)
    words: _Words = np.bitwise_xor.reduce([_INVERSE.tables[row][rows[:, row]] for row in range(4)])
    return words.view(np.uint8)


def _times(values: _Bytes, factor: int) -> _Bytes:
    """Products in the field of FIPS 197 4.2, polynomials modulo x^8 + x^4 + x^3 + x + 1."""
    product, power = np.zeros_like(values), values
    while factor:
        if factor & 1:
            product = product ^ power
        power = (power << np.uint8(1)) ^ np.where(power & np.uint8(0x80), np.uint8(0x1B), np.uint8(0))
        factor >>= 1
    return product


def _substitution_box() -> _Bytes:
    """FIPS 197 5.1.1: the inverse in the field, then an affine map; 3 generates the field's elements."""
    powers = np.ones(255, np.uint8)
    for index in range(1, 255):
        powers[index] = _times(powers[index - 1 : index], 3)[0]
    inverses = np.zeros(256, np.uint8)
    inverses[powers] = np.roll(powers[::-1], 1)
    turns = [(inverses << np.uint8(turn)) | (inverses >> np.uint8(8 - turn)) for turn in range(1, 5)]
    box: _Bytes = inverses ^ np.bitwise_xor.reduce(turns) ^ np.uint8(0x63)
    return box


def _direction(box: _Bytes, coefficients: tuple[int, int, int, int], step: int) -> _Direction:
    """Tables of four bytes per value, one table per row: a column is the XOR of one entry of each."""
    column = np.stack([_times(box, coefficient) for coefficient in coefficients], axis=1)
    tables = [np.ascontiguousarray(np.roll(column, row, axis=1)).view(np.uint32).reshape(-1) for row in range(4)]
    return _Direction(box=box, tables=tables, step=step)


_FORWARD = _direction(_substitution_box(), (2, 1, 1, 3), 1)
_INVERSE = _direction(np.argsort(_FORWARD.box).astype(np.uint8), (14, 9, 13, 11), -1)
