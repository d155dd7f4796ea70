"""The manifest of a frame scorer, the search for bundles, and golden frames."""

import json
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.scoring.tiny_onnx import PLAIN, VIEW, tiny_spec, write_bundle
from vqmon.core.calibration import Calibration, IntervalTable, PercentileTable, ScoreNoise
from vqmon.core.types import Display, TileGrid, View
from vqmon.errors import ScorerError, SettingsError
from vqmon.scoring.manifests.frame_scorer import find_bundles, golden_frames, load_frame_spec, save_frame_spec

Tree = dict[str, Any]


def test_a_saved_manifest_is_loaded_equal(tmp_path: Path) -> None:
    """Saving and loading loses nothing."""
    spec = tiny_spec(PLAIN.to_bytes())
    save_frame_spec(spec, tmp_path / "tiny@1.json")
    assert load_frame_spec(tmp_path / "tiny@1.json") == spec
    assert spec.id == "tiny@1"


def test_percentiles_and_intervals_are_optional(tmp_path: Path) -> None:
    """A manifest without the fields is loaded; with them, saving and loading loses nothing."""
    path = write_bundle(tmp_path)
    tree = json.loads(path.read_text())
    del tree["percentiles"], tree["interval"], tree["noise"]
    path.write_text(json.dumps(tree))
    assert load_frame_spec(path).percentiles is None
    calibrated = replace(
        tiny_spec(PLAIN.to_bytes()),
        percentiles=PercentileTable(population="photos", points=((1.0, 0.0), (50.0, 60.0), (101.0, 100.0))),
        interval=IntervalTable(coverage=0.9, population="photos", points=((0.0, 5.0, 9.0), (100.0, 9.0, 5.0))),
        noise=ScoreNoise(population="2 clips", deviation=0.4),
    )
    save_frame_spec(calibrated, path)
    assert load_frame_spec(path) == calibrated


_TABLE = {"population": "photos", "points": [[0.0, 0.0], [1.0, 100.0]]}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda tree: tree.update(percentiles={**_TABLE, "point": 1}), "did you mean 'points'?"),
        (lambda tree: tree.update(percentiles={**_TABLE, "points": [[0, 100], [1, 0]]}), "percentiles must rise"),
        (lambda tree: tree.update(interval={**_TABLE, "coverage": 90, "points": [[0, 1, 1]]}), "coverage must be"),
        (lambda tree: tree.update(noise={"population": "2 clips", "deviation": 0.0}), "above 0 and at most 50"),
        (lambda tree: tree.update(batch_bucket=[1]), "unknown key 'batch_bucket'; did you mean 'batch_buckets'?"),
        (lambda tree: tree["input"]["view"].update(hight=3), "unknown key 'input.view.hight'; did you mean 'height'?"),
        (lambda tree: tree["golden"]["input"].update(sed=3), "unknown key 'golden.input.sed'; did you mean 'seed'?"),
        (lambda tree: tree["calibration"].update(point=3), "unknown key 'calibration.point'; did you mean 'points'?"),
        (lambda tree: tree.pop("golden"), "golden is missing"),
        (lambda tree: tree["input"].pop("view"), "input.view is missing"),
        (lambda tree: tree.update(version="1"), 'version: must be a whole number, got "1"'),
        (lambda tree: tree["output"].update(head="soft"), "output.head: must be 'scalar'"),
        (lambda tree: tree["input"].update(dtype="bfloat16"), "input.dtype"),
        (lambda tree: tree["input"].update(std=[1, 0, 1]), "std above 0"),
        (lambda tree: tree["input"].update(dtype="uint8", mean=[0.5, 0.5, 0.5]), "mean must be 0, 0, 0"),
        (lambda tree: tree.update(pooling="average"), "unknown pooling 'average'"),
        (lambda tree: tree.update(batch_buckets=[]), "batch_buckets must rise"),
        (lambda tree: tree.update(batch_buckets=[2, 1]), "batch_buckets must rise"),
        (lambda tree: tree.update(sha256="abc"), "64 hexadecimal digits"),
        (lambda tree: tree.update(native_range=[1, 0]), "native_range"),
        (lambda tree: tree.update(higher_is_better=False), "calibration must rise"),
        (lambda tree: tree["golden"].update(output=[1.0]), "need 2 finite output values"),
        (lambda tree: tree["golden"].update(tolerance=50.0), "more than 1/20"),
        (lambda tree: tree.update(name="Tiny Scorer"), "not a scorer id"),
        (lambda tree: tree.update(name="other"), "rename it to other@1.json"),
    ],
)
def test_a_manifest_with_a_mistake_is_refused_with_file_key_and_problem(
    tmp_path: Path, spoil: Callable[[Tree], object], message: str
) -> None:
    """One case per rule of the manifest."""
    path = write_bundle(tmp_path)
    tree = json.loads(path.read_text())
    spoil(tree)
    path.write_text(json.dumps(tree))
    with pytest.raises(SettingsError) as caught:
        load_frame_spec(path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "\xff"])
