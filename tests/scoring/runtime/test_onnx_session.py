"""One model on one device: what it refuses to start with, and what it gives."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from tests.scoring.tiny_levels import encoder_bytes, write_levels
from tests.scoring.tiny_onnx import PLAIN, VIEW, Tiny, expected, pictures, tiny_engine, tiny_spec, write_bundle
from vqmon.core.types import View
from vqmon.errors import ScoreError, ScorerError
from vqmon.scoring.manifests.frame_scorer import Golden, GoldenInput, OutputSpec, golden_frames, load_frame_spec
from vqmon.scoring.manifests.level_scorer import load_level_spec
from vqmon.scoring.runtime.engines import FrameEngine, GraphEngine, open_frame_engine
from vqmon.scoring.runtime.graph import Device, Placement, to_score_error
from vqmon.scoring.runtime.model_file import read_graph_model
from vqmon.scoring.runtime.onnx_session import IoBinding, heavy_operators_off_provider
from vqmon.scoring.runtime.tensors import to_tensor


def start(tiny: Tiny = PLAIN, *, device: Device = "cpu", **changes: Any) -> FrameEngine:
    return tiny_engine(tiny, device=device, threads=2, **changes)


def test_opens_a_bundle_and_scores(tmp_path: Path) -> None:
    """A sound bundle loads, passes its self-test and gives the documented numbers."""
    manifest = write_bundle(tmp_path)
    placement = Placement(device="cpu", threads=3)
    session = open_frame_engine(load_frame_spec(manifest), manifest.with_suffix(".onnx"), placement)
    assert (session.device, session.fallback, session.workers, session.buckets) == ("cpu", "", 3, (1,))
    pixels = pictures(1)
    # float32 arithmetic on values of 100
    assert session.run(pixels) == pytest.approx(expected(pixels), abs=1e-4)


def test_the_same_picture_gives_the_same_bits() -> None:
    """Two runs, and two sessions, give equal numbers."""
    pixels = pictures(1)
    one, other = start(), start()
    assert one.run(pixels).tobytes() == one.run(pixels).tobytes() == other.run(pixels).tobytes()


@pytest.mark.parametrize("batch", [4, "batch"])
def test_a_fixed_batch_is_used_as_it_is(batch: int | str) -> None:
    """A model that takes batches of four only is run with four pictures, on a CPU too."""
    session = start(Tiny(batch=batch), batch_buckets=(4,))
    assert session.buckets == (4,)
    assert session.run(pictures(4)) == pytest.approx(expected(pictures(4)), abs=1e-4)


@pytest.mark.parametrize(
    ("tiny", "says"),
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
def test_refuses_a_model_that_is_not_what_the_manifest_says(tiny: Tiny, says: str) -> None:
    """Wrong names, shapes, results and broken graphs are refused at start, with the file's name."""
    with pytest.raises(ScorerError, match=says) as caught:
        start(tiny)
    assert str(caught.value).startswith("tiny@1.onnx: ")


def test_refuses_another_input_type() -> None:
    """A float model with a uint8 manifest is refused."""
    source = replace(tiny_spec(b"x").input, dtype="uint8")
    with pytest.raises(ScorerError, match="takes float32 and gives float32, the manifest says uint8"):
        start(input=source)


def test_refuses_a_golden_result_that_is_not_met() -> None:
    """The message says which picture, what came out, what was promised and what to do."""
    right = expected(golden_frames(VIEW, seed=5, frames=2))
    golden = Golden(
        input=GoldenInput(kind="pattern", seed=5, frames=2), output=(right[0], right[1] + 0.1), tolerance=0.05
    )
    with pytest.raises(ScorerError, match=r"golden frame 1 gave .* fetch or export the bundle again"):
        start(golden=golden)


def test_another_view_is_refused() -> None:
    """A manifest whose view is not the model's is refused."""
    source = replace(tiny_spec(b"x").input, view=View(kind="fit", width=8, height=16))
    with pytest.raises(ScorerError, match="the manifest says"):
        start(input=source)


def test_a_failing_run_becomes_a_score_error() -> None:
    """What the runtime raises is translated once, with the scorer and the device."""
    session = start()
    with pytest.raises(ScoreError) as caught:
        session.run(np.zeros((1, 9, 16, 3), dtype=np.uint8))
    assert caught.value.reason == "scorer_failed"
    assert caught.value.detail.startswith("tiny@1 on cpu: ")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("BFCArena::AllocateRawInternal Failed to allocate memory for requested buffer"), "out_of_memory"),
        (RuntimeError("CUDA failure 2: out of memory ; GPU=0"), "out_of_memory"),
        (MemoryError(), "out_of_memory"),
        (RuntimeError("CUDA failure 700: an illegal memory access was encountered"), "scorer_failed"),
        (ValueError("Got invalid dimensions for input: pixels"), "scorer_failed"),
    ],
)
def test_a_full_memory_is_told_from_other_failures(error: Exception, reason: str) -> None:
    """The words that the runtime uses for a full memory become out_of_memory, all others scorer_failed."""
    assert to_score_error(error, "tiny@1", "cuda").reason == reason


