"""Features that another scorer's graphs compute, read from its sheet, and the sheets that are refused."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from models.export.assembly.assembly import FeatureInput, GraphAssembly, GraphPart, PixelInput  # noqa: E402
from models.export.assembly.published import read_scorer_facts  # noqa: E402
from models.export.assembly.shared_features import read_shared_features  # noqa: E402
from models.export.assembly.writer import (  # noqa: E402
    GOLDEN_ROWS,
    golden_values,
    write_assembly,
    write_sheet,
)
from models.export.graphs import graph_spec  # noqa: E402
from models.weights import WeightsError  # noqa: E402
from vqmon.scoring.manifests.composite_scorer import StepSpec  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

FACTS = read_scorer_facts("sr_vqa")
FEATURE = FeatureInput(name="llm", shape=(3,))
PICTURE = PixelInput(name="picture", transform="centre", side=8)
ROWS = np.array([[0.5, -1, 2], [3, 0.25, -4]], dtype=np.float32)


@pytest.fixture
def sheet(tmp_path: Path) -> Path:
    """A scorer of one graph, which makes the feature of pictures."""
    return write_feature_sheet(tmp_path, PICTURE)


def write_feature_sheet(folder: Path, *inputs: PixelInput | FeatureInput) -> Path:
    graph = folder / "llm-fp32@1.onnx"
    graph.write_bytes(b"graph")
    takes = tuple(each.name for each in inputs)
    spec = graph_spec(graph, inputs=tuple(f"input_{index}" for index in range(len(takes))), output="llm")
    step = StepSpec(name="llm", graph=spec, takes=takes, each="row", buckets=(1, 2))
    sheet = folder / "llm-fp32@1.parts.json"
    golden = {"llm": golden_values(ROWS)}
    write_sheet(sheet, FACTS, precision="fp32", inputs=inputs, steps=[step], golden=golden)
    return sheet


def read(sheet: Path, *, feature: FeatureInput = FEATURE, precision: str = "fp32") -> Any:
    return read_shared_features(sheet, feature, precision=precision, folder=sheet.parent)


def change(sheet: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    table = json.loads(sheet.read_text())
    edit(table)
    sheet.write_text(json.dumps(table))


def test_a_sheet_gives_inputs_steps_and_golden_rows(sheet: Path) -> None:
    shared = read(sheet)
    assert shared.inputs == (PICTURE,)
    (step,) = shared.steps
    assert (step.name, step.takes, step.each, step.buckets) == ("llm", ("picture",), "row", (1, 2))
    assert step.graph == graph_spec(sheet.parent / "llm-fp32@1.onnx", inputs=("input_0",), output="llm")
    assert np.array_equal(shared.rows, ROWS)
    assert shared.rows.dtype == np.float32
    assert list(shared.golden) == ["llm"]


def test_the_folder_may_be_named_in_another_way(sheet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative and absolute paths of one folder are the same folder."""
    monkeypatch.chdir(sheet.parent)
    shared = read_shared_features(Path(sheet.name), FEATURE, precision="fp32", folder=sheet.parent)
    assert shared.inputs == (PICTURE,)


def test_graphs_in_another_folder_are_refused(sheet: Path) -> None:
    other = sheet.parent / "other"
    message = f"{sheet}: its graphs must be in the folder that is written to, {other}: name that folder by --built"
    with pytest.raises(WeightsError, match=re.escape(message)):
        read_shared_features(sheet, FEATURE, precision="fp32", folder=other)


def test_a_sheet_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"missing\.parts\.json: cannot be read: No such file or directory"):
        read(tmp_path / "missing.parts.json")


