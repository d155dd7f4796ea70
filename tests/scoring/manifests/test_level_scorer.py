"""The manifest of a level scorer."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vqmon.core.calibration import Calibration
from vqmon.core.types import View
from vqmon.errors import SettingsError
from vqmon.scoring.manifests.frame_scorer import GoldenInput, InputSpec, Licence
from vqmon.scoring.manifests.level_scorer import (
    Comparisons,
    GoldenAnswer,
    GraphSpec,
    Level,
    LevelGolden,
    LevelScorerSpec,
    TaskSpec,
    load_level_spec,
    save_level_spec,
)

Tree = dict[str, Any]


def graph(name: str) -> GraphSpec:
    return GraphSpec(file=f"{name}.onnx", has_data=True, sha256="0" * 64, size_bytes=9, inputs=("x",), output="y")


def spec() -> LevelScorerSpec:
    """A complete manifest of two levels."""
    golden = GoldenAnswer(task="quality", frames=(0,), logits=((0.5, 1.5),))
    return LevelScorerSpec(
        kind="levels",
        name="words",
        version=1,
        description="for tests",
        input=InputSpec(
            name="pixels",
            view=View(kind="fit", width=4, height=4),
            colour="rgb",
            layout="NCHW",
            dtype="uint8",
            mean=(0, 0, 0),
            std=(1, 1, 1),
        ),
        encoder=graph("words@1.encoder"),
        language=graph("words@1.language"),
        most_rows=8,
        feature_dtype="float16",
        tasks=(TaskSpec(name="quality", questions=(0,), least_frames=1, most_frames=31),),
        levels=(Level(word="good", value=5.0), Level(word="bad", value=1.0)),
        temperature=1.0,
        comparisons=Comparisons(anchor_matrix=((0.5, 0.4), (0.6, 0.5)), link="logistic"),
        native_range=(1.0, 5.0),
        higher_is_better=True,
        calibration=Calibration(version=1, points=((1.0, 0.0), (5.0, 100.0))),
        licence=Licence(name="none", commercial=None, note="for tests"),
        provenance={"made": "here"},
        golden=LevelGolden(input=GoldenInput(kind="pattern", seed=1, frames=1), answers=(golden,), tolerance=0.01),
    )


def test_a_saved_manifest_is_loaded_equal(tmp_path: Path) -> None:
    """Its hash covers both graphs."""
    path = tmp_path / "words@1.json"
    save_level_spec(spec(), path)
    assert load_level_spec(path) == spec()
    assert load_level_spec(path).task("quality").most_frames == 31
    assert len(spec().sha256) == 64


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda tree: tree["encoder"].update(file="../up.onnx"), "not a plain file name"),
        (lambda tree: tree["language"].update(sha256="x"), "64 hexadecimal digits"),
        (lambda tree: tree["tasks"][0].update(questions=[]), "needs questions"),
        (lambda tree: tree["tasks"][0].update(least_frames=40), "least_frames <= most_frames"),
        (lambda tree: tree.update(tasks=[]), "tasks of different names"),
        (lambda tree: tree["tasks"].append(tree["tasks"][0]), "tasks of different names"),
        (lambda tree: tree["levels"].pop(), "two levels"),
        (lambda tree: tree.update(temperature=0), "above 0"),
        (lambda tree: tree.update(most_rows=0), "above 0"),
        (lambda tree: tree["golden"]["answers"][0].update(task="beauty"), "known task"),
        (lambda tree: tree["golden"]["answers"][0].update(logits=[[1.0]]), "one finite logit per level"),
        (lambda tree: tree["comparisons"].update(anchor_matrix=[[2.0]]), "probabilities"),
        (lambda tree: tree["comparisons"].update(link="probit"), "comparisons.link"),
        (lambda tree: tree.update(kind="scalar"), "kind"),
        (lambda tree: tree.update(more=1), "more"),
        (lambda tree: tree.pop("levels"), "levels"),
        (lambda tree: tree.update(name="other"), "rename it to other@1.json"),
    ],
)
def test_a_manifest_with_a_mistake_is_refused_with_file_and_problem(
    tmp_path: Path, spoil: Callable[[Tree], object], message: str
) -> None:
    """One case per rule of the manifest."""
    path = tmp_path / "words@1.json"
    save_level_spec(spec(), path)
    tree = json.loads(path.read_text())
    spoil(tree)
    path.write_text(json.dumps(tree))
    with pytest.raises(SettingsError, match=r"words@1\.json.*"):
        load_level_spec(path)
    with pytest.raises(SettingsError) as caught:
        load_level_spec(path)
    assert message in str(caught.value)


def test_a_manifest_is_saved_only_under_the_id_of_its_scorer(tmp_path: Path) -> None:
    """A missing manifest is refused with a message that says so."""
    with pytest.raises(ValueError, match="must be named words@1"):
        save_level_spec(spec(), tmp_path / "x.json")
    with pytest.raises(SettingsError, match="cannot be read"):
        load_level_spec(tmp_path / "words@1.json")
