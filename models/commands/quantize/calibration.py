"""Measures what flows into the matrix products of a graph: ranges of activations, and what 8 bits cost each product."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime  # type: ignore[import-untyped]
from numpy.typing import NDArray

from models.commands.quantize.refit import Rows
from models.export.quantize import ActivationRange, round_activations, round_weight, stored_products, weight_values
from models.verify.owl_runner import session_options

Array = NDArray[np.generic]
_PERCENTILES = (100.0, 99.999, 99.99, 99.9)
"""Shares of the activations, in percent, that a range may hold; the rest is cut off."""
_VALUES_PER_RUN = 2**14
_ROWS_PER_RUN = 16
"""So many values and rows of an input are remembered of each run, at equal distances."""


@dataclass(slots=True, kw_only=True)
class _Input:
    """What is remembered of an input of products."""

    values: list[Rows] = field(default_factory=list)
    # (rows, width)
    rows: list[Rows] = field(default_factory=list)
    low: float = 0.0
    high: float = 0.0

    def add(self, array: Rows) -> None:
        flat, rows = array.ravel(), array.reshape(-1, array.shape[-1])
        self.values.append(flat[:: max(1, len(flat) // _VALUES_PER_RUN)])
        self.rows.append(rows[:: max(1, len(rows) // _ROWS_PER_RUN)])
        self.low, self.high = min(self.low, float(flat.min())), max(self.high, float(flat.max()))


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductError:
    """What 8 bits cost one product: the norm of its output's error as a share of the norm of its output."""

    output: str
    error: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphCalibration:
    """Ranges by the names of the inputs of a graph's products, and the cost of every product."""

    ranges: Mapping[str, ActivationRange]
    errors: tuple[ProductError, ...]


class ProductProbe:
    """A graph whose inputs of MatMul are remembered in part, run by run."""

    def __init__(self, file: Path, *, output: str, threads: int) -> None:
        """`output` is the graph's own."""
        self._products = [each for each in stored_products(ir.load(file)) if each[0].op_type == "MatMul"]
        inputs = dict.fromkeys(_source_of(node) for node, _ in self._products)
        self._seen = {name: _Input() for name in inputs}
        self._probe = ValueProbe(file, output=output, watched=tuple(inputs), threads=threads)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the products' outputs."""
        return tuple(str(node.outputs[0].name) for node, _ in self._products)

    def run(self, feeds: Mapping[str, Array]) -> Array:
        """The graph's own output."""
        output, *inputs = self._probe.run(feeds)
        for seen, array in zip(self._seen.values(), inputs, strict=True):
            seen.add(array)
        return output

    def calibrate(self) -> GraphCalibration:
        """For each input the range of `_PERCENTILES` with which its products differ least from those in float32."""
        ranges: dict[str, ActivationRange] = {}
        errors: dict[str, float] = {}
        for name, seen in self._seen.items():
            products = [(node, weight) for node, weight in self._products if _source_of(node) == name]
            rows = np.concatenate(seen.rows)
            candidates = []
            for bounds in _candidate_ranges(seen):
                rounded = round_activations(rows, bounds)
                costs = {
                    str(node.outputs[0].name): _cost(rows, rounded, weight_values(weight)) for node, weight in products
                }
                candidates.append((sum(costs.values()), bounds, costs))
            _, ranges[name], costs = min(candidates, key=lambda candidate: candidate[0])
            errors |= costs
        ordered = tuple(
            ProductError(output=str(node.outputs[0].name), error=errors[str(node.outputs[0].name)])
            for node, _ in self._products
        )
        return GraphCalibration(ranges=ranges, errors=ordered)


class ValueProbe:
    """A graph that also gives some of its inner values."""

    def __init__(self, file: Path, *, output: str, watched: Sequence[str], threads: int) -> None:
        """`output` is the graph's own."""
        model = ir.load(file)
        values = {
            str(value.name): value
            for node in model.graph.all_nodes()
            for value in (*node.inputs, *node.outputs)
            if value
        }
        outer = {*map(str, (value.name for value in (*model.graph.inputs, *model.graph.outputs)))}
        self._inner = [name for name in watched if name not in outer]
        model.graph.outputs.extend(values[name] for name in self._inner)
        self._watched, self._output = tuple(watched), output
        self._session = onnxruntime.InferenceSession(
            ir.to_proto(model).SerializeToString(), session_options(threads), providers=["CPUExecutionProvider"]
        )

    def run(self, feeds: Mapping[str, Array]) -> list[Array]:
        """The graph's own output, and the watched values in their order."""
        names = dict.fromkeys((self._output, *self._inner))
        given = dict(feeds) | dict(zip(names, self._session.run(list(names), dict(feeds)), strict=True))
        return [given[name] for name in (self._output, *self._watched)]


def _source_of(node: ir.Node) -> str:
    assert node.inputs[0] is not None
    return str(node.inputs[0].name)


def _candidate_ranges(seen: _Input) -> Sequence[ActivationRange]:
    values = np.concatenate(seen.values)
    cut = [
        (float(np.percentile(values, 100 - percentile)), float(np.percentile(values, percentile)))
        for percentile in _PERCENTILES[1:]
    ]
    return [(seen.low, seen.high), *cut]


def _cost(rows: Rows, rounded: Rows, weight: Rows) -> float:
    exact = rows @ weight
    return float(np.linalg.norm(rounded @ round_weight(weight) - exact) / max(float(np.linalg.norm(exact)), 1e-12))
