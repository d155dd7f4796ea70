"""Learned reference measures: opened with a self-test, asked for pairs of pictures."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.scoring.tiny_measure import expected_value, tiny_measure_spec, write_measure_bundle
from tests.scoring.tiny_onnx import write_bundle
from vqmon.core.scores import PicturePairs
from vqmon.errors import ScoreError, ScorerError
from vqmon.scoring.manifests.frame_scorer import Licence
from vqmon.scoring.runtime.graph import Placement
from vqmon.scoring.runtime.shared_graphs import SharedGraphs
from vqmon.scoring.scorers.reference_measures import open_reference_measures
from vqmon.scoring.scorers.registry import ScorerOptions, open_scorers

CPU = ScorerOptions(placement=Placement(device="cpu"))


def pairs(*, height: int = 20, width: int = 36) -> PicturePairs:
    pixels = np.random.default_rng(4).integers(0, 256, (2, 2, height, width, 3), dtype=np.uint8)
    return PicturePairs(samples=(0, 2), reference=pixels[:, 0], segment=pixels[:, 1])


async def test_values_stand_at_their_samples(tmp_path: Path) -> None:
    """A sampled frame without a pair has none; the value is the mean of the others, whatever the pictures' size."""
    write_measure_bundle(tmp_path)
    async with SharedGraphs() as graphs:
        (measure,) = open_reference_measures(["tiny-distance"], [tmp_path], CPU, shared_graphs=graphs)
        for each in (pairs(), pairs(height=33, width=17)):
            score = await measure.compare(each, sample_count=3)
            first, last = (expected_value(*pair) for pair in zip(each.reference, each.segment, strict=True))
            assert score.frame_values == (pytest.approx(first, abs=1e-6), None, pytest.approx(last, abs=1e-6))
            assert score.value == pytest.approx((first + last) / 2, abs=1e-6)
        with pytest.raises(ScoreError, match="needs 16 px, the pictures are 36x12"):
            await measure.compare(pairs(height=12), sample_count=3)
    assert (score.measure, score.higher_is_better) == ("tiny-distance", False)
    assert measure.identity.scorer == "tiny-distance@1"
    assert (measure.identity.preprocessing, measure.identity.device) == ("canvas", "cpu")


async def test_a_bundle_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    """Unknown, of a scorer, of another result than its manifest says, not for commercial use."""
    write_bundle(tmp_path)
    golden = tiny_measure_spec().golden
    write_measure_bundle(tmp_path)
    write_measure_bundle(tmp_path, version=2, golden=replace(golden, output=golden.output + 0.1))
    write_measure_bundle(tmp_path, version=3, licence=Licence(name="X", commercial=False, note="research"))
    refused = {
        "tiny-distanz": "did you mean 'tiny-distance'",
        "tiny": "tiny@1 scores without a reference: name it in scoring.scorers",
        "tiny-distance@2": "self-test: the golden pictures gave",
        "tiny-distance@3": "may not be used commercially",
    }
    for name, message in refused.items():
        async with SharedGraphs() as graphs:
            with pytest.raises(ScorerError, match=message):
                open_reference_measures([name], [tmp_path], CPU, shared_graphs=graphs)
    with pytest.raises(ScorerError, match=r"tiny-distance@1 needs a reference: name it in scoring\.references"):
        async with open_scorers(["tiny-distance@1"], [tmp_path], CPU):
            pass
