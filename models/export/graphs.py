"""Exports torch modules as ONNX graphs whose weights are read one at a time, so that they may be larger than memory."""

import hashlib
import inspect
import logging
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import onnx_ir as ir
import onnxscript
import torch
from onnx_ir.tensor_adapters import TorchTensor, from_torch_dtype
from onnxscript import optimizer
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from vqmon.scoring.manifests.level_scorer import GraphSpec

_OPSET = 23
"""The first opset with the operators Attention and RMSNormalization."""
MAX_EMBEDDED_BYTES = 2**31 - 2**26
"""A protobuf message holds less than 2 GiB; larger weights go into an external data file."""
FORBIDDEN_OPERATORS = ("NonZero", "If", "Loop", "Scan", "ScatterND")
_CHUNK = 2**24

Weights = Mapping[str, Tensor]
"""State dict name -> tensor; accessing one may read it from disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphSignature:
    """Inputs and output of a graph; `example` gives shapes and types only, with no size of 1 on a dynamic axis."""

    example: tuple[Tensor, ...]
    inputs: tuple[str, ...]
    output: str
    # per input: axis -> its name and its largest size
    dynamic_axes: tuple[Mapping[int, tuple[str, int]], ...]
    # name of an axis -> its least size where that is more than 1
    least_sizes: Mapping[str, int] = field(default_factory=dict)


def export_graph(module: nn.Module, signature: GraphSignature) -> ir.Model:
    """The graph of a module on the `meta` device, without weights; raises ValueError for a forbidden operator."""
    axis_sizes = dict(size for axes in signature.dynamic_axes for size in axes.values())
    dimensions = {
        name: torch.export.Dim(name, min=signature.least_sizes.get(name, 1), max=largest)
        for name, largest in axis_sizes.items()
    }
    shapes: tuple[object, ...] = tuple(
        {axis: dimensions[name] for axis, (name, _) in axes.items()} for axes in signature.dynamic_axes
    )
    if any(
        parameter.kind is parameter.VAR_POSITIONAL
        for parameter in inspect.signature(module.forward).parameters.values()
    ):
        shapes = (shapes,)
    with warnings.catch_warnings(), torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module.eval(), signature.example, dynamo=True, opset_version=_OPSET, dynamic_shapes=shapes, optimize=False,
            input_names=list(signature.inputs), output_names=[signature.output], verbose=False,
        )  # fmt: skip
    assert program is not None
    model = program.model
    _optimize(model)
    _drop_metadata(model)
    forbidden = sorted({node.op_type for node in model.graph.all_nodes()} & set(FORBIDDEN_OPERATORS))
    if forbidden:
        raise ValueError(f"the graph holds {', '.join(forbidden)}, which do not run at full speed on a GPU")
    return model


def fill_initializers(model: ir.Model, weights: Weights) -> None:
    """Give every initializer its tensor, read when the graph is saved; raises ValueError when one is missing."""
    for name, value in model.graph.initializers.items():
        if value.const_value is None:
            if name not in weights:
                raise ValueError(f"no weights for {name}")
            value.const_value = _lazy_weight(name, value, weights)
    for node in list(model.graph.all_nodes()):
        if node.op_type == "Transpose" and _is_weight(node.inputs[0]) and not node.outputs[0].is_graph_output():
            _fold_transpose(model, node)


def save_graph(model: ir.Model, target: Path, *, max_embedded_bytes: int = MAX_EMBEDDED_BYTES) -> None:
    """Write `target`, and `target`.data beside it when the weights are larger than `max_embedded_bytes`."""
    size = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value is not None)
    data = external_data_file(target)
    data.unlink(missing_ok=True)
    if size > max_embedded_bytes:
        ir.save(model, target, external_data=data.name, size_threshold_bytes=1024)
    else:
        ir.save(model, target)


def external_data_file(target: Path) -> Path:
    """The file of a graph's weights when they are not embedded in it."""
    return target.with_name(target.name + ".data")


def hash_graph(target: Path) -> tuple[str, int]:
    """sha256 and size in bytes of a graph followed by its external data file, if it has one."""
    digest, size = hashlib.sha256(), 0
    for path in (target, external_data_file(target)):
        if path.exists():
            with path.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    digest.update(chunk)
                    size += len(chunk)
    return digest.hexdigest(), size


