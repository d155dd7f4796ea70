"""SI and TI as public implementations give them."""

import pytest

from tests.media.measures import pictures
from vqmon.media.measures.measure import Picture
from vqmon.media.measures.no_reference.spatial_temporal import SI, SI_PQ, TI, TI_PQ


# siti-tools 0.6, full range: SI and TI of the legacy mode, then of the PQ domain
@pytest.mark.parametrize(
    ("name", "si", "ti", "si_pq", "ti_pq"),
    [("noise", 32.694172, 4.825654, 13.541517, 2.408267), ("odd", 23.759906, 6.113169, 9.451897, 2.957846)],
)
def test_spatial_and_temporal_information(name: str, si: float, ti: float, si_pq: float, ti_pq: float) -> None:
    previous, picture = pictures.pair(name)

    assert SI.compute(None, picture) == pytest.approx(si, abs=1e-5)
    assert TI.compute(previous, picture) == pytest.approx(ti, abs=1e-5)
    assert SI_PQ.compute(None, picture) == pytest.approx(si_pq, abs=1e-5)
    assert TI_PQ.compute(previous, picture) == pytest.approx(ti_pq, abs=1e-5)


def test_temporal_information_needs_the_previous_picture() -> None:
    with pytest.raises(ValueError, match="give it the previous picture too"):
        TI.compute(None, Picture(pictures.scene()))
