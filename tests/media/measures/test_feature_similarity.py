"""Values of the feature similarities on made pictures, as the authors' code gives them."""

import numpy as np
import pytest

from tests.media.measures import pictures
from vqmon.media.measures.feature_similarity import FSIM, FSIMC, GMSD, VSI
from vqmon.media.measures.measure import Measure, Picture

# the authors' GMSD.m
AUTHORS_GMSD = {"noise": 0.0221874, "blur": 0.0349323, "blocks": 0.0708295, "odd": 0.0233972}


@pytest.mark.parametrize(("name", "expected"), AUTHORS_GMSD.items())
def test_gmsd(name: str, expected: float) -> None:
    assert GMSD.compute(*pictures.pair(name)) == pytest.approx(expected, abs=1e-6)


# the authors' FeatureSIM.m: FSIM, FSIMc
@pytest.mark.parametrize(
    ("name", "fsim", "fsimc"),
    [
        ("noise", 0.7893381, 0.7859006),
        ("blur", 0.9246985, 0.9239314),
        ("blocks", 0.8986629, 0.8971000),
        ("odd", 0.8289407, 0.8261873),
    ],
)
def test_fsim(name: str, fsim: float, fsimc: float) -> None:
    assert FSIM.compute(*pictures.pair(name)) == pytest.approx(fsim, abs=1e-6)
    assert FSIMC.compute(*pictures.pair(name)) == pytest.approx(fsimc, abs=1e-6)


# the authors' VSI.m
@pytest.mark.parametrize(
    ("name", "expected"), [("noise", 0.9718789), ("blur", 0.9870261), ("blocks", 0.9885062), ("odd", 0.9797241)]
)
def test_vsi(name: str, expected: float) -> None:
    assert VSI.compute(*pictures.pair(name)) == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize("measure", [FSIM, FSIMC, VSI])
def test_flat_pictures_have_a_value(measure: Measure) -> None:
    """Nothing has weight there: identical pictures are still 1."""
    flat = Picture(np.full((72, 80, 3), 128, np.uint8))

    assert measure.compute(flat, flat) == pytest.approx(1)
