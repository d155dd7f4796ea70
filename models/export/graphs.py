"""A torch module becomes an ONNX graph whose weights are read one at a time: it may be larger than memory."""

import hashlib
import inspect
import logging
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir
import onnxscript
import torch
from onnx_ir.tensor_adapters import TorchTensor, from_torch_dtype
from onnxscript import optimizer
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

OPSET = 23
"""The first with Attention and RMSNormalization as one node each."""
ONE_FILE_BYTES = 2**31 - 2**26
"""A protobuf message holds less than 2 GiB; weights beyond this lie in a file of their own."""
FORBIDDEN = ("NonZero", "If", "Loop", "Scan", "ScatterND")
_CHUNK = 2**24

Weights = Mapping[str, Tensor]
"""State-dict name -> tensor; reading one may mean reading it from a disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """What goes in and comes out; `example` are shapes and types only, with no size of 1 where a size may vary."""

    example: tuple[Tensor, ...]
    inputs: tuple[str, ...]
    output: str
    # per input: axis -> its name and largest size
    varying: tuple[Mapping[int, tuple[str, int]], ...]


def trace(module: nn.Module, signature: Signature) -> ir.Model:
    """The graph of a module on the `meta` device, without weights; raises ValueError when a node is forbidden."""
    named = dict(size for axes in signature.varying for size in axes.values())
    sizes = {name: torch.export.Dim(name, min=1, max=largest) for name, largest in named.items()}
    shapes: tuple[object, ...] = tuple(
        {axis: sizes[name] for axis, (name, _) in axes.items()} for axes in signature.varying
    )
    if any(each.kind is each.VAR_POSITIONAL for each in inspect.signature(module.forward).parameters.values()):
        shapes = (shapes,)
    with warnings.catch_warnings(), torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module.eval(), signature.example, dynamo=True, opset_version=OPSET, dynamic_shapes=shapes, optimize=False,
            input_names=list(signature.inputs), output_names=[signature.output], verbose=False,
        )  # fmt: skip
    assert program is not None
    model = program.model
    _simplify(model)
    _drop_notes(model)
    held = sorted({node.op_type for node in model.graph.all_nodes()} & set(FORBIDDEN))
    if held:
        raise ValueError(f"the graph holds {', '.join(held)}, which cannot run at full speed on a GPU")
    return model


def fill(model: ir.Model, weights: Weights) -> None:
    """Give every initializer its tensor, read when the model is written; raises ValueError when one is missing."""
    for name, value in model.graph.initializers.items():
        if value.const_value is None:
            if name not in weights:
                raise ValueError(f"no weights for {name}")
            value.const_value = _later(name, value, weights)
    for node in list(model.graph.all_nodes()):
        if node.op_type == "Transpose" and _is_weight(node.inputs[0]) and not node.outputs[0].is_graph_output():
            _transpose_now(model, node)


def write(model: ir.Model, target: Path, *, one_file_bytes: int = ONE_FILE_BYTES) -> None:
    """Write `target`, and `target`.data beside it when the weights are more than one file may hold."""
    size = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value is not None)
    data = data_file(target)
    data.unlink(missing_ok=True)
    if size > one_file_bytes:
        ir.save(model, target, external_data=data.name, size_threshold_bytes=1024)
    else:
        ir.save(model, target)


def data_file(target: Path) -> Path:
    """Where a graph's weights lie when they are not inside it."""
    return target.with_name(target.name + ".data")


def unit_hash(target: Path) -> tuple[str, int]:
    """sha256 and size in bytes of a graph followed by its data file, if it has one: both are one unit."""
    digest, size = hashlib.sha256(), 0
    for path in (target, data_file(target)):
        if path.exists():
            with path.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    digest.update(chunk)
                    size += len(chunk)
    return digest.hexdigest(), size


def lazy(function: Callable[[], Tensor], *, dtype: torch.dtype, shape: Sequence[int], name: str) -> ir.LazyTensor:
    """A tensor that is made when it is written, and let go after."""
    return ir.LazyTensor(
        lambda: TorchTensor(function().contiguous(), name=name),
        dtype=from_torch_dtype(dtype), shape=ir.Shape(shape), name=name, cache=False,
    )  # fmt: skip


def sides(value: ir.Value) -> list[int]:
    """The shape of a value that has no varying side."""
    assert value.shape is not None
    found = value.shape.numpy()
    return [int(side) for side in found]


def torch_type(value: ir.Value) -> torch.dtype:
    """The type of a value's elements."""
    assert value.dtype is not None
    return ir.tensor_adapters.to_torch_dtype(value.dtype)


def add_weight(model: ir.Model, tensor: ir.LazyTensor) -> ir.Value:
    """Make a tensor an initializer of the graph."""
    value = ir.Value(name=tensor.name, shape=tensor.shape, type=ir.TensorType(tensor.dtype), const_value=tensor)
    model.graph.register_initializer(value)
    return value


def drop_unused(model: ir.Model, names: Iterable[str]) -> None:
    """Forget initializers that no node reads any more."""
    for name in names:
        value = model.graph.initializers.get(name)
        if value is not None and not value.uses() and not value.is_graph_output():
            del model.graph.initializers[name]


def _simplify(model: ir.Model) -> None:
    # Weights have no values yet; taken away, they count as unknown, and only what does not depend on them is folded.
    for value in model.graph.initializers.values():
        if getattr(getattr(value.const_value, "raw", None), "is_meta", False):
            value.const_value = None
    chatter = logging.getLogger("onnx_ir")
    level, chatter.level = chatter.level, logging.CRITICAL
    try:
        optimizer.optimize_ir(model)
        onnxscript.rewriter.onnx_fusions.fuse(model)
    finally:
        chatter.level = level


def _drop_notes(model: ir.Model) -> None:
    # The exporter notes where in which file of this machine a node comes from.
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


def _later(name: str, value: ir.Value, weights: Weights) -> ir.LazyTensor:
    dtype = torch_type(value)
    return lazy(lambda: weights[name].to(dtype), dtype=dtype, shape=sides(value), name=name)


def _transpose_now(model: ir.Model, node: ir.Node) -> None:
    """A turned weight is written turned, rather than turned in memory by every runtime that loads it."""
    source, turned = node.inputs[0], node.outputs[0]
    assert source is not None
    before = source.const_value
    assert isinstance(before, ir.LazyTensor)
    order = list(node.attributes["perm"].as_ints())
    tensor = lazy(
        lambda: before.raw().raw.permute(order), dtype=ir.tensor_adapters.to_torch_dtype(before.dtype),
        shape=[sides(source)[at] for at in order], name=f"{source.name}.turned",
    )  # fmt: skip
    known = model.graph.initializers.get(str(tensor.name))
    turned.replace_all_uses_with(known if known is not None else add_weight(model, tensor))
    model.graph.remove(node, safe=True)
    drop_unused(model, [str(source.name)])