def graph_spec(file: Path, *, inputs: tuple[str, ...], output: str) -> GraphSpec:
    """The manifest's entry for a saved graph."""
    digest, size = hash_graph(file)
    return GraphSpec(
        file=file.name, has_data=external_data_file(file).exists(), sha256=digest, size_bytes=size, inputs=inputs,
        output=output,
    )  # fmt: skip


def lazy_tensor(compute: Callable[[], Tensor], *, dtype: torch.dtype, shape: Sequence[int], name: str) -> ir.LazyTensor:
    """A tensor that is computed when the graph is saved, and not kept."""
    return ir.LazyTensor(
        lambda: TorchTensor(compute().contiguous(), name=name),
        dtype=from_torch_dtype(dtype), shape=ir.Shape(shape), name=name, cache=False,
    )  # fmt: skip


def static_shape(value: ir.Value) -> list[int]:
    """The shape of a value without dynamic axes."""
    assert value.shape is not None
    shape = value.shape.numpy()
    return [int(side) for side in shape]


def torch_dtype(value: ir.Value) -> torch.dtype:
    """The type of a value's elements."""
    assert value.dtype is not None
    return ir.tensor_adapters.to_torch_dtype(value.dtype)


def add_initializer(model: ir.Model, tensor: ir.TensorProtocol) -> ir.Value:
    """Register a tensor as an initializer of the graph."""
    value = ir.Value(name=tensor.name, shape=tensor.shape, type=ir.TensorType(tensor.dtype), const_value=tensor)
    model.graph.register_initializer(value)
    return value


def drop_unused_initializers(model: ir.Model, names: Iterable[str]) -> None:
    """Remove those of the named initializers that no node reads."""
    for name in names:
        value = model.graph.initializers.get(name)
        if value is not None and not value.uses() and not value.is_graph_output():
            del model.graph.initializers[name]


def _optimize(model: ir.Model) -> None:
    # Weights have no values yet. Without const_value the optimizer folds only what does not depend on them.
    for value in model.graph.initializers.values():
        if getattr(getattr(value.const_value, "raw", None), "is_meta", False):
            value.const_value = None
    logger = logging.getLogger("onnx_ir")
    level, logger.level = logger.level, logging.CRITICAL
    try:
        optimizer.optimize_ir(model)
        onnxscript.rewriter.onnx_fusions.fuse(model)
    finally:
        logger.level = level


def _drop_metadata(model: ir.Model) -> None:
    # The exporter records source files and lines of this machine.
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    model.doc_string = model.graph.doc_string = None
    values = [*model.graph.inputs, *model.graph.outputs, *model.graph.initializers.values()]
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None
        values.extend(node.outputs)
    for value in values:
        value.metadata_props.clear()
        value.doc_string = None


def _is_weight(value: ir.Value | None) -> bool:
    return value is not None and isinstance(value.const_value, ir.LazyTensor)


def _lazy_weight(name: str, value: ir.Value, weights: Weights) -> ir.LazyTensor:
    dtype = torch_dtype(value)
    return lazy_tensor(lambda: weights[name].to(dtype), dtype=dtype, shape=static_shape(value), name=name)


def _fold_transpose(model: ir.Model, node: ir.Node) -> None:
    """Write a transposed weight instead of letting every runtime that loads the graph transpose it."""
    source, transposed = node.inputs[0], node.outputs[0]
    assert source is not None
    tensor_before = source.const_value
    assert isinstance(tensor_before, ir.LazyTensor)
    order = list(node.attributes["perm"].as_ints())
    tensor = lazy_tensor(
        lambda: tensor_before.raw().raw.permute(order), dtype=ir.tensor_adapters.to_torch_dtype(tensor_before.dtype),
        shape=[static_shape(source)[axis] for axis in order], name=f"{source.name}.turned",
    )  # fmt: skip
    existing = model.graph.initializers.get(str(tensor.name))
    transposed.replace_all_uses_with(existing if existing is not None else add_initializer(model, tensor))
    model.graph.remove(node, safe=True)
    drop_unused_initializers(model, [str(source.name)])
