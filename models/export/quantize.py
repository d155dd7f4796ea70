"""Quantizes the weights of a graph's matrix products to 8 or 4 bits, one at a time while the graph is saved.

`quantize_weights` uses com.microsoft.MatMulNBits: small in memory, no faster, as activations stay as they are.
`quantize_dynamically` makes integer products of weights and activations in 8 bits: fast on CPUs.
`quantize_statically` does so with ranges of the activations that were measured before (`models.quantize`).
"""

from collections.abc import Callable, Collection, Mapping
from functools import partial

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.export.graphs import add_initializer, drop_unused_initializers, lazy_tensor, static_shape, torch_dtype

BLOCK_SIZE = 32
"""Weights that share a scale and a zero point."""
_MAX_CODE = 64
"""Largest code of an 8-bit weight: 2 * 255 * 64 is below 2**15."""
KeepWeight = Callable[[str], bool]
"""True for the names of weights that are not quantized."""
ActivationRange = tuple[float, float]
"""Lowest and highest value that codes stand for."""
_MICROSOFT = "com.microsoft"


def quantize_weights(model: ir.Model, bits: int, *, keep: KeepWeight = lambda _: False) -> int:
    """Replace every product with a weight by MatMulNBits; returns the number of products replaced."""
    products = _weight_products(model, keep)
    for node, weight in products:
        rows, columns = static_shape(weight)
        packed = [add_initializer(model, initializer) for initializer in _packed_initializers(weight, bits)]
        attributes = {"K": rows, "N": columns, "bits": bits, "block_size": BLOCK_SIZE}
        _replace_node(model, node, ir.node("MatMulNBits", [node.inputs[0], *packed], attributes, domain=_MICROSOFT))
    if products:
        model.opset_imports[_MICROSOFT] = 1
    drop_unused_initializers(model, [str(weight.name) for _, weight in products])
    return len(products)


def quantize_dynamically(model: ir.Model, *, keep: KeepWeight = lambda _: False) -> int:
    """Replace every product with a weight by an integer product; returns the number of products replaced.

    Activations become uint8 and weights int8 with one scale per column: the other way round is many times slower on
    x86. Weight codes stay within +-64: processors without VNNI add two products in 16 bits and saturate.
    """
    products = _weight_products(model, keep)
    quantized: dict[ir.Value, tuple[ir.Value, ...]] = {}
    for node, weight in products:
        source = node.inputs[0]
        assert source is not None
        if source not in quantized:
            quantize_node = ir.node("DynamicQuantizeLinear", [source], num_outputs=3)
            _insert_before(model, node, quantize_node)
            quantized[source] = tuple(quantize_node.outputs)
        _replace_by_integer_product(model, node, weight, quantized[source])
    drop_unused_initializers(model, [str(weight.name) for _, weight in products])
    return len(products)


def quantize_statically(model: ir.Model, ranges: Mapping[str, ActivationRange], *, outputs: Collection[str]) -> None:
    """Replace the products of these outputs by products of 8-bit integers.

    `ranges` gives the range of each product's input by the input's name. Activations become uint8 and weights int8 in
    +-64 with one scale per column, as standard QuantizeLinear and DequantizeLinear, which runtimes fuse.
    """
    dequantized: dict[str, ir.Value] = {}
    replaced = []
    for node, weight in stored_products(model):
        source = node.inputs[0]
        if node.op_type != "MatMul" or node.outputs[0].name not in outputs:
            continue
        assert source is not None
        name = str(source.name)
        if name not in dequantized:
            dequantized[name] = _round_activations(model, node, source, ranges[name])
        codes, scale = _quantize_columns(torch.tensor(weight_values(weight)))
        packed = [
            add_initializer(model, ir.tensor(array, name=f"{node.outputs[0].name}.{field}"))
            for field, array in (
                ("codes", codes.numpy()),
                ("scale", scale.numpy()),
                ("zero", np.zeros_like(scale, np.int8)),
            )
        ]
        column = ir.node("DequantizeLinear", packed, {"axis": 1})
        _insert_before(model, node, column)
        node.replace_input_with(0, dequantized[name])
        node.replace_input_with(1, column.outputs[0])
        replaced.append(str(weight.name))
    drop_unused_initializers(model, replaced)


