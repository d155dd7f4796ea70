"""The built-in scorers: each loads as shipped, and other requests do not change its scores."""

import asyncio
from collections.abc import AsyncIterator

import numpy as np
import pytest

from tests.conftest import need
from tests.scoring.tiny_onnx import decoded
from vqmon.core.types import Pixels, View
from vqmon.scoring.manifests.frame_scorer import find_bundles, golden_frames, load_frame_spec
from vqmon.scoring.runtime.batcher import Batcher
from vqmon.scoring.runtime.devices import open_frame_engine
from vqmon.scoring.runtime.graph import Placement
from vqmon.scoring.scorers.registry import FrameScorer, ScorerOptions, builtin_folder, open_scorers


@pytest.fixture(params=["lite@1", "lite@2", "lite_fast@2", "lite_open@2"])
async def lite(request: pytest.FixtureRequest) -> AsyncIterator[FrameScorer]:
    bundles = find_bundles([builtin_folder()])
    need("lite", present=request.param in bundles, remedy="make the built-in scorers as models/README.md says")
    terms = ScorerOptions(placement=Placement(device="cpu"), allow_noncommercial=True)
    async with open_scorers([request.param], [builtin_folder()], terms) as (scorer,):
        yield scorer


def frames_of(view: View, count: int, *, seed: int) -> Pixels:
    return golden_frames(view, seed=seed, frames=count)


async def test_other_segments_do_not_change_a_score(lite: FrameScorer) -> None:
    """Alone, again, and among other segments."""
    segments = [decoded(frames_of(lite.views[0], 1 + seed % 3, seed=seed), lite.views[0]) for seed in range(6)]
    alone = [await lite.score(segment) for segment in segments]
    repeated = [await lite.score(segment) for segment in segments]
    together = await asyncio.gather(*(lite.score(segment) for segment in segments))
    assert alone == repeated == together
    assert all(0 <= value <= 100 for score in alone for value in score.frame_values)


async def test_batches_of_every_bucket_give_nearly_the_same_score(lite: FrameScorer) -> None:
    """As on a GPU: within 0.05 of 100."""
    bundle = find_bundles([builtin_folder()])[lite.id]
    session = open_frame_engine(
        load_frame_spec(bundle), bundle.with_suffix(".onnx"), Placement(device="cpu", threads=1)
    )
    frames = frames_of(lite.views[0], 7, seed=3)
    one_by_one = np.concatenate([session.run(frames[at : at + 1]) for at in range(7)])
    for bucket in (2, 4, 8):
        session.buckets = (bucket,)
        async with Batcher(session) as batcher:
            values = await batcher.infer(frames, deadline_seconds=60)
        calibrate = lite.spec.calibration.apply
        assert max(abs(calibrate(a) - calibrate(b)) for a, b in zip(values, one_by_one, strict=True)) < 0.05


async def test_a_picture_with_coarse_blocks_scores_lower(lite: FrameScorer) -> None:
    """A photo against the same photo at an eighth of its resolution."""
    skimage = pytest.importorskip("skimage.data")
    view = lite.views[0]
    astronaut = skimage.astronaut()
    photo = np.tile(astronaut, (-(-view.height // 512), 1, 1))[: view.height, : view.width]
    blocks = photo[4::8, 4::8].repeat(8, axis=0).repeat(8, axis=1)
    score = await lite.score(decoded(np.stack([photo, blocks]), lite.views[0]))
    assert score.frame_values[0] > score.frame_values[1]
