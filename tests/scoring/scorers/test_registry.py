"""Scorers by name, their licence, and the score of a segment."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.scoring.tiny_onnx import PLAIN, Tiny, decoded, expected, pictures, tiny_engine, tiny_spec, write_bundle
from vqmon.core.calibration import Calibration, IntervalTable, PercentileTable, ScoreInterval, ScoreNoise
from vqmon.errors import ScorerError
from vqmon.scoring.manifests.frame_scorer import Licence, ScorerSpec, save_frame_spec
from vqmon.scoring.runtime.batcher import Batcher
from vqmon.scoring.runtime.graph import Placement
from vqmon.scoring.scorers.registry import (
    FrameScorer,
    ScorerOptions,
    builtin_folder,
    open_scorers,
    pooled_score,
    resolve_manifests,
    runtime_versions,
    scorer_noise,
)

CPU = ScorerOptions(placement=Placement(device="cpu"))
BUNDLES = {name: Path(f"{name}.json") for name in ("lite@1", "lite@2", "lite@10", "q-align@1")}


def spec(**changes: Any) -> ScorerSpec:
    return tiny_spec(PLAIN.to_bytes(), **changes)


def test_a_name_alone_means_its_newest_version() -> None:
    """By number, not by text; the order is kept, and a scorer named twice is used once."""
    assert list(resolve_manifests(["q-align", "lite", "lite@2", "lite@10"], BUNDLES)) == [
        "q-align@1",
        "lite@10",
        "lite@2",
    ]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("light", "did you mean 'lite'"),
        ("lite@3", "did you mean 'lite@"),
        ("xyz", "unknown scorer 'xyz'; known: lite@1, lite@10, lite@2, q-align@1"),
    ],
)
def test_an_unknown_name_is_refused_with_the_closest_one(name: str, message: str) -> None:
    """The message lists all scorers."""
    with pytest.raises(ScorerError) as caught:
        resolve_manifests([name], BUNDLES)
    assert message in str(caught.value)
    assert "known: lite@1" in str(caught.value)


def test_an_unknown_name_without_any_scorers_is_refused() -> None:
    """The list of known scorers is `none`."""
    with pytest.raises(ScorerError, match="known: none"):
        resolve_manifests(["lite"], {})


async def test_a_score_has_calibrated_frame_values_and_pooled_values(tmp_path: Path) -> None:
    """Mean, fifth percentile, minimum and the native mean."""
    manifest = write_bundle(tmp_path)
    pixels = pictures(5)
    async with open_scorers(["tiny"], [manifest.parent], CPU) as (scorer,):
        score = await scorer.score(decoded(pixels))
        assert (scorer.id, scorer.views) == ("tiny@1", (spec().input.view,))
    native = expected(pixels)
    assert score.scorer == "tiny@1"
    assert score.frame_values == pytest.approx(native - 1, abs=1e-3)
    assert score.value == pytest.approx(native.mean() - 1, abs=1e-3)
    assert score.native_value == pytest.approx(native.mean(), abs=1e-3)
    assert score.p5 == pytest.approx(np.percentile(native, 5) - 1, abs=1e-3)
    assert score.min == pytest.approx(native.min() - 1, abs=1e-3)


async def test_additional_frames_count_as_much_as_the_sampled_ones(tmp_path: Path) -> None:
    """All pooled values are those of one look at all frames; the values of frames stay those of the sampled ones."""
    write_bundle(tmp_path)
    pixels = pictures(7)
    async with open_scorers(["tiny"], [tmp_path], CPU) as (scorer,):
        assert isinstance(scorer, FrameScorer)
        sampled, whole = await scorer.score(decoded(pixels[:3])), await scorer.score(decoded(pixels))
        score = await scorer.add_frames(sampled, decoded(pixels[3:]), weight=1.0)
        slight = await scorer.add_frames(sampled, decoded(pixels[3:]), weight=0.01)
    assert (score.frame_values, score.additional_frames) == (sampled.frame_values, 4)
    pooled = [(each.value, each.native_value, each.p5, each.min) for each in (score, whole)]
    assert pooled[0] == pytest.approx(pooled[1], abs=2e-4)
    added_mean = (7 * score.value - 3 * sampled.value) / 4
    assert slight.value == pytest.approx((3 * sampled.value + 0.04 * added_mean) / 3.04, abs=1e-3)
    assert slight.native_value == pytest.approx(slight.value + 1, abs=1e-3)


async def test_the_identity_has_hash_preprocessing_calibration_device_and_licence(tmp_path: Path) -> None:
    """As in the manifest."""
    write_bundle(tmp_path)
    async with open_scorers(["tiny@1"], [tmp_path], CPU) as (scorer,):
        identity = scorer.identity
    assert identity.scorer == "tiny@1"
    assert identity.sha256 == spec().sha256
    assert identity.preprocessing == spec().preprocessing_id
    assert identity.calibration_version == 3
    assert identity.device == "cpu"
    assert identity.licence == "Apache-2.0"


async def test_the_identity_says_that_the_device_fell_back() -> None:
    """So the event is flagged."""
    session = tiny_engine().fall_back("the device was lost")
    async with Batcher(session) as batcher:
        assert FrameScorer(spec(), batcher).identity.device == "cpu (fallback: the device was lost)"


async def test_other_segments_do_not_change_a_score(tmp_path: Path) -> None:
    """With sixty segments at the same time."""
    write_bundle(tmp_path)
    segments = [decoded(pictures(1 + seed % 7, seed=seed)) for seed in range(60)]
    async with open_scorers(["tiny"], [tmp_path], ScorerOptions(placement=Placement(device="cpu", threads=3))) as (
        scorer,
    ):
        alone = [await scorer.score(segment) for segment in segments]
        together = await asyncio.gather(*(scorer.score(segment) for segment in segments))
    assert alone == together


def test_a_scale_on_which_lower_is_better_is_reversed() -> None:
    """The worst frames are those with the highest native values."""
    falling = Calibration(version=1, points=((0, 100), (10, 0)))
    score = pooled_score(spec(higher_is_better=False, calibration=falling, pooling="min"), [1.0, 4.0, 2.0])
    assert score.frame_values == (90, 60, 80)
    assert (score.value, score.min, score.native_value) == (60, 60, 4)
    mean = pooled_score(spec(higher_is_better=False, calibration=falling), [1.0, 4.0, 1.0])
    assert (mean.value, mean.native_value) == (80, 2)


def test_a_score_has_percentile_and_interval_where_the_manifest_has_them() -> None:
    """The percentile is that of the pooled native value, the interval lies around the pooled score."""
    plain = pooled_score(spec(), [21.0, 61.0])
    assert (plain.percentile, plain.interval) == (None, None)
    table = PercentileTable(population="photos", points=((1.0, 0.0), (41.0, 80.0), (101.0, 100.0)))
    intervals = IntervalTable(coverage=0.9, population="photos", points=((50.0, 10.0, 5.0),))
    score = pooled_score(spec(percentiles=table, interval=intervals), [21.0, 61.0])
    assert (score.value, score.percentile) == (40, 80)
    assert score.interval == ScoreInterval(low=30, high=45, coverage=0.9)


def test_values_beyond_the_calibration_are_clamped() -> None:
    """The native value is not."""
    score = pooled_score(spec(), [-50.0, 900.0])
    assert score.frame_values == (0, 100)
    assert score.native_value == 425


async def test_weights_that_are_not_for_commercial_use_need_the_setting(tmp_path: Path) -> None:
    """Weights whose terms are not stated do not."""
    licence = Licence(name="CC-BY-NC-4.0", commercial=False, note="research only")
    write_bundle(tmp_path, licence=licence)
    with pytest.raises(ScorerError, match=r"CC-BY-NC-4\.0: research only.*allow_noncommercial = true"):
        async with open_scorers(["tiny"], [tmp_path], CPU):
            pass
    async with open_scorers(
        ["tiny"], [tmp_path], ScorerOptions(placement=Placement(device="cpu"), allow_noncommercial=True)
    ) as scorers:
        assert len(scorers) == 1
    write_bundle(tmp_path, licence=replace(licence, commercial=None))
    async with open_scorers(["tiny"], [tmp_path], CPU) as scorers:
        assert len(scorers) == 1


async def test_a_scorer_whose_file_is_swapped_scores_on_as_it_was_and_is_refused_at_the_next_start(
    tmp_path: Path,
) -> None:
    """The model is in memory as it was verified, and events name that one."""
    manifest = write_bundle(tmp_path)
    pixels = pictures(5)
    model = manifest.with_suffix(".onnx")
    async with open_scorers(["tiny"], [manifest.parent], CPU) as (scorer,):
        before, identity = await scorer.score(decoded(pixels)), scorer.identity
        other = tmp_path / "other.onnx"
        other.write_bytes(model.read_bytes()[:-1] + b"\0")
        other.replace(model)
        assert await scorer.score(decoded(pixels)) == before
        assert scorer.identity == identity
    with pytest.raises(ScorerError, match=r"tiny@1\.onnx: .*fetch it again"):
        async with open_scorers(["tiny"], [manifest.parent], CPU):
            pass


async def test_a_bundle_that_fails_its_self_test_stops_all_scorers(tmp_path: Path) -> None:
    """No scorer starts without the others."""
    write_bundle(tmp_path)
    write_bundle(tmp_path, Tiny(gain=99.0), name="wrong")
    with pytest.raises(ScorerError, match="wrong@1"):
        async with open_scorers(["tiny", "wrong"], [tmp_path], CPU):
            pass


def test_noise_is_read_from_manifests(tmp_path: Path) -> None:
    """Of the newest version of a name; scorers without any, and unknown ones, are left out."""
    spec = replace(tiny_spec(PLAIN.to_bytes()), noise=ScoreNoise(population="a clip", deviation=0.5))
    save_frame_spec(spec, tmp_path / "tiny@1.json")
    save_frame_spec(replace(spec, name="silent", noise=None), tmp_path / "silent@1.json")
    assert scorer_noise(["tiny", "silent", "tyni"], [tmp_path]) == {"tiny@1": 0.5}


def test_the_builtin_folder_exists() -> None:
    """In the checkout or in the wheel."""
    assert builtin_folder().is_dir()


def test_runtime_versions_name_the_libraries_that_compute() -> None:
    """They are part of the provenance of an event."""
    assert set(runtime_versions()) == {"numpy", "onnxruntime"}
    pytest.importorskip("openvino")
    assert set(runtime_versions(("cpu", "openvino"))) == {"numpy", "onnxruntime", "openvino"}
