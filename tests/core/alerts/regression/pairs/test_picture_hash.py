"""Hashes of pictures: copies match, other content does not, plain and still pictures have none."""

import numpy as np
import pytest

from tests.core.alerts.repeated_content import fingerprint, picture
from vqmon.core.alerts.regression.pairs.picture_hash import MAX_DIFFERENT_BITS, Passage, passage_of

PICTURES = [picture(0, number) for number in range(3)]


def passage(pictures: list[np.ndarray]) -> Passage:
    return passage_of(*(fingerprint(one) for one in pictures))


def bits_between(one: Passage, other: Passage) -> int:
    return sum((first ^ second).bit_count() for first, second in zip(one, other, strict=True))


@pytest.mark.parametrize(
    "copy",
    [
        lambda cells: cells + np.random.default_rng(5).normal(0, 1.5, cells.shape),
        lambda cells: cells * 0.8 + 20,
        lambda cells: cells / 2 + np.roll(cells, 1, axis=1) / 4 + np.roll(cells, -1, axis=1) / 4,
    ],
    ids=["coding noise", "lower contrast", "blurred"],
)
def test_a_damaged_copy_matches(copy: object) -> None:
    damaged = passage([copy(one) for one in PICTURES])
    assert 0 <= bits_between(passage(PICTURES), damaged) <= MAX_DIFFERENT_BITS


def test_other_content_does_not_match() -> None:
    passages = [passage([picture(content, number) for number in range(3)]) for content in range(40)]
    nearest = min(bits_between(one, other) for n, one in enumerate(passages) for other in passages[:n])
    assert nearest > 2 * MAX_DIFFERENT_BITS


@pytest.mark.parametrize(
    "pictures",
    [
        [PICTURES[0]] * 3,
        [np.full((18, 32), 16.0)] * 3,
        [PICTURES[0], np.full((18, 32), 16.0), PICTURES[1]],
        [16 + one / 64 for one in PICTURES],
        [np.repeat(np.linspace(40, 200, 18)[:, None], 32, axis=1)] * 3,
    ],
    ids=["a still picture", "black", "black between", "dark", "a plain gradient"],
)
def test_pictures_that_look_like_others_have_no_hash(pictures: list[np.ndarray]) -> None:
    assert passage(pictures) == ()


def test_fingerprints_of_another_size_have_no_hash() -> None:
    assert passage_of("00ff", *(fingerprint(one) for one in PICTURES[:2])) == ()
