"""Feature networks of trainable scorers: where maps come from, and what saliency is."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import skimage.data  # noqa: E402
from PIL import Image  # noqa: E402

from models.train.checkpoint import read_frozen_networks  # noqa: E402
from models.train.features import extract  # noqa: E402
from models.train.features import extractors as own  # noqa: E402
from models.train.features.extract import FrozenNetwork, FrozenNetworks  # noqa: E402

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


def test_maps_lie_where_their_tiles_do(parts: FrozenNetworks) -> None:
    """A tile changed in the second row, third column of the mosaic changes these cells and no others."""
    mosaic = torch.full((1, 3, 288, 512), 90, dtype=torch.uint8)
    changed = mosaic.clone()
    changed[..., 96:192, 256:384] = torch.randint(0, 255, (3, 96, 128), dtype=torch.uint8)
    net = extract.build_feature_network(extract.TRUNK_MAPS, parts)
    assert net is not None
    with torch.no_grad():
        apart = (net(mosaic) - net(changed)).abs().amax(1)[0]
    rows, columns = torch.nonzero(apart > 1e-3, as_tuple=True)
    assert (set(rows.tolist()), set(columns.tolist())) == ({4, 5, 6, 7}, {6, 7, 8})


def test_saliency_is_highest_where_something_stands_out() -> None:
    """A bright square on even noise, in the upper right; a picture of one colour stands out nowhere."""
    small = torch.randint(100, 110, (2, 3, 64, 64), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    small[0, :, 11:15, 47:52] = 255
    small[1] = 128
    saliency, flat = own.SpectralResidualSaliency()(small).numpy()
    row, column = np.unravel_index(saliency[0].argmax(), saliency[0].shape)
    assert (row, column) in {(r, c) for r in (1, 2, 3) for c in (8, 9, 10)}
    assert saliency.max() == 1
    assert flat.min() > 0.99


def test_the_products_of_matrices_are_the_fourier_transform() -> None:
    """Against numpy's, step by step as published, of a real picture."""
    small = np.asarray(Image.fromarray(PHOTO).resize((64, 64)))
    spectrum = np.fft.fft2(small @ np.array([0.299, 0.587, 0.114]))
    log = np.log1p(np.abs(spectrum))
    near = np.stack([np.roll(np.pad(log, 1, mode="edge"), (y, x), (0, 1)) for y in (-1, 0, 1) for x in (-1, 0, 1)])
    residual = np.log(np.abs(spectrum)) - near.mean(0)[1:-1, 1:-1]
    wanted = np.abs(np.fft.ifft2(np.exp(residual + 1j * np.angle(spectrum)))) ** 2
    for _ in range(3):
        padded = np.pad(wanted, 2, mode="edge")
        wanted = np.lib.stride_tricks.sliding_window_view(padded, (5, 5)).mean((2, 3))
    cells = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(wanted)[None], own.MAP_SIDE)[0].numpy()
    saliency = own.SpectralResidualSaliency()(torch.from_numpy(small.copy()).permute(2, 0, 1)[None])[0, 0].numpy()
    np.testing.assert_allclose(saliency, cells / cells.max(), rtol=1e-3, atol=1e-4)
