"""Prompts become the token ids of CLIP's text tower: byte pairs merged in the order of a list, as published.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021, and
`simple_tokenizer.py` of their code. Spelled as there: HTML entities undone, white space to single spaces, lower case.
Their code also mends wrongly decoded text and typographic quotes with a library (`ftfy`) that is not used here; letters
are composed (NFC).
"""

import html
import re
import unicodedata
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from vqmon.errors import ScorerError

END_OF_WORD = "</w>"
START, END = "<|startoftext|>", "<|endoftext|>"
MOST_BYTES = 2**24
"""Of a list of merges, unpacked."""
BYTE_TOKENS = 512
"""256 bytes within a word, and 256 at its end."""
SPECIAL_TOKENS = 2
_FIXED = re.compile(r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d")
_RUN = re.compile("L+|N|o+")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Vocabulary:
    """Merges, the first first; token ids are 512 bytes, then one per merge, then start and end."""

    merges: tuple[tuple[str, str], ...]
    # token -> id
    ids: Mapping[str, int] = field(init=False, hash=False)
    # pair -> place in the list
    ranks: Mapping[tuple[str, str], int] = field(init=False, hash=False)

    def __post_init__(self) -> None:
        letters = list(_letters().values())
        words = [*letters, *(letter + END_OF_WORD for letter in letters), *map("".join, self.merges), START, END]
        object.__setattr__(self, "ids", {word: at for at, word in enumerate(words)})
        object.__setattr__(self, "ranks", {pair: at for at, pair in enumerate(self.merges)})

    @property
    def size(self) -> int:
        """How many token ids there are."""
        return BYTE_TOKENS + len(self.merges) + SPECIAL_TOKENS

    def tokens(self, text: str) -> list[int]:
        """The ids of a text, without start and end."""
        found: list[int] = []
        for word in _words(_cleaned(text)):
            found += self._word(word)
        return found

    def rows(self, texts: Sequence[str], *, count: int) -> NDArray[np.int64]:
        """Ids (texts, count): start, the text, end, zeros; a longer text is cut, its end token kept."""
        table = np.zeros((len(texts), count), dtype=np.int64)
        for row, text in zip(table, texts, strict=True):
            ids = [self.ids[START], *self.tokens(text)[: count - 2], self.ids[END]]
            row[: len(ids)] = ids
        return table

    def _word(self, word: str) -> list[int]:
        if word in (START, END):
            return [self.ids[word]]
        letters = [_letters()[byte] for byte in word.encode("utf-8", "replace")]
        parts = [*letters[:-1], letters[-1] + END_OF_WORD]
        while len(parts) > 1:
            pair = min(pairwise(parts), key=lambda each: self.ranks.get(each, len(self.ranks)))
            if pair not in self.ranks:
                break
            parts = _merged(parts, pair)
        return [self.ids[part] for part in parts]


def read_vocabulary(content: bytes, *, size: int) -> Vocabulary:
    """The list of merges of a file, plain or gzip, for so many token ids; raises ScorerError.

    One pair per line; a first line that names a version is none. What is more than needed is not used, as published.
    """
    text = _unpacked(content)
    lines = text.splitlines()
    if lines and "#version" in lines[0]:
        del lines[0]
    needed = size - BYTE_TOKENS - SPECIAL_TOKENS
    if needed < 0 or len(lines) < needed:
        raise ScorerError(
            f"the vocabulary has {len(lines)} merges, but {size} token ids need {needed}: 512 bytes, merges, start, end"
        )
    merges = []
    for at, line in enumerate(lines[:needed], start=1):
        pair = tuple(line.split(" "))
        if len(pair) != 2 or not all(pair):
            raise ScorerError(f"the vocabulary's merge {at} is {line[:40]!r}: it must be two parts and a space")
        merges.append((pair[0], pair[1]))
    return Vocabulary(merges=tuple(merges))


def _unpacked(content: bytes) -> str:
    try:
        if content[:2] == b"\x1f\x8b":
            content = zlib.decompressobj(wbits=31).decompress(content, MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise ScorerError(f"the vocabulary is larger than {MOST_BYTES} bytes: it is no list of CLIP's merges")
        return content.decode("utf-8")
    except (zlib.error, UnicodeDecodeError) as error:
        raise ScorerError(f"the vocabulary is neither text nor gzip of text: {error}") from error


def _cleaned(text: str) -> str:
    plain = html.unescape(html.unescape(unicodedata.normalize("NFC", text)))
    return " ".join(plain.split()).lower()


def _words(text: str) -> Iterator[str]:
    """Special words and endings, runs of letters, single digits, runs of other signs; spaces are between."""
    kinds = "".join(_kind(letter) for letter in text)
    at = 0
    while at < len(text):
        found = _FIXED.match(text, at) or _RUN.match(kinds, at)
        if found is None:
            at += 1
            continue
        yield text[at : found.end()]
        at = found.end()


def _kind(letter: str) -> str:
    category = unicodedata.category(letter)[0]
    if category in "LN":
        return category
    return " " if letter.isspace() else "o"


def _merged(parts: Sequence[str], pair: tuple[str, str]) -> list[str]:
    """Every place where the pair stands, from the left, as one part."""
    found: list[str] = []
    at = 0
    while at < len(parts):
        is_pair = tuple(parts[at : at + 2]) == pair
        found.append("".join(pair) if is_pair else parts[at])
        at += 2 if is_pair else 1
    return found


@lru_cache(maxsize=1)
def _letters() -> Mapping[int, str]:
    """A printable letter for every byte, in the order of the token ids: those that are printable, then the others."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + at) for at, byte in enumerate(others)}
