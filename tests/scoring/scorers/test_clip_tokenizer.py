"""CLIP's tokenizer: byte tokens, merges by priority, start and end tokens, truncation."""

import gzip

import numpy as np
import pytest

from vqmon.errors import ScorerError
from vqmon.scoring.manifests.composite_scorer import MAX_MERGES_BYTES
from vqmon.scoring.scorers.clip_tokenizer import ClipTokenizer, load_clip_tokenizer

MERGES = (("c", "a"), ("ca", "t</w>"), ("a", "b"), ("'", "s</w>"), ("d", "o"), ("do", "g</w>"))
TOKENIZER = ClipTokenizer(merges=MERGES)
TOKENS_BY_ID = {token_id: token for token, token_id in TOKENIZER.ids.items()}


def tokens_of(text: str) -> list[str]:
    return [TOKENS_BY_ID[token_id] for token_id in TOKENIZER.encode(text)]


def test_pairs_are_merged_in_the_order_of_the_list() -> None:
    """The merge that is first in the list is applied first, everywhere in the word; other tokens stay bytes."""
    assert tokens_of("Cat") == ["cat</w>"]
    assert tokens_of("cab") == ["ca", "b</w>"]
    assert tokens_of("dogcat") == ["do", "g", "cat</w>"]
    assert tokens_of("abab") == ["ab", "a", "b</w>"]
    assert tokens_of("a") == ["a</w>"]


def test_text_is_split_into_words_as_in_the_published_code() -> None:
    """Contractions, runs of letters, single digits, runs of other characters; white space and case are dropped."""
    assert tokens_of("  CAT's\n\tdog 12!? ") == ["cat</w>", "'s</w>", "dog</w>", "1</w>", "2</w>", "!", "?</w>"]
    assert tokens_of("cat&amp;amp;dog") == tokens_of("cat&dog") == ["cat</w>", "&</w>", "dog</w>"]
    assert tokens_of("é") == tokens_of("e\N{COMBINING ACUTE ACCENT}")
    assert len(TOKENIZER.encode("\N{FOX FACE}")) == 4
    assert TOKENIZER.encode(" \n ") == []


def test_token_ids_are_bytes_then_merges_then_start_and_end() -> None:
    """`!` has id 0, and a byte that ends a word has the id of the byte plus 256."""
    assert (TOKENIZER.ids["!"], TOKENIZER.ids["!</w>"], TOKENIZER.ids["ca"]) == (0, 256, 512)
    assert (TOKENIZER.ids["<|startoftext|>"], TOKENIZER.ids["<|endoftext|>"], TOKENIZER.vocabulary_size) == (
        518,
        519,
        520,
    )
    assert TOKENIZER.encode("<|endoftext|>") == [519]


def test_a_long_text_is_truncated_before_the_end_token() -> None:
    """A row has start, text, end, zeros; an empty text is start and end."""
    cat, start, end = TOKENIZER.ids["cat</w>"], 518, 519
    batch = TOKENIZER.encode_batch(["cat", "cat " * 9, ""], context_length=5)
    assert batch.tolist() == [[start, cat, end, 0, 0], [start, cat, cat, cat, end], [start, end, 0, 0, 0]]
    assert batch.dtype == np.int64


def test_a_list_of_merges_may_be_compressed_and_longer_than_needed() -> None:
    """The published file is gzip, has a first line with a version and more merges than are used."""
    text = "\n".join(('"bpe.txt#version: 0.2', *(" ".join(pair) for pair in MERGES), "x y"))
    for content in (text.encode(), gzip.compress(text.encode())):
        assert load_clip_tokenizer(content, vocabulary_size=520).merges == MERGES
    assert load_clip_tokenizer(text.encode(), vocabulary_size=515).merges == MERGES[:1]


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"a b\nc d\n", r"has 2 merges, but 518 token ids \(512 bytes, merges, start and end\) need 4"),
        (b"a b\nc\nd e\nf g\n", "merge 2 is 'c'"),
        (b"\xff\xfe", "neither text nor gzip of text"),
        (b"\x1f\x8b nothing", "neither text nor gzip of text"),
        (gzip.compress(b"a b\n" * (MAX_MERGES_BYTES // 4 + 1)), "is larger than"),
    ],
)
def test_a_file_that_is_not_a_list_of_merges_is_refused(content: bytes, match: str) -> None:
    """Too few merges, a line that is not a pair, bytes that are not text, and a decompression bomb."""
    with pytest.raises(ScorerError, match=match):
        load_clip_tokenizer(content, vocabulary_size=518)


def test_the_longest_prompt_is_encoded() -> None:
    """Two thousand characters of four bytes in one word, which is the slowest case."""
    assert len(TOKENIZER.encode("\N{FOX FACE}" * 2000)) == 8000
