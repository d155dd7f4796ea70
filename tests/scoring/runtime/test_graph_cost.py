"""A graph and the weights beside it: one unit, hashed, and loaded as it was hashed."""

import os
from pathlib import Path

import numpy as np
import pytest

from tests.scoring.tiny_levels import Written, said, write_levels
from vqmon.errors import ScorerError
from vqmon.scoring.manifests.level_scorer import GraphSpec, load_level_spec
from vqmon.scoring.runtime.engines import GraphEngine
from vqmon.scoring.runtime.graph import Placement
from vqmon.scoring.runtime.model_file import VerifiedModel, read_graph_model

DATA = "tiny-levels@1.language.onnx.data"


@pytest.fixture
def graph(tmp_path: Path) -> GraphSpec:
    """The language graph of a bundle whose weights lie beside it."""
    return load_level_spec(write_levels(tmp_path, Written(beside=True))).language


def answers_of(graph: GraphSpec, unit: VerifiedModel) -> np.ndarray:
    engine = GraphEngine(graph, unit, Placement(device="cpu"), shapes=((None, 1, 1), ()), buckets=(1,))
    return engine.run(np.full((1, 2, 1, 1), 0.25, np.float32), np.array([1]))


@pytest.mark.parametrize("in_memory_bytes", [2**30, 0])
def test_small_and_large_weights_give_the_same(tmp_path: Path, graph: GraphSpec, in_memory_bytes: int) -> None:
    """From memory or from where they lie, the runtime computes with the weights that were hashed."""
    unit = read_graph_model(graph, tmp_path, in_memory_bytes=in_memory_bytes)
    assert (unit.data is None) == (in_memory_bytes == 0)
    assert answers_of(graph, unit) == pytest.approx(said(np.array([0.25]), 1), abs=1e-6)


@pytest.mark.parametrize("in_memory_bytes", [2**30, 0])
def test_one_changed_bit_is_refused(tmp_path: Path, graph: GraphSpec, in_memory_bytes: int) -> None:
    """The hash covers both files."""
    content = bytearray((tmp_path / DATA).read_bytes())
    content[3] ^= 1
    (tmp_path / DATA).write_bytes(content)
    with pytest.raises(ScorerError, match=r"language\.onnx: sha256 .* fetch the bundle again"):
        read_graph_model(graph, tmp_path, in_memory_bytes=in_memory_bytes)


def test_weights_in_memory_cannot_be_changed_after(tmp_path: Path, graph: GraphSpec) -> None:
    """What happens to the file between the check and the load does not matter."""
    unit = read_graph_model(graph, tmp_path)
    (tmp_path / DATA).write_bytes(b"x" * 60)
    assert answers_of(graph, unit) == pytest.approx(said(np.array([0.25]), 1), abs=1e-6)


@pytest.mark.parametrize("how", ["write", "replace"])
def test_large_weights_that_change_while_loading_are_refused(tmp_path: Path, graph: GraphSpec, how: str) -> None:
    """A file that was touched or exchanged after it was hashed is noticed, though its bytes may be the same again."""
    unit = read_graph_model(graph, tmp_path, in_memory_bytes=0)
    same = (tmp_path / DATA).read_bytes()
    if how == "write":
        (tmp_path / DATA).write_bytes(same)
    else:
        (tmp_path / "other").write_bytes(same)
        os.replace(tmp_path / "other", tmp_path / DATA)
    with pytest.raises(ScorerError, match="was changed while it was loaded"):
        answers_of(graph, unit)


def test_large_weights_that_others_may_write_are_refused(tmp_path: Path, graph: GraphSpec) -> None:
    """They stay on disk, so nobody else may change them."""
    (tmp_path / DATA).chmod(0o664)
    with pytest.raises(ScorerError, match="chmod go-w"):
        read_graph_model(graph, tmp_path, in_memory_bytes=0)


def test_links_are_refused(tmp_path: Path, graph: GraphSpec) -> None:
    """A link could be turned elsewhere after the check."""
    os.rename(tmp_path / DATA, tmp_path / "elsewhere")
    (tmp_path / DATA).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ScorerError, match="as a file and not as a link"):
        read_graph_model(graph, tmp_path)


@pytest.mark.parametrize("location", ["/etc/passwd", "../x.data", "other.data"])
def test_weights_elsewhere_are_refused(tmp_path: Path, graph: GraphSpec, location: str) -> None:
    """Only the file that the manifest vouches for may hold weights."""
    from hashlib import sha256

    from tests.scoring.tiny_levels import Outside, language_bytes

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


def test_a_missing_file_is_named(tmp_path: Path, graph: GraphSpec) -> None:
    """And where it belongs."""
    (tmp_path / DATA).unlink()
    with pytest.raises(ScorerError, match=r"language\.onnx\.data: cannot be read: No such file"):
        read_graph_model(graph, tmp_path)
