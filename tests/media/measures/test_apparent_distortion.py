"""Values of MAD on made pictures, as the authors' code gives them."""

import numpy as np
import pytest

from tests.media.measures import pictures
from vqmon.media.measures.apparent_distortion import MAD
from vqmon.media.measures.measure import Picture


# the authors' MAD_index.m
@pytest.mark.parametrize(
    ("name", "expected"), [("noise", 43.0054066), ("blur", 52.8171310), ("blocks", 60.1418787), ("odd", 51.6936624)]
)
def test_mad(name: str, expected: float) -> None:
    assert MAD.compute(*pictures.pair(name)) == pytest.approx(expected, abs=1e-3)


def test_black_pictures_have_a_value() -> None:
    black = Picture(np.zeros((64, 72, 3), np.uint8))

    assert MAD.compute(black, black) == 0
