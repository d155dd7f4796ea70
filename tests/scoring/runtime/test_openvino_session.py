"""OpenVINO sessions satisfy the same contract as ONNX Runtime's."""

import numpy as np
import pytest

from tests.scoring.tiny_onnx import Tiny, expected, pictures, tiny_engine
from vqmon.errors import ScoreError, ScorerError
from vqmon.scoring.runtime.graph import Device


@pytest.mark.parametrize("device", ["cpu", "openvino"])
def test_both_runtimes_satisfy_the_same_contract(device: Device) -> None:
    """Values, refusals and errors of a run are alike."""
    session = tiny_engine(device=device, threads=2)
    assert session.run(pictures(1)) == pytest.approx(expected(pictures(1)), abs=1e-4)
    assert session.device == device
    for tiny, message in (
        (Tiny(input_name="x"), "names the inputs"),
        (Tiny(height=9), "the manifest says"),
        (Tiny(gain=99.0), "golden frame 0 gave"),
        (Tiny(last_operator="Nothing"), "cannot be loaded"),
    ):
        with pytest.raises(ScorerError, match=message):
            tiny_engine(tiny, device=device, threads=2)
    with pytest.raises(ScoreError) as caught:
        session.run(np.zeros((1, 9, 16, 3), dtype=np.uint8))
    assert (caught.value.reason, caught.value.detail[: len(f"tiny@1 on {device}")]) == (
        "scorer_failed",
        f"tiny@1 on {device}",
    )


def test_openvino_falls_back_to_onnx_runtime() -> None:
    """On the CPU, with the reason."""
    cpu_engine = tiny_engine(device="openvino").fall_back("it was lost")
    assert (cpu_engine.device, cpu_engine.fallback) == ("cpu", "it was lost")
