"""Pixel normalisation by hand, for pictures and clips."""

import pytest

torch = pytest.importorskip("torch")

from models.networks.backbones.pixels import normalise  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 3, 6, 4, 5)])
def test_each_channel_has_its_mean_and_deviation(shape: tuple[int, ...]) -> None:
    """255 becomes (1 - mean) / std of its channel, whatever follows the channel axis."""
    pixels = torch.full(shape, 255, dtype=torch.uint8)
    values = normalise(pixels, (0.1, 0.2, 0.3), (0.5, 0.25, 1.0), dtype=torch.float32)
    assert values.shape == shape
    for channel, expected in enumerate((1.8, 3.2, 0.7)):
        torch.testing.assert_close(values[:, channel], torch.full_like(values[:, channel], expected))


def test_half_precision_rounds_once() -> None:
    """The result is that of float32, cast at the end."""
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    full = normalise(pixels, mean, std, dtype=torch.float32)
    assert torch.equal(normalise(pixels, mean, std, dtype=torch.float16), full.half())
