"""8-bit products of measured ranges, and the refit of the last one."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import onnx  # noqa: E402
import onnx_ir as ir  # noqa: E402
import onnxruntime  # noqa: E402

from models.commands.quantize import calibration  # noqa: E402
from models.commands.quantize.refit import refit_product  # noqa: E402
from models.export import quantize  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]


def write_products(file: Path) -> dict[str, Any]:
    """A graph of two products, x @ a and its rectified output @ b; returns the weights."""
    random = np.random.default_rng(0)
    weights = {name: random.normal(size=shape).astype(np.float32) for name, shape in (("a", (24, 16)), ("b", (16, 5)))}
    nodes = [
        onnx.helper.make_node("MatMul", ["x", "a"], ["h"]),
        onnx.helper.make_node("Relu", ["h"], ["r"]),
        onnx.helper.make_node("MatMul", ["r", "b"], ["y"]),
    ]
    ports = [
        onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ["rows", w]) for n, w in (("x", 24), ("y", 5))
    ]
    stored = [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = onnx.helper.make_graph(nodes, "products", ports[:1], ports[1:], stored)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)], ir_version=10), str(file))
    return weights


def test_static_products_are_those_of_rounded_numbers(tmp_path: Path) -> None:
    """With the ranges that were measured; a product that is not named stays in float32."""
    weights = write_products(tmp_path / "x.onnx")
    probe = calibration.ProductProbe(tmp_path / "x.onnx", output="y", threads=1)
    random = np.random.default_rng(1)
    rows = random.normal(size=(200, 24)).astype(np.float32)
    exact = probe.run({"x": rows})
    measured = probe.calibrate()
    assert [each.output for each in measured.errors] == ["h", "y"]
    assert all(0 < each.error < 0.05 for each in measured.errors)
    model = ir.load(tmp_path / "x.onnx")
    quantize.quantize_statically(model, measured.ranges, outputs={"h"})
    ir.save(model, tmp_path / "int8.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "int8.onnx"), providers=["CPUExecutionProvider"])
    hidden = quantize.round_activations(rows, measured.ranges["x"]) @ quantize.round_weight(weights["a"])
    expected = np.maximum(hidden, 0) @ weights["b"]
    (output,) = session.run(["y"], {"x": rows})
    assert np.abs(output - expected).max() < 1e-3 * np.abs(expected).max()
    assert 0 < np.abs(output - exact).max() < 0.1 * np.abs(exact).max()


def test_a_few_extreme_activations_are_cut_off(tmp_path: Path) -> None:
    """Where the range that holds them all would cost the others more."""
    write_products(tmp_path / "x.onnx")
    probe = calibration.ProductProbe(tmp_path / "x.onnx", output="y", threads=1)
    rows = np.random.default_rng(2).normal(size=(4000, 24)).astype(np.float32)
    rows[1, 3] = 3000.0
    probe.run({"x": rows})
    low, high = probe.calibrate().ranges["x"]
    assert -6 < low < 0 < high < 6


def test_the_last_product_is_refitted_to_rounded_inputs() -> None:
    """Nearer to what it gave on inputs that were not seen; a large ridge leaves it as it was."""
    random = np.random.default_rng(3)
    exact = random.normal(size=(400, 12)).astype(np.float32)
    mixing = np.eye(12, dtype=np.float32) + random.normal(0, 0.1, (12, 12)).astype(np.float32)
    before = random.normal(size=(12, 3)).astype(np.float32)
    rounded, targets = exact @ mixing, exact @ before
    after = refit_product(rounded[:300], targets[:300], before, ridge=1e-3)
    errors = [np.linalg.norm(rounded[300:] @ weight - targets[300:]) for weight in (after, before)]
    assert errors[0] < 0.05 * errors[1]
    assert np.abs(refit_product(rounded, targets, before, ridge=1e6) - before).max() < 1e-3