def stored_products(model: ir.Model) -> list[tuple[ir.Node, ir.Value]]:
    """The products of a graph that was read from a file, in order, each with its weight.

    That of a MatMul is (rows, columns); a Gemm takes it as it is or transposed (`transB`).
    """
    products = []
    for node in model.graph.all_nodes():
        weight = node.inputs[1] if node.op_type in ("MatMul", "Gemm") else None
        if weight is not None and weight.const_value is not None and len(weight.const_value.shape) == 2:
            products.append((node, weight))
    return products


def weight_values(weight: ir.Value) -> NDArray[np.float32]:
    """The values of a stored weight."""
    assert weight.const_value is not None
    return np.ascontiguousarray(weight.const_value.numpy(), dtype=np.float32)


def round_activations(values: NDArray[np.float32], bounds: ActivationRange) -> NDArray[np.float32]:
    """Activations as the integer product sees them: cut to the range, and rounded to its 256 steps."""
    scale, zero = _scale_and_zero(bounds)
    codes = np.clip(np.rint(values / scale) + float(zero), 0, 255)
    return (codes - np.float32(zero)) * scale


def round_weight(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """A weight (rows, columns) as the integer product sees it."""
    codes, scale = _quantize_columns(torch.tensor(values))
    return (codes.float() * scale).numpy()


def _scale_and_zero(bounds: ActivationRange) -> tuple[np.float32, np.uint8]:
    low, high = min(bounds[0], 0.0), max(bounds[1], 0.0)
    scale = np.float32(max((high - low) / 255, float(np.finfo(np.float16).tiny)))
    return scale, np.uint8(np.clip(np.rint(-low / scale), 0, 255))


def _round_activations(model: ir.Model, before: ir.Node, source: ir.Value, bounds: ActivationRange) -> ir.Value:
    scale, zero = _scale_and_zero(bounds)
    step = [
        add_initializer(model, ir.tensor(np.asarray(each), name=f"{source.name}.{field}"))
        for field, each in (("scale", scale), ("zero", zero))
    ]
    quantized = ir.node("QuantizeLinear", [source, *step])
    restored = ir.node("DequantizeLinear", [quantized.outputs[0], *step])
    for node in (quantized, restored):
        _insert_before(model, before, node)
    return restored.outputs[0]


def pack_blocks(weight: Tensor, bits: int) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.uint8]]:
    """A weight (K, N) as MatMulNBits takes it: codes (N, blocks, BLOCK_SIZE * bits / 8), scales (N, blocks), zero
    points.

    Per block: scale = (max - min) / (2**bits - 1) over a range that includes 0; the zero point is the code of 0.
    """
    columns = weight.float().T.contiguous()
    blocks = -(-columns.shape[1] // BLOCK_SIZE)
    padded = torch.nn.functional.pad(columns, (0, blocks * BLOCK_SIZE - columns.shape[1])).view(
        len(columns), blocks, BLOCK_SIZE
    )
    minimum, maximum = padded.amin(2).clamp(max=0), padded.amax(2).clamp(min=0)
    max_code = 2**bits - 1
    scale = ((maximum - minimum) / max_code).clamp(min=torch.finfo(torch.float16).tiny)
    zero = (-minimum / scale).round().clamp(0, max_code)
    codes = ((padded / scale[..., None]).round() + zero[..., None]).clamp(0, max_code).to(torch.uint8)
    zeros = zero.to(torch.uint8)
    if bits == 4:
        codes = codes[..., 0::2] | codes[..., 1::2] << 4
        zeros = torch.nn.functional.pad(zeros, (0, blocks % 2))
        zeros = zeros[:, 0::2] | zeros[:, 1::2] << 4
    return codes.numpy(), scale.numpy(), zeros.numpy()


def _weight_products(model: ir.Model, keep: KeepWeight) -> list[tuple[ir.Node, ir.Value]]:
    products = []
    for node in model.graph.all_nodes():
        weight = node.inputs[1] if node.op_type == "MatMul" else None
        is_weight = weight is not None and isinstance(weight.const_value, ir.LazyTensor)
        if weight is not None and is_weight and not keep(str(weight.name)):
            products.append((node, weight))
    return products


def _read_weight(weight: ir.Value) -> Tensor:
    tensor = weight.const_value
    assert isinstance(tensor, ir.LazyTensor)
    return tensor.raw().raw


def _packed_initializers(weight: ir.Value, bits: int) -> list[ir.LazyTensor]:
    rows, columns = static_shape(weight)
    blocks = -(-rows // BLOCK_SIZE)
    dtype = torch_dtype(weight)
    fields = (
        ("codes", torch.uint8, (columns, blocks, BLOCK_SIZE * bits // 8)),
        ("scales", dtype, (columns, blocks)),
        ("zeros", torch.uint8, (columns, -(-blocks * bits // 8))),
    )

    def compute(index: int, dtype_: torch.dtype) -> Tensor:
        return torch.from_numpy(pack_blocks(_read_weight(weight), bits)[index]).to(dtype_)

    return [
        lazy_tensor(partial(compute, index, dtype_), dtype=dtype_, shape=shape, name=f"{weight.name}.{name}")
        for index, (name, dtype_, shape) in enumerate(fields)
    ]


def _replace_by_integer_product(
    model: ir.Model, node: ir.Node, weight: ir.Value, quantized: tuple[ir.Value, ...]
) -> None:
    codes, activation_scale, zero_point = quantized
    name, shape = str(weight.name), static_shape(weight)

    def compute(index: int) -> Tensor:
        return _quantize_columns(_read_weight(weight).float())[index]

    fields = (("codes", torch.int8, shape), ("scale", torch.float32, shape[1:]))
    weight_codes, scale = (
        add_initializer(
            model, lazy_tensor(partial(compute, index), dtype=dtype, shape=field_shape, name=f"{name}.{field}")
        )
        for index, (field, dtype, field_shape) in enumerate(fields)
    )
    # ONNX Runtime fuses this order of nodes to MatMulIntegerToFloat.
    product = ir.node("MatMulInteger", [codes, weight_codes, zero_point])
    as_float = ir.node("Cast", [product.outputs[0]], {"to": int(ir.DataType.FLOAT)})
    factor = ir.node("Mul", [activation_scale, scale])
    result = ir.node("Mul", [as_float.outputs[0], factor.outputs[0]])
    for inner_node in (product, as_float, factor):
        _insert_before(model, node, inner_node)
    _replace_node(model, node, result)


def _quantize_columns(values: Tensor) -> tuple[Tensor, Tensor]:
    """(int8 codes (rows, columns) within +-64, scales (columns)) of a weight in float32."""
    scale = (values.abs().amax(0) / _MAX_CODE).clamp(min=torch.finfo(torch.float32).tiny)
    return (values / scale).round().clamp(-_MAX_CODE, _MAX_CODE).to(torch.int8), scale


def _insert_before(model: ir.Model, before: ir.Node, node: ir.Node) -> None:
    model.graph.insert_before(before, node)


def _replace_node(model: ir.Model, old: ir.Node, new: ir.Node) -> None:
    new.outputs[0].shape, new.outputs[0].type = old.outputs[0].shape, old.outputs[0].type
    new.outputs[0].name = f"{old.outputs[0].name}.small"
    model.graph.insert_before(old, new)
    old.outputs[0].replace_all_uses_with(new.outputs[0])
    model.graph.remove(old, safe=True)