def test_a_file_that_is_not_a_json_object_is_refused_by_name(tmp_path: Path, text: str) -> None:
    """Empty, truncated, another type, and not UTF-8."""
    path = tmp_path / "tiny@1.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(SettingsError, match=r"tiny@1\.json"):
        load_frame_spec(path)


def test_a_missing_manifest_is_refused(tmp_path: Path) -> None:
    """The message says that the file cannot be read."""
    with pytest.raises(SettingsError, match="cannot be read"):
        load_frame_spec(tmp_path / "tiny@1.json")


def test_a_manifest_is_saved_only_under_the_id_of_its_scorer(tmp_path: Path) -> None:
    """Under another name it would not be found."""
    with pytest.raises(ValueError, match=r"must be named tiny@1\.json"):
        save_frame_spec(tiny_spec(PLAIN.to_bytes()), tmp_path / "small@1.json")


def test_the_preprocessing_id_changes_with_every_fact_of_the_preprocessing() -> None:
    """Other fields and the spelling of numbers do not change it."""
    spec = tiny_spec(PLAIN.to_bytes())
    same = replace(spec, version=2, input=replace(spec.input, name="x", mean=(0.0, 0.0, 0.0)))
    assert same.preprocessing_id == spec.preprocessing_id
    others = [
        replace(spec.input, mean=(0.1, 0, 0)),
        replace(spec.input, dtype="float16"),
        replace(spec.input, view=replace(VIEW, kind="fit")),
        replace(spec.input, view=replace(VIEW, kind="fit", pad_rgb=(1, 1, 1))),
    ]
    ids = {spec.preprocessing_id, *(replace(spec, input=other).preprocessing_id for other in others)}
    assert len(ids) == 5
    assert spec.preprocessing_id.startswith("stretch-16x8-")


def test_a_falling_calibration_is_accepted_when_lower_is_better() -> None:
    """It maps the lowest native value to 100."""
    falling = Calibration(version=1, points=((0, 100), (100, 0)))
    assert not tiny_spec(PLAIN.to_bytes(), higher_is_better=False, calibration=falling).higher_is_better


def test_bundles_are_found_by_id(tmp_path: Path) -> None:
    """A folder given twice is searched once; other files are ignored."""
    path = write_bundle(tmp_path)
    (tmp_path / "notes.json").write_text("{}")
    assert find_bundles([tmp_path, tmp_path]) == {"tiny@1": path}
    (tmp_path / "tiny@1.parts.json").write_text("{}")
    assert find_bundles([tmp_path]) == {"tiny@1": path}


def test_two_bundles_with_one_id_are_refused(tmp_path: Path) -> None:
    """The message names both files."""
    for name in "ab":
        (tmp_path / name).mkdir()
        write_bundle(tmp_path / name)
    with pytest.raises(ScorerError, match="two scorers have the id tiny@1"):
        find_bundles([tmp_path / "a", tmp_path / "b"])


def test_a_missing_folder_of_scorers_is_refused(tmp_path: Path) -> None:
    """It is not treated as an empty one."""
    with pytest.raises(ScorerError, match="no such folder"):
        find_bundles([tmp_path / "missing"])


def test_golden_frames_are_the_same_on_every_machine() -> None:
    """Bit for bit, in every release."""
    view = View(kind="stretch", width=40, height=30)
    frames = golden_frames(view, seed=2021, frames=3)
    assert frames.shape == (3, 30, 40, 3)
    assert frames.dtype == np.uint8
    assert sha256(frames.tobytes()).hexdigest()[:16] == "e9823bdd270d8786"


def test_golden_frames_depend_on_the_seed_and_the_frame_index() -> None:
    """More frames do not change the first ones."""
    few, many = golden_frames(VIEW, seed=1, frames=1), golden_frames(VIEW, seed=1, frames=3)
    assert (few[0] == many[0]).all()
    assert (many[0] != many[1]).any()
    assert (golden_frames(VIEW, seed=2, frames=1) != few).any()


def test_a_scorer_of_display_views_is_made_for_the_display_of_the_viewers(tmp_path: Path) -> None:
    """Only the canvas changes, and with it the id of the preprocessing; the manifest holds the grids."""
    plain = tiny_spec(PLAIN.to_bytes())
    assert plain.for_display(Display(lines=720)) == plain
    view = View(
        kind="display", width=8, height=12, short_side=1080, grids=(TileGrid(reduction=1, columns=2, rows=1),)
    )  # fmt: skip
    spec = replace(plain, input=replace(plain.input, view=view))
    save_frame_spec(spec, tmp_path / "tiny@1.json")
    assert load_frame_spec(tmp_path / "tiny@1.json") == spec
    assert spec.for_display(Display()) == spec
    small = spec.for_display(Display(lines=720))
    assert (small.input.view.short_side, small.input.view.grids) == (720, view.grids)
    assert small.preprocessing_id != spec.preprocessing_id
    assert spec.for_display(Display(lines=0)).input.view.short_side == 0
