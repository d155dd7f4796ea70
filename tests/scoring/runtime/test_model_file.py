"""The .onnx file: refused unless it is what the manifest says and holds all there is."""

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.scoring.tiny_onnx import PLAIN, Tiny, tiny_spec
from vqmon.errors import ScorerError
from vqmon.scoring.runtime.model_file import inspect_graph, read_model_bytes


def _read(folder: Path, held: bytes, promised: bytes | None = None) -> bytes:
    path = folder / "tiny@1.onnx"
    path.write_bytes(held)
    return read_model_bytes(tiny_spec(promised or held), path)


def test_reads_what_is_right(tmp_path: Path) -> None:
    """A file that fits its manifest comes back byte for byte."""
    assert _read(tmp_path, PLAIN.to_bytes()) == PLAIN.to_bytes()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda model: model[:-1], "bytes, it has only"),
        (lambda model: model + b"\0", "it has more"),
        (lambda model: b"", "it has only 0"),
        (lambda model: bytes([model[0] ^ 1]) + model[1:], "sha256"),
        (lambda model: model[:-1] + bytes([model[-1] ^ 1]), "sha256"),
    ],
)
def test_refuses_other_bytes(tmp_path: Path, spoil: Callable[[bytes], bytes], says: str) -> None:
    """A truncated, longer or changed file is refused by name."""
    with pytest.raises(ScorerError, match=says) as caught:
        _read(tmp_path, spoil(PLAIN.to_bytes()), PLAIN.to_bytes())
    assert "tiny@1.onnx" in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """A manifest without its model says where the model belongs."""
    with pytest.raises(ScorerError, match=r"belongs beside tiny@1\.json"):
        read_model_bytes(tiny_spec(PLAIN.to_bytes()), tmp_path / "tiny@1.onnx")


@pytest.mark.parametrize(
    "held", [b"not an onnx file", b"\x0a", b"\x3a\xff\xff\x03", b"\x3a\x00", b"\x38\x01", b"\xff" * 12]
)
def test_refuses_what_is_no_onnx(tmp_path: Path, held: bytes) -> None:
    """Bytes with the right hash that are no model are refused before the runtime sees them."""
    with pytest.raises(ScorerError, match="not an ONNX file"):
        _read(tmp_path, held)


@pytest.mark.parametrize("location", ["weights.bin", "/etc/passwd", "../weights.bin"])
def test_refuses_external_data(tmp_path: Path, location: str) -> None:
    """Weights outside the file are refused wherever they lie."""
    with pytest.raises(ScorerError, match="outside the file"):
        _read(tmp_path, Tiny(location=location).to_bytes())


def test_refuses_unknown_operators(tmp_path: Path) -> None:
    """Operators of a domain that this runtime does not bring are named and refused."""
    with pytest.raises(ScorerError, match=r"unknown operators evil\.example::Mul"):
        _read(tmp_path, Tiny(domain="evil.example").to_bytes())


def test_finds_external_data_at_any_depth() -> None:
    """External data in the attribute of a node of a subgraph is found too."""

    def message(field: int, inner: bytes) -> bytes:
        return bytes([field << 3 | 2, len(inner)]) + inner

    tensor = message(13, message(1, b"location") + message(2, b"x"))
    constant = message(4, b"Constant") + message(5, message(5, tensor))
    branch = message(4, b"If") + message(5, message(6, message(1, constant)))
    facts = inspect_graph(message(7, message(1, branch)))
    assert facts.has_external_data
    assert facts.node_count == 2
    sparse = message(7, message(1, message(4, b"Add")) + message(15, message(1, tensor)))
    assert inspect_graph(sparse).has_external_data


def test_a_graph_within_a_graph_without_end() -> None:
    """Nesting beyond any real model is refused, not followed."""
    inner = b""
    for _ in range(60):
        inner = b"\x0a" + _length(b"\x2a" + _length(b"\x32" + _length(inner)))
    with pytest.raises(ValueError, match="nested too deeply"):
        inspect_graph(b"\x3a" + _length(inner))


@given(at=st.integers(0, len(PLAIN.to_bytes()) - 1), byte=st.integers(0, 255), cut=st.integers(0, 400))
def test_damage_is_never_more_than_a_refusal(at: int, byte: int, cut: int) -> None:
    """A damaged file is read or refused; nothing else happens."""
    model = bytearray(PLAIN.to_bytes())
    model[at] = byte
    with contextlib.suppress(ValueError):
        inspect_graph(bytes(model[:cut]))


def _length(inner: bytes) -> bytes:
    low, high = len(inner) & 0x7F, len(inner) >> 7
    return (bytes([low | 0x80, high]) if high else bytes([low])) + inner
