"""ONNX Runtime sessions: execution providers, bound inputs, and the operators that a provider lacks."""

import onnxruntime as ort
import pytest

from tests.scoring.tiny_levels import encoder_bytes
from tests.scoring.tiny_onnx import PLAIN, expected, pictures, tiny_engine
from vqmon.errors import ScorerError
from vqmon.scoring.runtime.onnx_session import IoBinding, heavy_operators_off_provider
from vqmon.scoring.runtime.tensors import to_tensor


def test_cuda_is_refused_with_a_remedy_where_it_is_not_available() -> None:
    """`auto` uses the CPU instead."""
    session = tiny_engine(device="auto", threads=2)
    if session.device == "cuda":
        pytest.skip("this machine has CUDA")
    with pytest.raises(ScorerError, match=r"set scoring\.device to"):
        tiny_engine(device="cuda", threads=2)


def test_bound_inputs_are_copied_for_every_run() -> None:
    """One buffer per shape is reused, and the callers' arrays are not modified."""
    model = PLAIN.to_bytes()
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    bound, plain = IoBinding(session, "cpu"), tiny_engine(threads=2)
    for seed in range(40):
        pixels = pictures(1 + seed % 20, seed=seed)
        tensor = to_tensor(pixels, plain.spec.input)
        before = tensor.copy()
        values = bound.run({"pixels": tensor}, "score", ort.RunOptions())
        assert values.ravel() == pytest.approx(expected(pixels), abs=1e-4)
        assert (tensor == before).all()


def test_heavy_operators_off_the_provider_are_found() -> None:
    """Matrix products count; reshapes and means do not."""
    options = ort.SessionOptions()
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    cpu = ["CPUExecutionProvider"]
    session = ort.InferenceSession(encoder_bytes(work=2, width=16), options, providers=cpu)
    assert heavy_operators_off_provider(session, "CPUExecutionProvider") == []
    assert heavy_operators_off_provider(session, "CUDAExecutionProvider") == ["MatMul"]
    plain = ort.InferenceSession(encoder_bytes(), options, providers=cpu)
    assert heavy_operators_off_provider(plain, "CUDAExecutionProvider") == []