def test_cuda_that_is_not_there() -> None:
    """Asked for CUDA without one, `cuda` is an error with a remedy; `auto` takes the CPU."""
    session = start(device="auto")
    if session.device == "cuda":
        pytest.skip("this machine has CUDA")
    with pytest.raises(ScorerError, match="set device to"):
        start(device="cuda")


def test_falls_back_to_the_cpu_and_says_why() -> None:
    """The spare session runs on the CPU, gives the same numbers, and carries the reason."""
    session = start()
    spare = session.fall_back("the device was lost")
    assert (spare.device, spare.fallback) == ("cpu", "the device was lost")
    assert spare.run(pictures(1)).tobytes() == session.run(pictures(1)).tobytes()


def test_an_output_the_manifest_does_not_name_is_left_alone() -> None:
    """The head is looked up by name."""
    assert (
        start(Tiny(output_name="quality"), output=OutputSpec(name="quality", head="scalar")).run(pictures(1)).size == 1
    )


@pytest.mark.parametrize("device", ["cpu", "openvino"])
def test_every_runtime_keeps_the_same_contract(device: Device) -> None:
    """Numbers, names of ports, refusals and errors of a run are alike in both."""
    session = start(device=device)
    assert session.run(pictures(1)) == pytest.approx(expected(pictures(1)), abs=1e-4)
    assert session.device == device
    for tiny, says in (
        (Tiny(input_name="x"), "names the inputs"),
        (Tiny(height=9), "the manifest says"),
        (Tiny(gain=99.0), "golden frame 0 gave"),
        (Tiny(last_operator="Nothing"), "cannot be loaded"),
    ):
        with pytest.raises(ScorerError, match=says):
            start(tiny, device=device)
    with pytest.raises(ScoreError) as caught:
        session.run(np.zeros((1, 9, 16, 3), dtype=np.uint8))
    assert (caught.value.reason, caught.value.detail[: len(f"tiny@1 on {device}")]) == (
        "scorer_failed",
        f"tiny@1 on {device}",
    )


def test_openvino_that_fails_falls_back_too() -> None:
    """ONNX Runtime on the CPU takes over."""
    spare = start(device="openvino").fall_back("it was lost")
    assert (spare.device, spare.fallback) == ("cpu", "it was lost")


def test_bound_inputs_keep_their_place() -> None:
    """As on a GPU: one place per shape, filled anew for each run, the callers' arrays untouched."""
    model = PLAIN.to_bytes()
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    bound, plain = IoBinding(session, "cpu"), start()
    for seed in range(40):
        pixels = pictures(1 + seed % 20, seed=seed)
        tensor = to_tensor(pixels, plain.spec.input)
        before = tensor.copy()
        values = bound.run({"pixels": tensor}, "score", ort.RunOptions())
        assert values.ravel() == pytest.approx(expected(pixels), abs=1e-4)
        assert (tensor == before).all()


def test_a_spare_has_to_give_the_answers_of_the_lost_device(tmp_path: Path) -> None:
    """A graph of several that falls back is asked on the CPU what it was asked at load."""
    spec = load_level_spec(write_levels(tmp_path)).encoder
    unit = read_graph_model(spec, tmp_path)
    engine = GraphEngine(spec, unit, Placement(device="cpu"), shapes=((3, 8, 16),), buckets=(1, 2))
    rows = pictures(2).transpose(0, 3, 1, 2)
    answers = np.concatenate([engine.run(row[None]) for row in rows])
    engine.set_golden_output((rows,), answers)
    spare = engine.fall_back("lost")
    assert (spare.fallback, spare.run(rows[:1]).tobytes()) == ("lost", answers[:1].tobytes())
    engine.set_golden_output((rows,), answers * np.float32(1.5))
    with pytest.raises(ScorerError, match="the CPU's output differs by"):
        engine.fall_back("lost")


def test_heavy_nodes_that_are_not_on_the_device_are_found() -> None:
    """Products on the CPU would make a GPU wait; reshapes and means do not count."""
    options = ort.SessionOptions()
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    cpu = ["CPUExecutionProvider"]
    session = ort.InferenceSession(encoder_bytes(work=2, width=16), options, providers=cpu)
    assert heavy_operators_off_provider(session, "CPUExecutionProvider") == []
    assert heavy_operators_off_provider(session, "CUDAExecutionProvider") == ["MatMul"]
    plain = ort.InferenceSession(encoder_bytes(), options, providers=cpu)
    assert heavy_operators_off_provider(plain, "CUDAExecutionProvider") == []
