"""Learned reference measures beside those of the decoder: their values, or why there are none."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from pipelines.observe.learned_references import with_learned_values
from tests.media.clips import clip, x264
from tests.scoring.tiny_measure import write_measure_bundle
from tests.scoring.tiny_onnx import decoded, pictures
from vqmon.cli.main import main
from vqmon.core.scores import PicturePairs, ReferenceComparison, ReferencePairing, ReferenceScore
from vqmon.core.types import DecodedSegment, ScorerIdentity
from vqmon.errors import ScoreError

PAIRING = ReferencePairing(offset_seconds=0.0, confidence=1.0, paired_frames=2, canvas="c")
SSIM = ReferenceScore(measure="ssim", value=0.9, frame_values=(0.9, 0.9), unit="", higher_is_better=True)
PAIRS = PicturePairs(
    samples=(0, 1), reference=np.zeros((2, 16, 16, 3), np.uint8), segment=np.ones((2, 16, 16, 3), np.uint8)
)


class Distance:
    """A measure that gives 0.5, or fails."""

    def __init__(self, name: str, *, short_side: int = 0, error: str = "") -> None:
        self.name, self.short_side, self._error = name, short_side, error

    @property
    def identity(self) -> ScorerIdentity:
        raise AssertionError("the values of a measure do not need its identity")

    async def compare(self, pairs: PicturePairs, *, sample_count: int) -> ReferenceScore:
        if self._error:
            raise ScoreError(self._error)
        return replace(SSIM, measure=self.name, value=0.5, frame_values=(0.5,) * sample_count)


def segment(scores: Sequence[ReferenceScore] = (SSIM,)) -> DecodedSegment:
    comparison = ReferenceComparison(scores=tuple(scores), pairing=PAIRING, pictures={0: PAIRS})
    return replace(decoded(pictures(2)), reference=comparison)


async def values(decoded_segment: DecodedSegment, *measures: Distance) -> ReferenceComparison:
    comparison = (await with_learned_values(decoded_segment, measures)).reference
    assert comparison is not None
    assert not comparison.pictures
    return comparison


async def test_a_measure_that_fails_is_left_out() -> None:
    """So is one whose pictures had no room; the others stand behind those of the decoder."""
    measures = (Distance("a"), Distance("b", error="scorer_failed"), Distance("c", short_side=256), Distance("d"))
    comparison = await values(segment(), *measures)
    assert [score.measure for score in comparison.scores] == ["ssim", "a", "d"]
    assert comparison.pairing == PAIRING


@pytest.mark.parametrize(("error", "reason"), [("timeout", "timeout"), ("scorer_failed", "failed")])
async def test_without_any_value_the_comparison_says_why(error: str, reason: str) -> None:
    comparison = await values(segment(scores=()), Distance("a", error=error))
    assert (comparison.unscored, comparison.scores) == (reason, ())


async def test_a_segment_without_pictures_stays_as_it_is() -> None:
    plain = decoded(pictures(2))
    assert await with_learned_values(plain, [Distance("a")]) is plain


def test_a_bundle_in_the_settings_is_measured_on_decoded_pictures(tmp_path: Path) -> None:
    """With a measure of the decoder and alone: 0 against itself, more against a poorer encode; with provenance."""
    write_measure_bundle(tmp_path)
    write_measure_bundle(tmp_path, name="tiny-small", short_side=32)
    source = clip(*x264("-crf", "10"), size="192x108", seconds=2)
    (tmp_path / "source.ts").write_bytes(source)
    (tmp_path / "poor.ts").write_bytes(clip(*x264("-crf", "45"), size="192x108", seconds=2))
    for names in ('"psnr", "tiny-distance", "tiny-small"', '"tiny-distance", "tiny-small"'):
        config = tmp_path / "vqmon.toml"
        config.write_text(
            f'[scoring]\nfolders = ["{tmp_path}"]\nreferences = [{names}]\nreference_canvas = "reference"\n'
        )
        arguments = ["source.ts", "poor.ts", "--reference", str(tmp_path / "source.ts")]
        files = [str(tmp_path / each) if each.endswith(".ts") and "/" not in each else each for each in arguments]
        run = CliRunner().invoke(main, ["--config", str(config), "score", "--json", *files])
        assert run.exit_code == 0, run.output
        same, poor = (json.loads(line)["data"] for line in run.stdout.splitlines())
        found = [{score["measure"]: score["value"] for score in event["references"]} for event in (same, poor)]
        assert list(found[0])[-2:] == ["tiny-distance", "tiny-small"]
        for measure in ("tiny-distance", "tiny-small"):
            assert found[0][measure] == 0
            assert 0.003 < found[1][measure] < 0.2
        assert {"tiny-distance@1", "tiny-small@1"} <= {each["scorer"] for each in poor["provenance"]["scorers"]}
