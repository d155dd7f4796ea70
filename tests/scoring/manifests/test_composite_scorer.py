"""The manifest of a composite scorer: strict, and its steps fit together."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.scoring.scorers.test_composites import SOURCE, write_composite
from vqmon.errors import SettingsError
from vqmon.scoring.manifests.composite_scorer import (
    MAX_MERGES_BYTES,
    SourceSpec,
    StepSpec,
    TextSpec,
    load_composite_spec,
    save_composite_spec,
)

Tree = dict[str, Any]


def test_a_saved_manifest_is_loaded_equal(tmp_path: Path) -> None:
    """Its hash covers the graphs in the order of the steps and the lists of merges."""
    spec = load_composite_spec(write_composite(tmp_path))
    (tmp_path / "copy").mkdir()
    save_composite_spec(spec, tmp_path / "copy" / "joined@1.json")
    assert load_composite_spec(tmp_path / "copy" / "joined@1.json") == spec
    text = TextSpec(name="prompt", file="merges.txt", sha256="a" * 64, size_bytes=9, ids=600)
    assert replace(spec, texts=(text,)).sha256 != spec.sha256
    with pytest.raises(ValueError, match=r"must be named joined@1\.json"):
        save_composite_spec(spec, tmp_path / "other@1.json")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda tree: tree["steps"][0].update(takes=["nothing"]),
            "step features takes 'nothing'; available to it: frames",
        ),
        (lambda tree: tree["steps"][0].update(takes=["head"]), "step features takes 'head'; available to it: frames"),
        (lambda tree: tree["steps"][1].update(name="frames"), "two sources or steps share a name"),
        (
            lambda tree: tree["steps"][0].update(each="picture"),
            "step features runs per picture, so its sources must have",
        ),
        (lambda tree: tree["steps"][0].update(buckets=[2, 1]), "buckets must be 1 or more and rise"),
        (lambda tree: tree["steps"][0].update(takes=["frames"] * 2), "takes 2 arrays, its graph has 1 inputs"),
        (lambda tree: tree.update(steps=[]), "needs a source and a step"),
        (lambda tree: tree.update(pooling="average"), "unknown pooling 'average'"),
        (lambda tree: tree["golden"].update(output=[]), "golden output must be finite"),
        (lambda tree: tree["golden"].update(tolerance=0), "tolerance above 0"),
        (lambda tree: tree.update(version=0), "not a scorer id"),
        (lambda tree: tree.update(more=1), "more"),
        (lambda tree: tree.update(name="other"), "rename it to other@1.json"),
    ],
)
def test_a_manifest_with_a_mistake_is_refused_with_file_and_problem(
    tmp_path: Path, spoil: Callable[[Tree], object], message: str
) -> None:
    """One case per rule of the manifest."""
    path = write_composite(tmp_path)
    tree = json.loads(path.read_text())
    spoil(tree)
    path.write_text(json.dumps(tree))
    with pytest.raises(SettingsError, match=r"joined@1\.json") as caught:
        load_composite_spec(path)
    assert message in str(caught.value)


def test_the_number_of_pictures_of_a_source_follows_from_its_order(tmp_path: Path) -> None:
    """One picture per row for NCHW, several for clips and crops."""
    with pytest.raises(ValueError, match="NCHW requires one picture per row"):
        SourceSpec(name="frames", input=SOURCE, pictures=2)
    with pytest.raises(ValueError, match="the other orders more than one"):
        SourceSpec(name="clips", input=SOURCE, order="NCTHW", pictures=1)
    assert SourceSpec(name="crops", input=SOURCE, order="NKCHW", pictures=3).pictures == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"file": "../merges.txt"}, "not a plain file name"),
        ({"sha256": "x"}, "64 hexadecimal digits"),
        ({"size_bytes": MAX_MERGES_BYTES + 1}, "size_bytes within"),
        ({"ids": 513}, "ids at least 514"),
        ({"tokens": 1}, "tokens must be at least 2"),
    ],
)
def test_a_list_of_merges_with_a_mistake_is_refused(changes: Tree, message: str) -> None:
    """It must be a plain file of a bounded size, with ids for all bytes and for the start and end tokens."""
    facts: Tree = {
        "name": "prompt",
        "file": "merges.txt",
        "sha256": "a" * 64,
        "size_bytes": 9,
        "ids": 514,
        "tokens": 77,
    }
    assert TextSpec(**facts).ids == 514
    with pytest.raises(ValueError, match=message):
        TextSpec(**{**facts, **changes})


def test_a_step_has_one_array_for_each_input_of_its_graph(tmp_path: Path) -> None:
    """The order is that of the graph's inputs."""
    step = load_composite_spec(write_composite(tmp_path)).steps[1]
    with pytest.raises(ValueError, match="takes 2 arrays, its graph has 1 inputs"):
        StepSpec(name="head", graph=step.graph, takes=("a", "b"), each="row")
