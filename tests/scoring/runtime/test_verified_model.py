"""Model files: refused unless they are what the manifest says, and loaded with the bytes that were verified."""

import contextlib
import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.scoring.tiny_levels import LevelBundle, Outside, language_bytes, logits_of, write_levels
from tests.scoring.tiny_onnx import PLAIN, Tiny, tiny_spec
from vqmon.errors import ScorerError
from vqmon.scoring.manifests.level_scorer import GraphSpec, load_level_spec
from vqmon.scoring.runtime.engines import GraphEngine
from vqmon.scoring.runtime.graph import Placement
from vqmon.scoring.runtime.verified_model import VerifiedModel, inspect_graph, read_graph_model, read_model_bytes


def _read(folder: Path, held: bytes, promised: bytes | None = None) -> bytes:
    path = folder / "tiny@1.onnx"
    path.write_bytes(held)
    return read_model_bytes(tiny_spec(promised or held), path)


def test_a_file_that_matches_its_manifest_is_read(tmp_path: Path) -> None:
    """Byte for byte."""
    assert _read(tmp_path, PLAIN.to_bytes()) == PLAIN.to_bytes()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda model: model[:-1], "bytes, it has only"),
        (lambda model: model + b"\0", "it has more"),
        (lambda model: b"", "it has only 0"),
        (lambda model: bytes([model[0] ^ 1]) + model[1:], "sha256"),
        (lambda model: model[:-1] + bytes([model[-1] ^ 1]), "sha256"),
    ],
)
def test_a_file_with_other_bytes_is_refused(tmp_path: Path, spoil: Callable[[bytes], bytes], message: str) -> None:
    """Truncated, longer or changed; the message names the file."""
    with pytest.raises(ScorerError, match=message) as caught:
        _read(tmp_path, spoil(PLAIN.to_bytes()), PLAIN.to_bytes())
    assert "tiny@1.onnx" in str(caught.value)


def test_a_missing_model_is_refused(tmp_path: Path) -> None:
    """The message says where it belongs."""
    with pytest.raises(ScorerError, match=r"belongs beside tiny@1\.json"):
        read_model_bytes(tiny_spec(PLAIN.to_bytes()), tmp_path / "tiny@1.onnx")


@pytest.mark.parametrize(
    "held", [b"not an onnx file", b"\x0a", b"\x3a\xff\xff\x03", b"\x3a\x00", b"\x38\x01", b"\xff" * 12]
)
def test_bytes_that_are_not_onnx_are_refused(tmp_path: Path, held: bytes) -> None:
    """With the right hash, before the runtime parses them."""
    with pytest.raises(ScorerError, match="not an ONNX file"):
        _read(tmp_path, held)


@pytest.mark.parametrize("location", ["weights.bin", "/etc/passwd", "../weights.bin"])
def test_weights_in_another_file_are_refused(tmp_path: Path, location: str) -> None:
    """A frame scorer has one file, and its hash covers no other."""
    with pytest.raises(ScorerError, match="outside the file"):
        _read(tmp_path, Tiny(location=location).to_bytes())


def test_operators_of_other_domains_are_refused(tmp_path: Path) -> None:
    """The message names them."""
    with pytest.raises(ScorerError, match=r"unknown operators evil\.example::Mul"):
        _read(tmp_path, Tiny(domain="evil.example").to_bytes())


def test_external_data_is_found_at_any_depth() -> None:
    """In an attribute of a node in a subgraph, and in a sparse tensor."""

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


def test_deep_nesting_is_refused() -> None:
    """No real model is nested so deeply."""
    inner = b""
    for _ in range(60):
        inner = b"\x0a" + _length(b"\x2a" + _length(b"\x32" + _length(inner)))
    with pytest.raises(ValueError, match="nested too deeply"):
        inspect_graph(b"\x3a" + _length(inner))


@given(at=st.integers(0, len(PLAIN.to_bytes()) - 1), byte=st.integers(0, 255), cut=st.integers(0, 400))
def test_a_damaged_file_is_read_or_refused(at: int, byte: int, cut: int) -> None:
    """No other error is raised."""
    model = bytearray(PLAIN.to_bytes())
    model[at] = byte
    with contextlib.suppress(ValueError):
        inspect_graph(bytes(model[:cut]))


def _length(inner: bytes) -> bytes:
    low, high = len(inner) & 0x7F, len(inner) >> 7
    return (bytes([low | 0x80, high]) if high else bytes([low])) + inner


DATA = "tiny-levels@1.language.onnx.data"


