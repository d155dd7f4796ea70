"""ONNX Runtime sessions: execution providers, bound inputs, and the operators that a provider lacks."""

from pathlib import Path

import onnxruntime as ort
import pytest

from tests.scoring.tiny_levels import encoder_bytes
from tests.scoring.tiny_onnx import PLAIN, expected, pictures, tiny_engine
from vqmon.errors import ScorerError
from vqmon.scoring.runtime.graph import Device, InputShapes, Placement
from vqmon.scoring.runtime.onnx_session import (
    ONNX_RUNTIME,
    IoBinding,
    engine_folder,
    gpu_providers,
    heavy_operators_off_gpu,
)
from vqmon.scoring.runtime.tensors import to_tensor


@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_a_gpu_is_refused_with_a_remedy_where_the_runtime_has_no_provider(device: Device) -> None:
    """The package for CPUs says which one to install."""
    if ONNX_RUNTIME.has_gpu_provider():
        pytest.skip("this onnxruntime was built for CUDA")
    with pytest.raises(
        ScorerError, match=r"install vqmon\[gpu\], or set scoring\.device \(of heavy scorers scoring\.heavy_device\) to"
    ):
        tiny_engine(device=device, threads=2)


@pytest.mark.parametrize("cuda_graphs", [False, True])
def test_bound_inputs_are_copied_for_every_run(cuda_graphs: bool) -> None:
    """One buffer per shape is reused, and the callers' arrays are not modified."""
    model = PLAIN.to_bytes()
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    bound, plain = IoBinding(session, "cpu", cuda_graphs=cuda_graphs), tiny_engine(threads=2)
    earlier = []
    for seed in range(40):
        pixels = pictures(1 + seed % 20, seed=seed)
        tensor = to_tensor(pixels, plain.spec.input)
        before = tensor.copy()
        values = bound.run({"pixels": tensor}, "score", ort.RunOptions())
        assert values.ravel() == pytest.approx(expected(pixels), abs=1e-4)
        assert (tensor == before).all()
        earlier.append((values, expected(pixels)))
    # nor does a later run overwrite what an earlier one gave
    for values, wanted in earlier:
        assert values.ravel() == pytest.approx(wanted, abs=1e-4)


def test_heavy_operators_off_the_gpu_are_found() -> None:
    """Matrix products count; reshapes and means do not."""
    options = ort.SessionOptions()
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    cpu = ["CPUExecutionProvider"]
    session = ort.InferenceSession(encoder_bytes(work=2, width=16), options, providers=cpu)
    assert heavy_operators_off_gpu(session, cpu="another provider") == []
    assert heavy_operators_off_gpu(session) == ["MatMul"]
    plain = ort.InferenceSession(encoder_bytes(), options, providers=cpu)
    assert heavy_operators_off_gpu(plain) == []


SHAPES = (InputShapes(name="pixels", smallest=(1, 3, 8, 16), largest=(8, 3, 8, 16)),)


def test_cuda_gets_its_device_its_memory_limit_and_graphs_where_shapes_are_fixed() -> None:
    """A graph whose rows vary in length is run without."""
    placement = Placement(device="cuda", gpus=(0, 2), memory_bytes=1000, cuda_graphs=True)
    ((provider, options),) = gpu_providers("ab", "cuda:2", placement, SHAPES)
    assert provider == "CUDAExecutionProvider"
    assert options["device_id"] == "2"
    assert options["gpu_mem_limit"] == "1000"
    # float32 graphs are computed in float32: their self-tests allow less than TF32 rounds away
    assert options["use_tf32"] == "0"
    assert options["enable_cuda_graph"] == "1"
    varying = (InputShapes(name="rows", smallest=(1, None), largest=(8, None)),)
    ((_, options),) = gpu_providers("ab", "cuda", placement, varying)
    assert options["device_id"] == "0"
    assert "enable_cuda_graph" not in options


def test_tensorrt_gets_a_profile_its_precision_and_a_cache_and_cuda_what_it_lacks(tmp_path: Path) -> None:
    """One engine for all sizes of the batch; where rows vary, it has no profile."""
    placement = Placement(device="tensorrt", precision="bfloat16", engine_cache=tmp_path / "engines")
    (tensorrt, options), (cuda, cuda_options) = gpu_providers("ab" * 32, "tensorrt:1", placement, SHAPES)
    assert (tensorrt, cuda) == ("TensorrtExecutionProvider", "CUDAExecutionProvider")
    assert options["device_id"] == cuda_options["device_id"] == "1"
    assert options["trt_profile_min_shapes"] == "pixels:1x3x8x16"
    assert options["trt_profile_opt_shapes"] == options["trt_profile_max_shapes"] == "pixels:8x3x8x16"
    assert options["trt_bf16_enable"] == "1"
    assert "trt_fp16_enable" not in options
    folder = Path(options["trt_engine_cache_path"])
    assert folder.parent == tmp_path / "engines"
    assert folder.name.startswith("abababababababab-bfloat16-")
    assert folder.stat().st_mode & 0o777 == 0o700
    varying = (InputShapes(name="rows", smallest=(1, None), largest=(8, None)),)
    (_, options), _ = gpu_providers("ab", "tensorrt", Placement(device="tensorrt"), varying)
    assert not [name for name in options if "profile" in name or "cache" in name]


def test_engines_are_kept_apart_by_graph_precision_gpu_and_driver(tmp_path: Path) -> None:
    """An engine that was built for another GPU or driver is never loaded."""
    driver = tmp_path / "driver"
    (driver / "gpus/0000:01:00.0").mkdir(parents=True)
    (driver / "version").write_text("NVRM version: 580.1\n")
    (driver / "gpus/0000:01:00.0/information").write_text("Model: \t NVIDIA H200\nIRQ: 1\n")

    def folder(sha256: str = "a" * 64, precision: str = "float16") -> Path:
        return engine_folder(tmp_path / "cache", sha256, precision, nvidia_facts=driver)

    folders = {folder(), folder("b" * 64), folder(precision="float32")}
    (driver / "version").write_text("NVRM version: 590.2\n")
    folders.add(folder())
    (driver / "gpus/0000:01:00.0/information").write_text("Model: \t NVIDIA L4\nIRQ: 1\n")
    folders.add(folder())
    assert len(folders) == 5
    # interrupts are numbered anew at each boot
    (driver / "gpus/0000:01:00.0/information").write_text("Model: \t NVIDIA L4\nIRQ: 7\n")
    assert folder() in folders


def test_a_cache_that_others_may_write_is_refused(tmp_path: Path) -> None:
    """Engines are code."""
    tmp_path.chmod(0o777)
    with pytest.raises(ScorerError, match="engines are code; run chmod go-w"):
        engine_folder(tmp_path, "a" * 64, "float32")
