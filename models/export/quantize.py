"""Weights of a graph's matrix products in 8 or 4 bits, made one at a time while the graph is written.

`nbits`: com.microsoft.MatMulNBits, small in memory and no faster (activations stay as they are). `dynamic`: products
in whole numbers, activations rounded to 8 bits on the way; fast on CPUs.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.export.graphs import add_weight, drop_unused, lazy, sides, torch_type

BLOCK = 32
"""Weights that share one scale and one zero point."""
LARGEST = 64
"""Of a weight of 8 bits: 2 * 255 * 64 is still below 2**15."""
Keep = Callable[[str], bool]
"""Whether a weight, by its name, stays as it is."""
_MICROSOFT = "com.microsoft"


def to_nbits(model: ir.Model, bits: int, *, keep: Keep = lambda _: False) -> int:
    """Turn every product with a weight into a MatMulNBits; gives how many were turned."""
    products = _products(model, keep)
    for node, weight in products:
        rows, columns = sides(weight)
        parts = [add_weight(model, part) for part in _packed(weight, bits)]
        facts = {"K": rows, "N": columns, "bits": bits, "block_size": BLOCK}
        _replace(model, node, ir.node("MatMulNBits", [node.inputs[0], *parts], facts, domain=_MICROSOFT))
    if products:
        model.opset_imports[_MICROSOFT] = 1
    drop_unused(model, [str(weight.name) for _, weight in products])
    return len(products)


def to_dynamic(model: ir.Model, *, keep: Keep = lambda _: False) -> int:
    """Turn every product with a weight into one of whole numbers; gives how many were turned.

    Activations become uint8 and weights int8 with a scale per column: the other way round is many times slower on x86.
    Weights keep to +-64: processors without VNNI add two products in 16 bits, and cut what does not fit.
    """
    products = _products(model, keep)
    rounded: dict[ir.Value, tuple[ir.Value, ...]] = {}
    for node, weight in products:
        source = node.inputs[0]
        assert source is not None
        if source not in rounded:
            step = ir.node("DynamicQuantizeLinear", [source], num_outputs=3)
            _place(model, node, step)
            rounded[source] = tuple(step.outputs)
        _replace_by_whole_numbers(model, node, weight, rounded[source])
    drop_unused(model, [str(weight.name) for _, weight in products])
    return len(products)


def pack_blocks(weight: Tensor, bits: int) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.uint8]]:
    """A weight (K, N) as MatMulNBits wants it: packed (N, blocks, BLOCK * bits / 8), scales (N, blocks), zeros.

    Per block: scale = (max - min) / (2**bits - 1) with 0 always within, zero point = where 0 lies.
    """
    columns = weight.float().T.contiguous()
    blocks = -(-columns.shape[1] // BLOCK)
    padded = torch.nn.functional.pad(columns, (0, blocks * BLOCK - columns.shape[1])).view(len(columns), blocks, BLOCK)
    low, high = padded.amin(2).clamp(max=0), padded.amax(2).clamp(min=0)
    top = 2**bits - 1
    scale = ((high - low) / top).clamp(min=torch.finfo(torch.float16).tiny)
    zero = (-low / scale).round().clamp(0, top)
    codes = ((padded / scale[..., None]).round() + zero[..., None]).clamp(0, top).to(torch.uint8)
    zeros = zero.to(torch.uint8)
    if bits == 4:
        codes = codes[..., 0::2] | codes[..., 1::2] << 4
        zeros = torch.nn.functional.pad(zeros, (0, blocks % 2))
        zeros = zeros[:, 0::2] | zeros[:, 1::2] << 4
    return codes.numpy(), scale.numpy(), zeros.numpy()


def _products(model: ir.Model, keep: Keep) -> list[tuple[ir.Node, ir.Value]]:
    found = []
    for node in model.graph.all_nodes():
        weight = node.inputs[1] if node.op_type == "MatMul" else None
        is_weight = weight is not None and isinstance(weight.const_value, ir.LazyTensor)
        if weight is not None and is_weight and not keep(str(weight.name)):
            found.append((node, weight))
    return found


def _read(weight: ir.Value) -> Tensor:
    tensor = weight.const_value
    assert isinstance(tensor, ir.LazyTensor)
    return tensor.raw().raw


def _packed(weight: ir.Value, bits: int) -> list[ir.LazyTensor]:
    rows, columns = sides(weight)
    blocks = -(-rows // BLOCK)
    dtype = torch_type(weight)
    forms = (
        ("codes", torch.uint8, (columns, blocks, BLOCK * bits // 8)),
        ("scales", dtype, (columns, blocks)),
        ("zeros", torch.uint8, (columns, -(-blocks * bits // 8))),
    )

    def part(at: int, kind: torch.dtype) -> Tensor:
        return torch.from_numpy(pack_blocks(_read(weight), bits)[at]).to(kind)

    return [
        lazy(partial(part, at, kind), dtype=kind, shape=shape, name=f"{weight.name}.{name}")
        for at, (name, kind, shape) in enumerate(forms)
    ]


def _replace_by_whole_numbers(model: ir.Model, node: ir.Node, weight: ir.Value, rounded: tuple[ir.Value, ...]) -> None:
    codes, step, place = rounded
    name, shape = str(weight.name), sides(weight)
    whole = add_weight(model, lazy(lambda: _columns(weight)[0], dtype=torch.int8, shape=shape, name=f"{name}.codes"))
    scale = add_weight(
        model, lazy(lambda: _columns(weight)[1], dtype=torch.float32, shape=shape[1:], name=f"{name}.scale")
    )
    # The order in which ONNX Runtime knows MatMulIntegerToFloat.
    product = ir.node("MatMulInteger", [codes, whole, place])
    as_float = ir.node("Cast", [product.outputs[0]], {"to": int(ir.DataType.FLOAT)})
    factor = ir.node("Mul", [step, scale])
    last = ir.node("Mul", [as_float.outputs[0], factor.outputs[0]])
    for each in (product, as_float, factor):
        _place(model, node, each)
    _replace(model, node, last)


def _columns(weight: ir.Value) -> tuple[Tensor, Tensor]:
    values = _read(weight).float()
    scale = (values.abs().amax(0) / LARGEST).clamp(min=torch.finfo(torch.float32).tiny)
    return (values / scale).round().clamp(-LARGEST, LARGEST).to(torch.int8), scale


def _place(model: ir.Model, before: ir.Node, node: ir.Node) -> None:
    model.graph.insert_before(before, node)


def _replace(model: ir.Model, old: ir.Node, new: ir.Node) -> None:
    new.outputs[0].shape, new.outputs[0].type = old.outputs[0].shape, old.outputs[0].type
    new.outputs[0].name = f"{old.outputs[0].name}.small"
    model.graph.insert_before(old, new)
    old.outputs[0].replace_all_uses_with(new.outputs[0])
    model.graph.remove(old, safe=True)
