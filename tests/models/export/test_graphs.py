"""Exported graphs: forbidden operators, external weights, hashes, and metadata of the machine."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import onnxruntime  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from models.export import graphs  # noqa: E402
from models.export.graphs import GraphSignature  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]


class Product(nn.Module):
    """A product with a transposed weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.arange(24.0).view(6, 4) / 24)

    def forward(self, rows: Tensor) -> Tensor:
        return rows @ self.weight.T


class Indices(nn.Module):
    """Gives as many values as there are positive ones: its shape depends on data."""

    def forward(self, rows: Tensor) -> Tensor:
        return rows[rows > 0]


SIGNATURE = GraphSignature(
    example=(torch.empty(2, 4, device="meta"),), inputs=("rows",), output="products", dynamic_axes=({0: ("rows", 8)},)
)


def write(target: Path, **options: int) -> dict[str, Tensor]:
    network = Product()
    weights = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
    model = graphs.export_graph(network.to("meta"), SIGNATURE)
    graphs.fill_initializers(model, weights)
    graphs.save_graph(model, target, **options)
    return weights


@pytest.mark.parametrize("limit", [10, 2**20])
def test_a_graph_computes_what_the_module_does(tmp_path: Path, limit: int) -> None:
    """With embedded and with external weights, for any number of rows; the weight is written transposed."""
    target = tmp_path / "x.onnx"
    weights = write(target, max_embedded_bytes=limit)
    assert graphs.external_data_file(target).exists() == (limit == 10)
    session = onnxruntime.InferenceSession(str(target), providers=["CPUExecutionProvider"])
    for count in (1, 5):
        rows = np.random.default_rng(count).normal(size=(count, 4)).astype(np.float32)
        np.testing.assert_allclose(session.run(None, {"rows": rows})[0], rows @ weights["weight"].numpy().T, atol=1e-6)


def test_old_external_weights_are_removed(tmp_path: Path) -> None:
    """A graph that is written again with embedded weights leaves no data file behind."""
    target = tmp_path / "x.onnx"
    write(target, max_embedded_bytes=10)
    write(target, max_embedded_bytes=2**20)
    assert not graphs.external_data_file(target).exists()


def test_the_hash_covers_graph_and_weights(tmp_path: Path) -> None:
    """One changed byte in the data file changes the hash; the size is that of both files."""
    target = tmp_path / "x.onnx"
    target.write_bytes(b"graph")
    alone = graphs.hash_graph(target)
    graphs.external_data_file(target).write_bytes(b"weights")
    both = graphs.hash_graph(target)
    graphs.external_data_file(target).write_bytes(b"weightz")
    assert [size for _, size in (alone, both)] == [5, 12]
    assert len({alone[0], both[0], graphs.hash_graph(target)[0]}) == 3
    assert graphs.graph_spec(target, inputs=("rows",), output="products").has_data


def test_shapes_that_depend_on_data_are_refused() -> None:
    """The operators that they need do not run at full speed on a GPU."""
    signature = GraphSignature(
        example=(torch.empty(2, 4, device="meta"),), inputs=("rows",), output="values", dynamic_axes=({},)
    )
    with pytest.raises((ValueError, torch.onnx.errors.OnnxExporterError)):
        graphs.export_graph(Indices().to("meta"), signature)


def test_missing_weights_are_named() -> None:
    """Before anything is written."""
    model = graphs.export_graph(Product().to("meta"), SIGNATURE)
    with pytest.raises(ValueError, match="no weights for weight"):
        graphs.fill_initializers(model, {})