@pytest.fixture
def graph(tmp_path: Path) -> GraphSpec:
    """The language graph of a bundle, with its weights in a second file."""
    return load_level_spec(write_levels(tmp_path, LevelBundle(beside=True))).language


def output_of(graph: GraphSpec, model: VerifiedModel) -> np.ndarray:
    engine = GraphEngine(graph, model, Placement(device="cpu"), shapes=((None, 1, 1), ()), buckets=(1,))
    return engine.run(np.full((1, 2, 1, 1), 0.25, np.float32), np.array([1]))


@pytest.mark.parametrize("in_memory_bytes", [2**30, 0])
def test_weights_in_memory_and_in_a_file_give_the_same_output(
    tmp_path: Path, graph: GraphSpec, in_memory_bytes: int
) -> None:
    """The runtime computes with the weights that were hashed."""
    model = read_graph_model(graph, tmp_path, in_memory_bytes=in_memory_bytes)
    assert (model.data is None) == (in_memory_bytes == 0)
    assert output_of(graph, model) == pytest.approx(logits_of(np.array([0.25]), 1), abs=1e-6)


@pytest.mark.parametrize("in_memory_bytes", [2**30, 0])
def test_a_changed_bit_of_the_weights_is_refused(tmp_path: Path, graph: GraphSpec, in_memory_bytes: int) -> None:
    """The hash covers both files."""
    content = bytearray((tmp_path / DATA).read_bytes())
    content[3] ^= 1
    (tmp_path / DATA).write_bytes(content)
    with pytest.raises(ScorerError, match=r"language\.onnx: sha256 .* fetch the bundle again"):
        read_graph_model(graph, tmp_path, in_memory_bytes=in_memory_bytes)


def test_changing_the_file_after_reading_does_not_change_weights_in_memory(tmp_path: Path, graph: GraphSpec) -> None:
    """The file is read once."""
    model = read_graph_model(graph, tmp_path)
    (tmp_path / DATA).write_bytes(b"x" * 60)
    assert output_of(graph, model) == pytest.approx(logits_of(np.array([0.25]), 1), abs=1e-6)


@pytest.mark.parametrize("how", ["write", "replace"])
def test_large_weights_that_change_while_loading_are_refused(tmp_path: Path, graph: GraphSpec, how: str) -> None:
    """A file that was written or replaced after it was hashed is noticed, even with the same bytes."""
    model = read_graph_model(graph, tmp_path, in_memory_bytes=0)
    same = (tmp_path / DATA).read_bytes()
    if how == "write":
        (tmp_path / DATA).write_bytes(same)
    else:
        (tmp_path / "other").write_bytes(same)
        os.replace(tmp_path / "other", tmp_path / DATA)
    with pytest.raises(ScorerError, match="was changed while it was loaded"):
        output_of(graph, model)


def test_large_weights_that_other_users_may_write_are_refused(tmp_path: Path, graph: GraphSpec) -> None:
    """The runtime reads them from disk after they were hashed."""
    (tmp_path / DATA).chmod(0o664)
    with pytest.raises(ScorerError, match="chmod go-w"):
        read_graph_model(graph, tmp_path, in_memory_bytes=0)


def test_links_are_refused(tmp_path: Path, graph: GraphSpec) -> None:
    """The target of a link could change after the check."""
    os.rename(tmp_path / DATA, tmp_path / "elsewhere")
    (tmp_path / DATA).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ScorerError, match="as a file and not as a link"):
        read_graph_model(graph, tmp_path)


@pytest.mark.parametrize("location", ["/etc/passwd", "../x.data", "other.data"])
def test_weights_in_a_file_that_the_manifest_does_not_cover_are_refused(
    tmp_path: Path, graph: GraphSpec, location: str
) -> None:
    """Whatever the graph names: another folder or another file."""
    data = bytearray()
    model = language_bytes(outside=Outside(location=location, data=data))
    (tmp_path / graph.file).write_bytes(model)
    (tmp_path / DATA).write_bytes(data)
    spec = GraphSpec(
        file=graph.file, has_data=True, sha256=sha256(model + data).hexdigest(), size_bytes=len(model + data),
        inputs=graph.inputs, output=graph.output,
    )  # fmt: skip
    with pytest.raises(ScorerError, match=r"the manifest covers tiny-levels@1\.language\.onnx\.data only"):
        read_graph_model(spec, tmp_path)


def test_a_missing_file_of_weights_is_named(tmp_path: Path, graph: GraphSpec) -> None:
    """The message says that it cannot be read."""
    (tmp_path / DATA).unlink()
    with pytest.raises(ScorerError, match=r"language\.onnx\.data: cannot be read: No such file"):
        read_graph_model(graph, tmp_path)
