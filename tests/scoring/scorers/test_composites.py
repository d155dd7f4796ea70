"""Composite scorers: steps in order, shared graphs, the golden output, and the layout of clips and crops."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.scoring.tiny_levels import BIAS, SLOPE, means_of, write_levels
from tests.scoring.tiny_onnx import VIEW, decoded, pictures
from vqmon.core.calibration import Calibration, IntervalTable, PercentileTable
from vqmon.errors import ScoreError, ScorerError
from vqmon.scoring.manifests.composite_scorer import (
    CompositeGolden,
    CompositeSpec,
    SourceSpec,
    StepSpec,
    load_composite_spec,
    save_composite_spec,
)
from vqmon.scoring.manifests.frame_scorer import GoldenInput, InputSpec, Licence, golden_frames
from vqmon.scoring.manifests.level_scorer import GraphSpec, load_level_spec
from vqmon.scoring.runtime.graph import Placement
from vqmon.scoring.scorers.composites import source_tensor
from vqmon.scoring.scorers.registry import ScorerOptions, open_scorers

CPU = ScorerOptions(placement=Placement(device="cpu"))
SOURCE = InputSpec(name="pixels", view=VIEW, colour="rgb", layout="NCHW", dtype="uint8", mean=(0, 0, 0), std=(1, 1, 1))


def write_composite(folder: Path, *, whole: bool = False, rows: int | str = "rows", **changes: Any) -> Path:
    """A composite of the tiny encoder and a last graph that gives 2 * mean + 1 per row, or of the whole segment.

    With a number of `rows` the graph of the whole segment takes only so many frames.
    """
    encoder = load_level_spec(write_levels(folder)).encoder
    head = _head(folder, whole=whole, rows=rows)
    means = means_of(golden_frames(VIEW, seed=2, frames=3))
    spec = CompositeSpec(
        kind="composite",
        name="joined",
        version=1,
        description="twice the mean",
        sources=(SourceSpec(name="frames", input=SOURCE),),
        steps=(
            StepSpec(name="features", graph=encoder, takes=("frames",), each="row", buckets=(1, 2, 4)),
            StepSpec(name="head", graph=head, takes=("features",), each="segment" if whole else "row"),
        ),
        native_range=(1, 3),
        higher_is_better=True,
        calibration=Calibration(version=1, points=((1, 0), (3, 100))),
        pooling="mean",
        licence=Licence(name="Apache-2.0", commercial=True, note=""),
        provenance={},
        golden=CompositeGolden(
            input=GoldenInput(kind="pattern", seed=2, frames=3),
            output=tuple(2 * np.atleast_1d(means.mean() if whole else means) + 1),
            tolerance=1e-4,
        ),
    )
    path = folder / "joined@1.json"
    save_composite_spec(replace(spec, **changes), path)
    return path


def _head(folder: Path, *, whole: bool, rows: int | str) -> GraphSpec:
    from hashlib import sha256

    from tests.scoring.tiny_levels import _FLOAT, _model, _node, _reduce, _tensor

    shape, axes = (["n", rows, 1, 1], (1, 2, 3)) if whole else (["n", 1, 1], (1, 2))
    graph = _model(
        [_reduce("features", "mean", axes=axes), _node("Mul", ["mean", "two"], "twice", []),
         _node("Add", ["twice", "one"], "score", [])],
        [_tensor("two", np.array(2, np.float32)), _tensor("one", np.array(1, np.float32))],
        [("features", _FLOAT, shape)], ("score", _FLOAT, ["n"]),
    )  # fmt: skip
    (folder / "joined@1.head.onnx").write_bytes(graph)
    return GraphSpec(
        file="joined@1.head.onnx", has_data=False, sha256=sha256(graph).hexdigest(), size_bytes=len(graph),
        inputs=("features",), output="score",
    )  # fmt: skip


@pytest.mark.parametrize("whole", [False, True])
async def test_steps_run_in_order_and_the_last_one_gives_the_score(tmp_path: Path, whole: bool) -> None:
    """One value per frame, or one for the segment."""
    manifest = write_composite(tmp_path, whole=whole)
    assert load_composite_spec(manifest).id == "joined@1"
    pixels = pictures(3, seed=1)
    async with open_scorers(["joined"], [tmp_path], CPU) as (scorer,):
        score = await scorer.score(decoded(pixels))
        assert (scorer.views, scorer.identity.device) == ((VIEW,), "cpu")
    values = 100 * means_of(pixels)
    assert score.frame_values == pytest.approx([values.mean()] * 3 if whole else values, abs=1e-3)
    assert score.native_value == pytest.approx(2 * means_of(pixels).mean() + 1, abs=1e-5)


async def test_a_score_has_percentile_and_interval_where_the_manifest_has_them(tmp_path: Path) -> None:
    """Of the pooled native value and the pooled score."""
    table = PercentileTable(population="photos", points=((1.0, 0.0), (3.0, 100.0)))
    intervals = IntervalTable(coverage=0.9, population="photos", points=((50.0, 10.0, 5.0),))
    write_composite(tmp_path, percentiles=table, interval=intervals)
    async with open_scorers(["joined"], [tmp_path], CPU) as (scorer,):
        score = await scorer.score(decoded(pictures(3, seed=1)))
    assert score.percentile == pytest.approx(score.value, abs=0.01)
    assert score.interval == intervals.at(score.value)


async def test_a_graph_is_shared_with_a_scorer_of_another_kind(tmp_path: Path) -> None:
    """The encoder of a level scorer runs once per picture for both."""
    write_composite(tmp_path)
    runs: list[float] = []
    async with open_scorers(["tiny-levels", "joined"], [tmp_path], replace(CPU, on_run=runs.append)) as scorers:
        for scorer in scorers:
            await scorer.score(decoded(pictures(4, seed=1)))
    assert len(runs) == 4 + 4 + 4
    assert SLOPE.shape == BIAS[0].shape


async def test_a_golden_output_that_is_not_reproduced_is_refused(tmp_path: Path) -> None:
    """Before anything is scored."""
    golden = CompositeGolden(input=GoldenInput(kind="pattern", seed=2, frames=3), output=(1, 1, 1), tolerance=0.1)
    write_composite(tmp_path, golden=golden)
    with pytest.raises(ScorerError, match="joined@1: self-test: golden frames gave"):
        async with open_scorers(["joined"], [tmp_path], CPU):
            pass


def test_clips_and_crops_have_the_layout_of_the_manifest() -> None:
    """(channels, time, height, width) for a clip, (crops, channels, height, width) for crops."""
    pixels = np.arange(2 * 4 * 8 * 16 * 3, dtype=np.uint32).astype(np.uint8).reshape(2, 4, 8, 16, 3)
    clips = source_tensor(SourceSpec(name="clips", input=SOURCE, order="NCTHW", pictures=4), pixels)
    crops = source_tensor(SourceSpec(name="crops", input=SOURCE, order="NKCHW", pictures=4), pixels)
    assert clips.tobytes() == np.ascontiguousarray(pixels.transpose(0, 4, 1, 2, 3)).tobytes()
    assert crops.tobytes() == np.ascontiguousarray(pixels.transpose(0, 1, 4, 2, 3)).tobytes()
    with pytest.raises(ScoreError, match="rows of"):
        source_tensor(SourceSpec(name="clips", input=SOURCE, order="NCTHW", pictures=3), pixels)


async def test_a_step_per_picture_shares_the_graph_of_single_pictures(tmp_path: Path) -> None:
    """Two crops per frame go through the encoder like pictures of its own scorer; the head gets them as one row."""
    spec = load_composite_spec(write_composite(tmp_path, whole=True))
    crops = replace(VIEW, kind="windows", windows=2)
    source = SourceSpec(name="frames", input=replace(SOURCE, view=crops), order="NKCHW", pictures=2)
    encoder, head = spec.steps
    # the head takes (rows, pictures, 1, 1): a segment's rows are here a row's pictures
    steps = (replace(encoder, each="picture"), replace(head, each="row"))
    golden = golden_frames(VIEW, seed=2, frames=6).reshape(3, 2, VIEW.height, VIEW.width, 3)
    wanted = CompositeGolden(
        input=GoldenInput(kind="pattern", seed=2, frames=3),
        output=tuple(2 * means_of(golden.reshape(6, *golden.shape[2:])).reshape(3, 2).mean(1) + 1),
        tolerance=1e-4,
    )
    write_composite(tmp_path, whole=True, sources=(source,), steps=steps, golden=wanted)
    pixels = pictures(6, seed=1)
    runs: list[float] = []
    async with open_scorers(["joined", "tiny-levels"], [tmp_path], replace(CPU, on_run=runs.append)) as (
        joined,
        levels,
    ):
        score = await joined.score(decoded(pixels.reshape(3, 2, *pixels.shape[1:]), crops))
        assert len(runs) == 6 + 3
        await levels.score(decoded(pixels))
        assert len(runs) == 6 + 3 + 6
    assert score.frame_values == pytest.approx(100 * means_of(pixels).reshape(3, 2).mean(1), abs=1e-3)