@pytest.mark.parametrize(
    "edit",
    [
        lambda table: table.pop("steps"),
        lambda table: table.pop("form"),
        lambda table: table["golden"].pop("llm"),
        lambda table: table["golden"]["llm"]["values"].pop(),
        lambda table: table["golden"].update(llm=[1, 2]),
        lambda table: table["steps"][0].update(each="sometimes"),
        lambda table: table["steps"][0].update(takes=[]),
        lambda table: table["sources"][0].pop("kind"),
        lambda table: table["sources"][0].update(depth=3),
    ],
    ids=[
        "no steps", "no precision", "no golden rows", "few golden values", "golden list", "unknown unit",
        "too few arrays", "input without kind", "unknown field",
    ],
)  # fmt: skip
def test_a_sheet_that_cannot_be_used_is_refused(sheet: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    change(sheet, edit)
    with pytest.raises(WeightsError, match=r"not a sheet that makes llm: export it again \("):
        read(sheet)


def test_text_that_is_no_json_is_refused(sheet: Path) -> None:
    sheet.write_text("{")
    with pytest.raises(WeightsError, match=r"not a sheet that makes llm: export it again \(JSONDecodeError"):
        read(sheet)


def test_golden_rows_that_were_thinned_out_are_refused(sheet: Path) -> None:
    """A sheet records at most 16 values of other outputs; a feature needs all of them."""
    wide = np.arange(40, dtype=np.float32).reshape(2, 20)
    change(sheet, lambda table: table["golden"].update(llm=golden_values(wide)))
    with pytest.raises(WeightsError, match="not a sheet that makes llm: export it again"):
        read(sheet, feature=FeatureInput(name="llm", shape=(20,)))
    change(sheet, lambda table: table["golden"].update(llm=golden_values(wide, max_values=40)))
    assert np.array_equal(read(sheet, feature=FeatureInput(name="llm", shape=(20,))).rows, wide)


def test_another_precision_is_refused(sheet: Path) -> None:
    with pytest.raises(WeightsError, match="is fp32, this export is fp16: use the same --dtype for both"):
        read(sheet, precision="fp16")


def test_another_shape_is_refused(sheet: Path) -> None:
    with pytest.raises(WeightsError, match=re.escape("llm has shape (3,), this scorer needs (4,)")):
        read(sheet, feature=FeatureInput(name="llm", shape=(4,)))


def test_another_number_of_golden_rows_is_refused(sheet: Path) -> None:
    change(sheet, lambda table: table["golden"].update(llm=golden_values(np.ones((GOLDEN_ROWS + 1, 3), np.float32))))
    with pytest.raises(WeightsError, match="llm has shape"):
        read(sheet)


def test_a_sheet_that_needs_features_itself_is_refused(tmp_path: Path) -> None:
    sheet = write_feature_sheet(tmp_path, PICTURE, FeatureInput(name="motion-features", shape=(2,)))
    with pytest.raises(WeightsError, match="needs features of another scorer itself: export it again"):
        read(sheet)


def test_a_scorer_uses_shared_graphs_instead_of_the_feature(sheet: Path) -> None:
    """Its sheet takes pictures, runs the shared graph once and first, and has scores of the shared golden rows."""
    torch.manual_seed(0)
    head = nn.Linear(3, 1).requires_grad_(requires_grad=False)
    score = GraphPart(name="score", network=head, takes=("llm",))
    assembly = GraphAssembly(name="fused", version=1, inputs=(FEATURE,), parts=(score,))
    fused = write_assembly(assembly, FACTS, precision="fp32", folder=sheet.parent, shared={"llm": read(sheet)})
    table, shared_table = json.loads(fused.read_text()), json.loads(sheet.read_text())
    assert table["sources"] == shared_table["sources"]
    assert [step["name"] for step in table["steps"]] == ["llm", "score"]
    assert table["steps"][0] == shared_table["steps"][0]
    assert table["golden"]["llm"] == shared_table["golden"]["llm"]
    expected = head(torch.from_numpy(ROWS)).flatten().tolist()
    assert table["golden"]["score"]["values"] == pytest.approx(expected, rel=1e-5)
