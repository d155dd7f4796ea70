"""CLIP's tokenizer: turns prompts into token ids by byte pair encoding with the published list of merges.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021, and
`simple_tokenizer.py` of its code. As there, HTML entities are unescaped, runs of white space become one space and
letters become lower case. Unlike there, mojibake and typographic quotes are not repaired by the library `ftfy`; letters
are composed instead (NFC).
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
from vqmon.scoring.manifests.composite_scorer import BYTE_TOKEN_COUNT, MAX_MERGES_BYTES, SPECIAL_TOKEN_COUNT

_END_OF_WORD = "</w>"
_START, _END = "<|startoftext|>", "<|endoftext|>"
_SPECIAL_OR_CONTRACTION = re.compile(r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d")
_CHARACTER_RUN = re.compile("L+|N|o+")
"""Of the classes of `_character_class`: a run of letters, one digit, or a run of other characters."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ClipTokenizer:
    """Token ids are 512 byte tokens, one token per merge, then start and end; merges are in order of priority."""

    merges: tuple[tuple[str, str], ...]
    # token -> id
    ids: Mapping[str, int] = field(init=False, hash=False)
    # pair of tokens -> index in the list of merges
    ranks: Mapping[tuple[str, str], int] = field(init=False, hash=False)

    def __post_init__(self) -> None:
        symbols = list(_byte_symbols().values())
        tokens = [*symbols, *(symbol + _END_OF_WORD for symbol in symbols), *map("".join, self.merges), _START, _END]
        object.__setattr__(self, "ids", {token: token_id for token_id, token in enumerate(tokens)})
        object.__setattr__(self, "ranks", {pair: rank for rank, pair in enumerate(self.merges)})

    @property
    def vocabulary_size(self) -> int:
        """The number of token ids."""
        return BYTE_TOKEN_COUNT + len(self.merges) + SPECIAL_TOKEN_COUNT

    def encode(self, text: str) -> list[int]:
        """The token ids of a text, without the start and end tokens."""
        return [token_id for word in _split_words(_normalize(text)) for token_id in self._encode_word(word)]

    def encode_batch(self, texts: Sequence[str], *, context_length: int) -> NDArray[np.int64]:
        """Token ids (texts, context_length): start, text, end, zeros; long texts are truncated before the end token."""
        batch = np.zeros((len(texts), context_length), dtype=np.int64)
        for row, text in zip(batch, texts, strict=True):
            token_ids = [self.ids[_START], *self.encode(text)[: context_length - 2], self.ids[_END]]
            row[: len(token_ids)] = token_ids
        return batch

    def _encode_word(self, word: str) -> list[int]:
        if word in (_START, _END):
            return [self.ids[word]]
        symbols = [_byte_symbols()[byte] for byte in word.encode("utf-8", "replace")]
        tokens = [*symbols[:-1], symbols[-1] + _END_OF_WORD]
        while len(tokens) > 1:
            best_pair = min(pairwise(tokens), key=lambda pair: self.ranks.get(pair, len(self.ranks)))
            if best_pair not in self.ranks:
                break
            tokens = _merge_pair(tokens, best_pair)
        return [self.ids[token] for token in tokens]


def load_clip_tokenizer(content: bytes, *, vocabulary_size: int) -> ClipTokenizer:
    """The tokenizer of a list of merges, plain text or gzip, for a size of the vocabulary. Raises ScorerError.

    One pair per line; a first line with a version is skipped. As published, further merges are not used.
    """
    lines = _decompress(content).splitlines()
    if lines and "#version" in lines[0]:
        del lines[0]
    merge_count = vocabulary_size - BYTE_TOKEN_COUNT - SPECIAL_TOKEN_COUNT
    if merge_count < 0 or len(lines) < merge_count:
        raise ScorerError(
            f"the list has {len(lines)} merges, but {vocabulary_size} token ids (512 bytes, merges, start and end) "
            f"need {merge_count}"
        )
    merges = []
    for number, line in enumerate(lines[:merge_count], start=1):
        pair = tuple(line.split(" "))
        if len(pair) != 2 or not all(pair):
            raise ScorerError(f"merge {number} is {line[:40]!r}: it must be two tokens separated by a space")
        merges.append((pair[0], pair[1]))
    return ClipTokenizer(merges=tuple(merges))


def _decompress(content: bytes) -> str:
    try:
        if content[:2] == b"\x1f\x8b":
            content = zlib.decompressobj(wbits=31).decompress(content, MAX_MERGES_BYTES + 1)
        if len(content) > MAX_MERGES_BYTES:
            raise ScorerError(f"the list of merges is larger than {MAX_MERGES_BYTES} bytes: it is not CLIP's")
        return content.decode("utf-8")
    except (zlib.error, UnicodeDecodeError) as error:
        raise ScorerError(f"the list of merges is neither text nor gzip of text: {error}") from error


def _normalize(text: str) -> str:
    unescaped = html.unescape(html.unescape(unicodedata.normalize("NFC", text)))
    return " ".join(unescaped.split()).lower()


def _split_words(text: str) -> Iterator[str]:
    """Special tokens, contractions, runs of letters, single digits and runs of other characters; no white space."""
    classes = "".join(_character_class(character) for character in text)
    at = 0
    while at < len(text):
        match = _SPECIAL_OR_CONTRACTION.match(text, at) or _CHARACTER_RUN.match(classes, at)
        if match is None:
            at += 1
            continue
        yield text[at : match.end()]
        at = match.end()


def _character_class(character: str) -> str:
    """`L` for a letter, `N` for a number, a space for white space, `o` for any other character."""
    category = unicodedata.category(character)[0]
    if category in "LN":
        return category
    return " " if character.isspace() else "o"


def _merge_pair(tokens: Sequence[str], pair: tuple[str, str]) -> list[str]:
    """Replace every occurrence of a pair, from the left, by one token."""
    merged: list[str] = []
    at = 0
    while at < len(tokens):
        is_pair = tuple(tokens[at : at + 2]) == pair
        merged.append("".join(pair) if is_pair else tokens[at])
        at += 2 if is_pair else 1
    return merged


@lru_cache(maxsize=1)
def _byte_symbols() -> Mapping[int, str]:
    """Byte -> printable character, in the order of the token ids: printable bytes first, then all others."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + index) for index, byte in enumerate(others)}
