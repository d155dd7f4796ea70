"""Lite's own rules: what counts as lost detail, how tiles are pooled, and what its statistics ignore."""

import pytest

torch = pytest.importorskip("torch")

from models.networks.lite import (  # noqa: E402
    MEAN,
    STANDARDISED_LIMIT,
    STD,
    Lite,
    LiteConfig,
    NaturalSceneStatistics,
    diagonal_detail,
    mean_and_std,
)

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]


@pytest.fixture(scope="module")
def lite() -> Lite:
    torch.manual_seed(0)
    return Lite(LiteConfig(trunk="mobilenetv4_conv_small_050", hidden=8)).eval()


def normalised(tiles: torch.Tensor) -> torch.Tensor:
    """Values in 0..1 as the network's input."""
    return (tiles - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def noise(strength: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return (0.5 + strength * torch.randn(2, 1, 96, 128, generator=generator)).clamp(0, 1).expand(2, 3, 96, 128)


def test_blur_costs_and_noise_earns_nothing(lite: Lite) -> None:
    """Detail below the usual is subtracted; any amount above it is worth the same: nothing."""
    fine = noise(0.1)
    blurred = torch.nn.functional.avg_pool2d(fine, 7, stride=1, padding=3, count_include_pad=False)
    penalties = [float(lite.detail_penalty(normalised(tiles), 2)) for tiles in (fine, noise(0.2), blurred)]
    assert penalties[0] == penalties[1] == 0
    assert penalties[2] > 0.05


def test_axis_aligned_edges_are_no_detail() -> None:
    """Edges of coding blocks leave the diagonal detail at its floor; a checkerboard does not."""
    blocks = torch.zeros(1, 3, 96, 128)
    blocks[..., ::16, :] = 1
    stripes = blocks.transpose(2, 3)
    checkerboard = (torch.arange(96)[:, None] + torch.arange(128)).remainder(2).float().expand(1, 3, 96, 128)
    levels = [float(diagonal_detail(tiles, 1)[1]) for tiles in (blocks, stripes, checkerboard)]
    floor = float(torch.log(torch.tensor(0.1)))
    assert levels[:2] == pytest.approx([floor, floor], abs=1e-4)
    assert levels[2] > 5


def test_one_outlier_is_limited(lite: Lite) -> None:
    """The head's input stays within the limit for a picture that is nothing like the training photos."""
    tiles = torch.zeros(24, 3, 96, 128)
    tiles[::2, :, 48:] = 100
    features = lite.picture_features(tiles, 12)
    assert features.abs().max() <= STANDARDISED_LIMIT
    assert torch.isfinite(features).all()


def test_a_picture_does_not_depend_on_its_batch(lite: Lite) -> None:
    """Two pictures of two tiles each, together and alone."""
    tiles = normalised(torch.rand(4, 3, 96, 128, generator=torch.Generator().manual_seed(1)))
    with torch.no_grad():
        together = lite.score_tiles(tiles, 2)[0]
        alone = torch.cat([lite.score_tiles(tiles[:2], 2)[0], lite.score_tiles(tiles[2:], 2)[0]])
    torch.testing.assert_close(together, alone)


def test_mscn_ignores_a_change_of_brightness() -> None:
    """Mean-subtracted values are the same after adding a constant."""
    statistics = NaturalSceneStatistics()
    tiles = 0.2 + 0.3 * torch.rand(1, 3, 96, 128, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(statistics.luma_mscn(tiles), statistics.luma_mscn(tiles + 0.3), rtol=1e-2, atol=1e-3)
    assert statistics(tiles)[1].shape == (1, 1, 90, 122)


def test_mean_and_deviation_are_those_of_torch() -> None:
    """Concatenated along the last remaining axis."""
    values = torch.randn(3, 4, 50)
    expected = torch.cat([values.mean(2), values.std(2, correction=0)], 1)
    torch.testing.assert_close(mean_and_std(values, (2,)), expected, rtol=1e-4, atol=1e-4)
