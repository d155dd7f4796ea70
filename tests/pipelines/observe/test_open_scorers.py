"""The scorers that the settings name, opened by tier."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from pipelines.observe.open_scorers import may_use_gpu, open_scorer_tiers
from tests.scoring.fake_gpus import FakeGpuRuntime
from tests.scoring.scorers.test_composites import CPU, SOURCE, write_composite
from tests.scoring.tiny_levels import means_of, write_levels
from tests.scoring.tiny_onnx import PLAIN, decoded, expected, pictures, tiny_spec, write_bundle
from vqmon.core.types import TileGrid, View
from vqmon.errors import ScorerError
from vqmon.scoring.manifests.composite_scorer import SourceSpec, load_composite_spec
from vqmon.scoring.manifests.frame_scorer import golden_frames
from vqmon.scoring.scorers.registry import open_scorers
from vqmon.settings.scoring import ScoringSettings
from vqmon.telemetry.metrics import Meters
from vqmon.testing import make_segment


async def test_a_composite_that_its_views_cannot_feed_is_refused_at_start(tmp_path: Path) -> None:
    """Its self-test passes, as that does not decode; the daemon refuses it before the first segment."""
    spec = load_composite_spec(write_composite(tmp_path))
    clips = SourceSpec(name="clips", input=SOURCE, order="NKCHW", pictures=2)
    write_composite(tmp_path, sources=(*spec.sources, clips))
    async with open_scorers(["joined"], [tmp_path], CPU) as (scorer,):
        assert scorer.id == "joined@1"
    settings = ScoringSettings(scorers=("joined",), folders=(tmp_path,), device="cpu")
    with pytest.raises(ScorerError, match="joined@1: the view of clips gives another number of pictures per row"):
        async with open_scorer_tiers(settings, meters=Meters()):
            pass


async def test_the_settings_open_all_tiers(tmp_path: Path) -> None:
    """With real graphs: all tiers share the encoder, and labels of the settings promote segments."""
    write_levels(tmp_path)
    scoring = ScoringSettings(
        scorers=("tiny-levels",), shadows=("tiny-levels.aesthetics",), heavy=("tiny-levels.video",),
        folders=(tmp_path,), device="cpu", heavy_device="cpu", heavy_labels=("arm=sr-v2",),
    )  # fmt: skip
    pixels = pictures(3)
    async with open_scorer_tiers(scoring, meters=Meters()) as tiers:
        assert tiers.heavy is not None
        scorers = (*tiers.scorers, *tiers.shadows, *tiers.heavy.scorers)
        names = [scorer.id for scorer in scorers]
        assert names == [f"tiny-levels.{task}@1" for task in ("quality", "aesthetics", "video")]
        scores = [await scorer.score(decoded(pixels)) for scorer in scorers]
        labelled = replace(make_segment(1), labels={"arm": "sr-v2"})
        assert "label" in tiers.heavy.planned_reasons(labelled)
    assert all(score.levels for score in scores)
    assert means_of(pixels).shape == (3,)
    async with open_scorer_tiers(
        ScoringSettings(scorers=("tiny-levels",), folders=(tmp_path,)), meters=Meters()
    ) as tiers:
        assert tiers.heavy is None


@pytest.mark.parametrize(("name", "place"), [("niqe", "scoring.measures"), ("xpsnr", "scoring.references")])
async def test_a_measure_that_is_named_as_a_scorer_is_told_where_to_name_it(name: str, place: str) -> None:
    """Measures are no scorers: their values have no common scale of 0..100."""
    with pytest.raises(ScorerError, match=f"unknown scorer '{name}'.*name it in {place}"):
        async with open_scorer_tiers(ScoringSettings(scorers=(name,)), meters=Meters()):
            pass


@pytest.mark.parametrize(
    ("settings", "on_cpu_build", "on_gpu_build"),
    [
        ({}, False, True),
        ({"device": "cpu"}, False, False),
        ({"device": "cpu", "heavy_device": "cuda"}, False, False),
        ({"device": "cpu", "heavy_device": "auto", "heavy": ("x",)}, False, True),
        ({"device": "openvino", "heavy_device": "tensorrt", "heavy": ("x",)}, True, True),
        ({"device": "cpu", "devices": ("0",)}, True, True),
    ],
)
def test_gpus_are_measured_where_a_tier_may_use_one(
    settings: dict[str, Any], on_cpu_build: bool, on_gpu_build: bool
) -> None:
    """Also with the device "auto" and no list; a tier without scorers uses none."""
    scoring = ScoringSettings(**settings)
    assert may_use_gpu(scoring) == on_cpu_build
    assert may_use_gpu(scoring, runtime=FakeGpuRuntime()) == on_gpu_build


@pytest.mark.parametrize(("lines", "distance", "canvas_lines"), [(720, 3.0, 720), ("native", 3.0, 0), (1080, 6.0, 540)])
async def test_scorers_of_display_views_are_opened_for_the_display_of_the_settings(
    tmp_path: Path, lines: int | str, distance: float, canvas_lines: int
) -> None:
    view = View(kind="display", width=16, height=8, short_side=1080, grids=(TileGrid(reduction=1, columns=1, rows=1),))
    spec = tiny_spec(PLAIN.to_bytes())
    golden = replace(spec.golden, output=tuple(expected(golden_frames(view, seed=5, frames=2)).tolist()))
    write_bundle(tmp_path, input=replace(spec.input, view=view), golden=golden)
    scoring = ScoringSettings(
        scorers=("tiny",), folders=(tmp_path,), device="cpu", display_lines=lines, display_distance_heights=distance
    )
    async with open_scorer_tiers(scoring, meters=Meters()) as tiers:
        assert tiers.scorers[0].views == (replace(view, short_side=canvas_lines),)


async def test_every_batch_is_counted_with_what_waits_behind_it(tmp_path: Path) -> None:
    """As histograms: how full batches are, and the queue of the device."""
    write_bundle(tmp_path)
    reader = InMemoryMetricReader()
    scoring = ScoringSettings(scorers=("tiny",), folders=(tmp_path,), device="cpu", threads=1)
    async with open_scorer_tiers(scoring, meters=Meters(reader)) as tiers:
        await tiers.scorers[0].score(decoded(pictures(3)))
    totals = {
        metric.name: sum(point.sum for point in metric.data.data_points)
        for resource in reader.get_metrics_data().resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name.startswith("vqmon.scorer.batch")
    }
    # a CPU takes one picture at a time: two others wait for the first, one for the second
    assert totals == {"vqmon.scorer.batch.fill": 3.0, "vqmon.scorer.batch.waiting": 3.0}
