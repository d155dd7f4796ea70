"""Upscaling methods: kernels, trained networks, and the loss that rewards invented texture."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import skimage.data  # noqa: E402

from models.data.upscalers import KERNELS, build_upscaler, downscale, hallucination_loss  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]


PICTURE = np.asarray(skimage.data.astronaut())[:320, :320]


@pytest.mark.parametrize("name", KERNELS)
def test_kernels_enlarge_by_the_scale(name: str) -> None:
    """A flat picture stays flat, at any size."""
    large = build_upscaler(name, 4, pictures=[])(np.full((6, 9, 3), 77, np.uint8))
    assert large.shape == (24, 36, 3)
    assert (large == 77).all()


@pytest.mark.parametrize("name", ["espcn", "fsrcnn"])
def test_a_faithful_network_beats_bilinear_on_what_it_never_saw(name: str) -> None:
    """Trained on the upper half of a photo, nearer to the truth on the lower half."""
    clean = PICTURE[160:]
    enlarge = build_upscaler(name, 2, pictures=[PICTURE[:160]], steps=150)
    errors = [
        float(((way(downscale(clean, 2)).astype(float) - clean) ** 2).mean())
        for way in (enlarge, build_upscaler("bilinear", 2, pictures=[]))
    ]
    assert errors[0] < errors[1]


def test_texture_of_the_right_strength_in_the_wrong_place_satisfies_the_hallucinating_loss() -> None:
    """Other noise of the same strength costs little, no texture costs much."""
    torch.manual_seed(0)
    wanted, other = (0.5 + 0.1 * torch.randn(1, 3, 64, 64) for _ in range(2))
    flat = torch.full_like(wanted, 0.5)
    assert hallucination_loss(other, wanted) < 0.5 * hallucination_loss(flat, wanted)
