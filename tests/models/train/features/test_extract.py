"""What is trained on is what is served: views and features of a picture against those of the decoder's frames."""

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from models.export.assembly.composite import view_of_input  # noqa: E402
from models.export.pair import TILES_VIEW  # noqa: E402
from models.train.checkpoint import read_frozen_networks  # noqa: E402
from models.train.features import extract  # noqa: E402
from models.train.features.extract import FeatureExtractor  # noqa: E402
from vqmon.core.types import View  # noqa: E402
from vqmon.media.decode.pool import DecoderPool  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]


SIZES = {"cockatoo.mp4": (1280, 720), "bikes.mp4": (640, 272), "nasa_13013.mp4": (480, 270)}


@pytest.fixture(params=SIZES)
async def seen(request: pytest.FixtureRequest, shared: Path) -> Any:
    """A real clip: its frames at their own size, all views of trained scorers, and its bytes."""
    media = (shared / "clips" / request.param).read_bytes()
    width, height = SIZES[request.param]
    native = View(kind="stretch", width=width, height=height)
    views = [
        native,
        *(view_of_input(source) for source in (extract.TILES_INPUT, extract.SALIENCY_INPUT, extract.FRAGMENTS_INPUT)),
    ]
    async with DecoderPool(1) as pool:
        decoded = await pool.decode(media, views=tuple(views))
    assert (decoded.media.width, decoded.media.height) == (width, height)
    return decoded.views, decoded.views[native], zlib.crc32(media)


async def test_features_of_a_picture_are_those_of_the_decoder(seen: Any) -> None:
    """Maps, statistics and saliency of the same frames by both paths, as a share of how much features differ at all."""
    views, frames, _ = seen
    parts = read_frozen_networks({})
    for extractor, most in ((extract.TRUNK_MAPS, 0.04), (extract.TILE_STATISTICS, 0.08), (extract.SALIENCY, 0.05)):
        looking = FeatureExtractor(extractor, parts)
        ours = looking(list(frames), seed=0).astype(np.float64)
        pixels = np.ascontiguousarray(views[view_of_input(extractor.input)].transpose(0, 3, 1, 2))
        assert looking.network is not None
        with torch.inference_mode():
            theirs = looking.network(torch.from_numpy(pixels)).numpy()
        assert np.abs(ours - theirs).mean() < most * theirs.std()


def test_the_tiles_are_those_of_lite() -> None:
    """So that beside lite@1 the decoder makes that view once."""
    assert view_of_input(extract.TILES_INPUT) == TILES_VIEW
