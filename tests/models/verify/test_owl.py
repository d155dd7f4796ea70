"""The verification of level scorers: every precision passes, changed weights and swapped levels are refused."""

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")


from models.export import graphs  # noqa: E402
from models.export.owl import write_level_scorer  # noqa: E402
from models.verify.owl import verify_level_scorer  # noqa: E402
from models.verify.pair import VerifyError  # noqa: E402
from tests.models.level_scorers import RECIPE  # noqa: E402
from vqmon.scoring.manifests.level_scorer import load_level_spec  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]


@pytest.mark.parametrize("precision", ["fp16", "int8", "int4"])
def test_smaller_forms_pass_their_checks(level_weights: dict[str, Any], tmp_path: Path, precision: str) -> None:
    """Each against torch in float32, within what its manifest says."""
    manifest = write_level_scorer(
        RECIPE, level_weights, precision=precision, folder=tmp_path, max_embedded_bytes=graphs.MAX_EMBEDDED_BYTES
    )
    lines = verify_level_scorer(manifest, weights=level_weights, recipe=RECIPE)
    assert sum("expectation" in line for line in lines) == 3
    assert not load_level_spec(manifest).language.has_data


def test_a_gpu_form_is_written_though_no_cpu_can_run_it(level_weights: dict[str, Any], tmp_path: Path) -> None:
    """bfloat16: hashes and graphs are checked, the rest is said not to have run."""
    manifest = write_level_scorer(
        RECIPE, level_weights, precision="bf16", folder=tmp_path, max_embedded_bytes=graphs.MAX_EMBEDDED_BYTES
    )
    assert verify_level_scorer(manifest)[-1].startswith("not run")


@pytest.mark.parametrize("part", ["encoder", "language"])
def test_changed_weights_are_refused(level_scorers: Path, tmp_path: Path, part: str) -> None:
    """One bit in the data file beside a graph changes the hash of both."""
    for path in level_scorers.glob("q-align*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    data = tmp_path / f"q-align-fp32@1.{part}.onnx.data"
    content = bytearray(data.read_bytes())
    content[100] ^= 1
    data.write_bytes(content)
    with pytest.raises(VerifyError, match=f"{part}.onnx: sha256"):
        verify_level_scorer(tmp_path / "q-align-fp32@1.json")


def test_another_order_of_levels_is_found(level_scorers: Path, tmp_path: Path) -> None:
    """A manifest whose levels stand in another order than the head's rows fails its golden answers."""
    for path in level_scorers.glob("q-align*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    manifest = tmp_path / "q-align-fp32@1.json"
    tree = json.loads(manifest.read_text())
    for answer in tree["golden"]["answers"]:
        answer["logits"] = [row[::-1] for row in answer["logits"]]
    manifest.write_text(json.dumps(tree))
    with pytest.raises(VerifyError, match="golden"):
        verify_level_scorer(manifest)
