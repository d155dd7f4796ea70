"""Prompts as CLIP reads them: bytes, merges in the order of a list, start, end, and the cut."""

import gzip

import numpy as np
import pytest

from vqmon.errors import ScorerError
from vqmon.scoring.scorers.clip_tokenizer import MOST_BYTES, Vocabulary, read_vocabulary

MERGES = (("c", "a"), ("ca", "t</w>"), ("a", "b"), ("'", "s</w>"), ("d", "o"), ("do", "g</w>"))
WORDS = Vocabulary(merges=MERGES)
SPELLED = {number: word for word, number in WORDS.ids.items()}


def spelled(text: str) -> list[str]:
    return [SPELLED[number] for number in WORDS.tokens(text)]


def test_words_are_merged_in_the_order_of_the_list() -> None:
    """The first merge of the list goes first, everywhere in the word; what is never merged stays bytes."""
    assert spelled("Cat") == ["cat</w>"]
    assert spelled("cab") == ["ca", "b</w>"]
    assert spelled("dogcat") == ["do", "g", "cat</w>"]
    assert spelled("abab") == ["ab", "a", "b</w>"]
    assert spelled("a") == ["a</w>"]


def test_text_is_cut_into_words_as_published() -> None:
    """Endings after an apostrophe, runs of letters, single digits, runs of signs; white space and case do not count."""
    assert spelled("  CAT's\n\tdog 12!? ") == ["cat</w>", "'s</w>", "dog</w>", "1</w>", "2</w>", "!", "?</w>"]
    assert spelled("cat&amp;amp;dog") == spelled("cat&dog") == ["cat</w>", "&</w>", "dog</w>"]
    assert spelled("é") == spelled("e\N{COMBINING ACUTE ACCENT}")
    assert len(WORDS.tokens("\N{FOX FACE}")) == 4
    assert WORDS.tokens(" \n ") == []


def test_ids_are_bytes_then_merges_then_start_and_end() -> None:
    """`!` is the first of all; letters that end a word come 256 later; the published list makes 49,408 of them."""
    assert (WORDS.ids["!"], WORDS.ids["!</w>"], WORDS.ids["ca"]) == (0, 256, 512)
    assert (WORDS.ids["<|startoftext|>"], WORDS.ids["<|endoftext|>"], WORDS.size) == (518, 519, 520)
    assert WORDS.tokens("<|endoftext|>") == [519]


def test_a_row_is_cut_and_keeps_its_end() -> None:
    """Start, text, end, zeros; of a long text the end stays; no text is start and end."""
    cat, start, end = WORDS.ids["cat</w>"], 518, 519
    found = WORDS.rows(["cat", "cat " * 9, ""], count=5)
    assert found.tolist() == [[start, cat, end, 0, 0], [start, cat, cat, cat, end], [start, end, 0, 0, 0]]
    assert found.dtype == np.int64


def test_a_list_may_be_packed_and_longer_than_needed() -> None:
    """As published: gzip, a first line with a version, and five times as many merges as are used."""
    text = "\n".join(('"bpe.txt#version: 0.2', *(" ".join(pair) for pair in MERGES), "x y"))
    for content in (text.encode(), gzip.compress(text.encode())):
        assert read_vocabulary(content, size=520).merges == MERGES
    assert read_vocabulary(text.encode(), size=515).merges == MERGES[:1]


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"a b\nc d\n", "the vocabulary has 2 merges, but 518 token ids need 4"),
        (b"a b\nc\nd e\nf g\n", "the vocabulary's merge 2 is 'c'"),
        (b"\xff\xfe", "neither text nor gzip of text"),
        (b"\x1f\x8b nothing", "neither text nor gzip of text"),
        (gzip.compress(b"a b\n" * (MOST_BYTES // 4 + 1)), "is larger than"),
    ],
)
def test_what_is_no_list_of_merges_is_refused(content: bytes, match: str) -> None:
    """Too short, not pairs, no text, a bomb: said by number or size."""
    with pytest.raises(ScorerError, match=match):
        read_vocabulary(content, size=518)


def test_any_prompt_of_the_longest_kind_is_read() -> None:
    """Two thousand signs in one word, each of four bytes."""
    assert len(WORDS.tokens("\N{FOX FACE}" * 2000)) == 8000
