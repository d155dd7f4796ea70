"""Values of the feature similarities on made pictures, as the authors' code gives them."""

import pytest

from tests.media.measures import pictures
from vqmon.media.measures.feature_similarity import GMSD

# the authors' GMSD.m
AUTHORS_GMSD = {"noise": 0.0221874, "blur": 0.0349323, "blocks": 0.0708295, "odd": 0.0233972}


@pytest.mark.parametrize(("name", "expected"), AUTHORS_GMSD.items())
def test_gmsd(name: str, expected: float) -> None:
    assert GMSD.compute(*pictures.pair(name)) == pytest.approx(expected, abs=1e-6)
