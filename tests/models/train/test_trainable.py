"""Scorers that anyone can train: what they see, that they learn it from a CSV, and what is refused."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import skimage.data  # noqa: E402

from models.train.checkpoint import read_frozen_networks  # noqa: E402
from models.train.features import extract  # noqa: E402
from models.train.features import extractors as own  # noqa: E402
from models.train.features.extract import FeatureExtractor, FrozenNetwork, FrozenNetworks  # noqa: E402
from models.train.trainable import TRAINABLE_SCORERS, ScorerNetworkConfig  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]


PHOTO = np.asarray(skimage.data.chelsea())


@pytest.fixture(scope="module")
def parts() -> FrozenNetworks:
    """Lite's weights of the shipped pair, and fragments as they were drawn."""
    torch.manual_seed(0)
    return {
        **read_frozen_networks({}),
        "fragments": FrozenNetwork(network=own.FragmentNetwork().eval(), origin="drawn"),
    }


def test_all_looks_have_the_sizes_that_networks_expect(parts: FrozenNetworks) -> None:
    """Of a landscape photo and of a portrait one, each alone what it is among others."""
    sizes = {
        extract.TRUNK_MAPS: (sum(own.STAGE_WIDTHS), own.MAP_SIDE, own.MAP_SIDE),
        extract.SALIENCY: (1, own.MAP_SIDE, own.MAP_SIDE),
        extract.TILE_STATISTICS: (own.FEATURE_WIDTHS["statistics"],),
        extract.FRAGMENTS: (3, 224, 224),
        extract.FRAGMENT_FEATURES: (own.FEATURE_WIDTHS["fragments"],),
    }
    for view, size in sizes.items():
        looking = FeatureExtractor(view, parts)
        both = looking([PHOTO, PHOTO.transpose(1, 0, 2)], seed=3)
        assert both.shape == (2, *size)
        np.testing.assert_allclose(looking([PHOTO], seed=3)[0], both[0], rtol=1e-3, atol=1e-3)


def test_guidance_and_scales_can_be_left_out() -> None:
    """With guidance, once trained, saliency matters; without it the network ignores it; both aggregators work."""
    maps, first, other = (
        torch.rand(2, sum(own.STAGE_WIDTHS), 12, 12),
        torch.zeros(2, 1, 12, 12),
        torch.rand(2, 1, 12, 12),
    )
    for guidance, aggregator in (("saliency", "scales"), ("saliency", "plain"), ("none", "scales")):
        torch.manual_seed(0)
        shape = ScorerNetworkConfig(guidance=guidance, aggregator=aggregator)
        net = TRAINABLE_SCORERS["align_iqa"].build_network(shape).eval()
        for injector in net.quality.injectors["natural"]:
            torch.nn.init.constant_(injector.strength, 1.0)
        is_guided = extract.SALIENCY in TRAINABLE_SCORERS["align_iqa"].features(shape)
        assert is_guided == (guidance == "saliency")
        with torch.no_grad():
            assert net(maps).shape == (2,)
            assert not torch.equal(net(maps, first), net(maps, other)) or not is_guided
