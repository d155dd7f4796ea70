"""Engines: what a model must satisfy to be loaded, what a run gives, and the fallback to the CPU."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.scoring.tiny_levels import write_levels
from tests.scoring.tiny_onnx import PLAIN, VIEW, Tiny, expected, pictures, tiny_engine, tiny_spec, write_bundle
from vqmon.core.types import View
from vqmon.errors import ScoreError, ScorerError
from vqmon.scoring.manifests.frame_scorer import Golden, GoldenInput, OutputSpec, golden_frames, load_frame_spec
from vqmon.scoring.manifests.level_scorer import load_level_spec
from vqmon.scoring.runtime.devices import open_frame_engine
from vqmon.scoring.runtime.engines import FrameEngine, GraphEngine
from vqmon.scoring.runtime.graph import Device, Placement
from vqmon.scoring.runtime.verified_model import read_graph_model


def start(tiny: Tiny = PLAIN, *, device: Device = "cpu", **changes: Any) -> FrameEngine:
    return tiny_engine(tiny, device=device, threads=2, **changes)


def test_a_bundle_that_matches_its_manifest_is_opened_and_run(tmp_path: Path) -> None:
    """It has as many workers as threads, and runs give the documented values."""
    manifest = write_bundle(tmp_path)
    placement = Placement(device="cpu", threads=3)
    session = open_frame_engine(load_frame_spec(manifest), manifest.with_suffix(".onnx"), placement)
    assert (session.device, session.fallback, session.workers, session.buckets) == ("cpu", "", 3, (1,))
    pixels = pictures(1)
    # float32 arithmetic on values of 100
    assert session.run(pixels) == pytest.approx(expected(pixels), abs=1e-4)


def test_the_same_picture_gives_the_same_bits_in_every_session() -> None:
    """Also twice in one session."""
    pixels = pictures(1)
    first, second = start(), start()
    assert first.run(pixels).tobytes() == first.run(pixels).tobytes() == second.run(pixels).tobytes()


@pytest.mark.parametrize("batch", [4, "batch"])
def test_a_model_with_a_fixed_batch_size_is_run_with_that_size(batch: int | str) -> None:
    """Also on a CPU, where others run with the smallest bucket."""
    session = start(Tiny(batch=batch), batch_buckets=(4,))
    assert session.buckets == (4,)
    assert session.run(pictures(4)) == pytest.approx(expected(pictures(4)), abs=1e-4)


@pytest.mark.parametrize(
    ("tiny", "message"),
    [
        (Tiny(input_name="x"), r"names the inputs \['pixels'\], the model has \['x'\]"),
        (Tiny(output_name="y"), r"names the output 'score', the model has \['y'\]"),
        (Tiny(height=9), r"pixels is \[None, 3, 9, 16\], the manifest says \[None, 3, 8, 16\]"),
        (Tiny(batch=4), "takes batches of 4 only"),
        (Tiny(keeps_dims=True), "a scalar head gives"),
        (Tiny(reduced_axes=(2, 3)), "a scalar head gives"),
        (Tiny(gain=99.0), "self-test on cpu: golden frame 0 gave"),
        (Tiny(gain=-1000.0, last_operator="Log"), "golden frame 0 gave nan"),
        (Tiny(last_operator="Nothing"), "cannot be loaded"),
    ],
)
def test_a_model_that_contradicts_its_manifest_is_refused(tiny: Tiny, message: str) -> None:
    """Wrong names, shapes or values, and graphs that do not load; the message starts with the file."""
    with pytest.raises(ScorerError, match=message) as caught:
        start(tiny)
    assert str(caught.value).startswith("tiny@1.onnx: ")


def test_a_model_with_another_input_type_is_refused() -> None:
    """A float32 model with a manifest for uint8."""
    source = replace(tiny_spec(b"x").input, dtype="uint8")
    with pytest.raises(ScorerError, match="takes float32 and gives float32, the manifest says uint8"):
        start(input=source)


def test_a_golden_output_that_is_not_reproduced_is_refused() -> None:
    """The message names the frame, the value, the expected value and the remedy."""
    right = expected(golden_frames(VIEW, seed=5, frames=2))
    golden = Golden(
        input=GoldenInput(kind="pattern", seed=5, frames=2), output=(right[0], right[1] + 0.1), tolerance=0.05
    )
    with pytest.raises(ScorerError, match=r"golden frame 1 gave .* fetch or export the bundle again"):
        start(golden=golden)


def test_a_model_for_another_view_is_refused() -> None:
    """Its height and width differ from the manifest's."""
    source = replace(tiny_spec(b"x").input, view=View(kind="fit", width=8, height=16))
    with pytest.raises(ScorerError, match="the manifest says"):
        start(input=source)


def test_a_failed_run_is_a_score_error_with_scorer_and_device() -> None:
    """The runtime's own error types are not raised."""
    session = start()
    with pytest.raises(ScoreError) as caught:
        session.run(np.zeros((1, 9, 16, 3), dtype=np.uint8))
    assert caught.value.reason == "scorer_failed"
    assert caught.value.detail.startswith("tiny@1 on cpu: ")


def test_the_fallback_runs_on_the_cpu_and_has_the_reason() -> None:
    """It gives the same bits."""
    session = start()
    cpu_engine = session.fall_back("the device was lost")
    assert (cpu_engine.device, cpu_engine.fallback) == ("cpu", "the device was lost")
    assert cpu_engine.run(pictures(1)).tobytes() == session.run(pictures(1)).tobytes()


def test_the_output_is_found_by_its_name() -> None:
    """Any name that the manifest gives."""
    assert (
        start(Tiny(output_name="quality"), output=OutputSpec(name="quality", head="scalar")).run(pictures(1)).size == 1
    )


def test_a_fallback_must_reproduce_the_golden_output_of_the_lost_device(tmp_path: Path) -> None:
    """A graph of a composite has no golden output in the manifest, so that of its load counts."""
    spec = load_level_spec(write_levels(tmp_path)).encoder
    model = read_graph_model(spec, tmp_path)
    engine = GraphEngine(spec, model, Placement(device="cpu"), shapes=((3, 8, 16),), buckets=(1, 2))
    rows = pictures(2).transpose(0, 3, 1, 2)
    outputs = np.concatenate([engine.run(row[None]) for row in rows])
    engine.set_golden_output((rows,), outputs)
    cpu_engine = engine.fall_back("lost")
    assert (cpu_engine.fallback, cpu_engine.run(rows[:1]).tobytes()) == ("lost", outputs[:1].tobytes())
    engine.set_golden_output((rows,), outputs * np.float32(1.5))
    with pytest.raises(ScorerError, match="the CPU's output differs by"):
        engine.fall_back("lost")
