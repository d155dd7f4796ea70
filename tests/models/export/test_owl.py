"""Scorers made of mPLUG-Owl2, from a checkpoint to two graphs and a manifest, and the checks of what was written."""

import argparse
import gc
import json
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import onnx  # noqa: E402
from PIL import Image  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

from models import MODELS_FOLDER  # noqa: E402
from models import __main__ as command  # noqa: E402
from models.commands import owl  # noqa: E402
from models.export import graphs, quantize  # noqa: E402
from models.export.owl import FORMS, write_language, write_scorer  # noqa: E402
from models.export.owl_recipes import q_align_recipe  # noqa: E402
from models.export.pair import read_facts  # noqa: E402
from models.networks.owl.abstractor import AbstractorConfig  # noqa: E402
from models.networks.owl.language import LanguageConfig  # noqa: E402
from models.networks.owl.owl import OwlConfig  # noqa: E402
from models.networks.owl.vision import VisionConfig  # noqa: E402
from models.verify.owl import verify  # noqa: E402
from models.verify.owl_runner import Runner, expectations, uncertainties  # noqa: E402
from models.verify.pair import VerifyError  # noqa: E402
from models.weights import WeightsError  # noqa: E402
from tests.models.owl_weights import random_weights  # noqa: E402
from tests.models.test_weights import Shelf  # noqa: E402
from vqmon.scoring.manifests.frame_scorer import golden_frames  # noqa: E402
from vqmon.scoring.manifests.level_scorer import load_level_spec  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

CONFIG = OwlConfig(
    vision=VisionConfig(width=32, inner_width=64, depth=1, heads=2),
    abstractor=AbstractorConfig(width=32, inner_width=48, depth=1, heads=2, vision_width=32),
    language=LanguageConfig(width=64, inner_width=96, depth=2, heads=2, vocabulary=32000),
)
FACTS = read_facts(MODELS_FOLDER / "q_align.facts.toml")
RECIPE = q_align_recipe(FACTS, config=CONFIG)


@pytest.fixture(scope="module")
def weights() -> dict[str, Any]:
    return random_weights(CONFIG)


@pytest.fixture(scope="module")
def folder(weights: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of two shards and five anchors."""
    place = tmp_path_factory.mktemp("weights")
    names = sorted(weights)
    for at, part in enumerate((names[: len(names) // 2], names[len(names) // 2 :])):
        save_file({name: weights[name].to(torch.bfloat16) for name in part}, place / f"part{at}.safetensors")
    index = {name: f"part{int(name not in names[: len(names) // 2])}.safetensors" for name in names}
    (place / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    (place / "anchors").mkdir()
    drawn = np.random.default_rng(1)
    for at in range(5):
        picture = drawn.integers(0, 256, (40 + at, 60, 3), dtype=np.uint8)
        Image.fromarray(picture).save(place / "anchors" / f"{at}.png")
    return place


def options_of(folder: Path, built: Path, *words: str) -> argparse.Namespace:
    return command.parser().parse_args([*words, "--weights", str(folder), "--built", str(built)])


PLACE = owl.Place(config=CONFIG, hub=Shelf(Path()), one_file_bytes=2**17)


@pytest.fixture(scope="module")
def built(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Q-Align in float32 and Compare2Score, their weights beside the graphs."""
    place = tmp_path_factory.mktemp("built")
    owl.export(options_of(folder, place, "export", "q_align", "--dtype", "fp32"), PLACE)
    anchors = ["--anchors", str(folder / "anchors")]
    owl.export(options_of(folder, place, "export", "compare2score", "--dtype", "fp32", *anchors), PLACE)
    return place


def test_a_written_scorer_passes_every_check(folder: Path, built: Path) -> None:
    """Hashes, graphs, golden answers, 1..12 frames, batches, and torch within 1e-4, through the command."""
    lines = owl.verify(options_of(folder, built, "verify", "q_align", "--dtype", "fp32"), PLACE)
    assert any("clips of 1..12 against torch, logits" in line for line in lines)
    assert sum("none of NonZero" in line for line in lines) == 2
    spec = load_level_spec(built / "q-align-fp32@1.json")
    assert spec.encoder.has_data
    assert spec.language.has_data
    assert {"part0.safetensors", "part1.safetensors"} == {
        key.removeprefix("sha256 of ") for key in spec.provenance if key.startswith("sha256 of ")
    }


def test_comparisons_pass_every_check_too(folder: Path, built: Path) -> None:
    """Five anchors and pairs, from one graph; the anchors' own matrix is in the manifest."""
    words = ["verify", "compare2score", "--dtype", "fp32", "--anchors", str(folder / "anchors")]
    lines = owl.verify(options_of(folder, built, *words), PLACE)
    assert any(line.startswith("pair: clips of 2..2 against torch") for line in lines)
    spec = load_level_spec(built / "compare2score-fp32@1.json")
    assert spec.comparisons is not None
    assert np.array(spec.comparisons.anchor_matrix).shape == (5, 5)
    assert spec.task("anchors").questions == (0, 1, 2, 3, 4)


def test_features_are_shared_by_tasks(built: Path) -> None:
    """Pictures are encoded once; tasks then answer from the same features, with a score and a doubt each."""
    runner = Runner(built / "q-align-fp32@1.json")
    features = runner.encode(golden_frames(runner.spec.input.view, seed=1, frames=2))
    for task in ("quality", "aesthetics", "video"):
        logits = runner.answer([features[:1], features[1:]], runner.spec.task(task))
        assert logits.shape == (2, 1, 5)
        assert ((expectations(logits, runner.spec) >= 1) & (expectations(logits, runner.spec) <= 5)).all()
        assert ((uncertainties(logits, runner.spec) >= 0) & (uncertainties(logits, runner.spec) <= 1)).all()


@pytest.mark.parametrize("form", ["fp16", "int8", "int4"])
def test_smaller_forms_pass_their_checks(weights: dict[str, Any], tmp_path: Path, form: str) -> None:
    """Each against torch in float32, within what its manifest says."""
    manifest = write_scorer(RECIPE, weights, form=form, folder=tmp_path, one_file_bytes=graphs.ONE_FILE_BYTES)
    lines = verify(manifest, weights=weights, recipe=RECIPE)
    assert sum("expectation" in line for line in lines) == 3
    assert not load_level_spec(manifest).language.has_data


def test_a_gpu_form_is_written_though_no_cpu_can_run_it(weights: dict[str, Any], tmp_path: Path) -> None:
    """bfloat16: hashes and graphs are checked, the rest is said not to have run."""
    manifest = write_scorer(RECIPE, weights, form="bf16", folder=tmp_path, one_file_bytes=graphs.ONE_FILE_BYTES)
    assert verify(manifest)[-1].startswith("not run")


@pytest.mark.parametrize("part", ["encoder", "language"])
def test_changed_weights_are_refused(built: Path, tmp_path: Path, part: str) -> None:
    """One bit in the data file beside a graph changes the hash of both."""
    for path in built.glob("q-align*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    data = tmp_path / f"q-align-fp32@1.{part}.onnx.data"
    content = bytearray(data.read_bytes())
    content[100] ^= 1
    data.write_bytes(content)
    with pytest.raises(VerifyError, match=f"{part}.onnx: sha256"):
        verify(tmp_path / "q-align-fp32@1.json")


def test_another_order_of_levels_is_found(built: Path, tmp_path: Path) -> None:
    """A manifest whose levels stand in another order than the head's rows fails its golden answers."""
    for path in built.glob("q-align*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    manifest = tmp_path / "q-align-fp32@1.json"
    tree = json.loads(manifest.read_text())
    for answer in tree["golden"]["answers"]:
        answer["logits"] = [row[::-1] for row in answer["logits"]]
    manifest.write_text(json.dumps(tree))
    with pytest.raises(VerifyError, match="golden"):
        verify(manifest)


def test_graphs_say_nothing_of_the_machine(built: Path) -> None:
    """No path of the exporting checkout or of a library is left in a file."""
    for path in built.glob("*.onnx"):
        content = path.read_bytes()
        assert str(Path(command.__file__).parents[2]).encode() not in content
        assert b"site-packages" not in content
        onnx.checker.check_model(str(path))


class Watched(Mapping[str, Any]):
    """Weights that are made anew each time they are read; counts the bytes of those that somebody still holds."""

    def __init__(self, weights: Mapping[str, Any]) -> None:
        self._weights, self.alive, self.most = weights, 0, 0

    def __getitem__(self, name: str) -> Any:
        tensor = self._weights[name].clone()
        size = tensor.nbytes
        if ".layers." in name:
            self.alive += size
            self.most = max(self.most, self.alive)
            weakref.finalize(tensor, self._let_go, size)
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._weights)

    def __len__(self) -> int:
        return len(self._weights)

    def _let_go(self, size: int) -> None:
        self.alive -= size


def test_no_more_than_a_layer_is_held_in_memory(tmp_path: Path) -> None:
    """Four layers are exported while at most about one is alive: so 8.2 billion parameters fit where one layer does."""
    config = OwlConfig(
        vision=CONFIG.vision, abstractor=CONFIG.abstractor, language=LanguageConfig(width=64, depth=4, heads=2)
    )
    watched = Watched(random_weights(config))
    one_layer = sum(watched[name].nbytes for name in watched if name.startswith("model.layers.0."))
    gc.collect()
    assert watched.alive == 0
    watched.most = 0
    recipe = q_align_recipe(FACTS, config=config)
    write_language(recipe, watched, form=FORMS["int4"], target=tmp_path / "x.onnx", one_file_bytes=1000)
    assert 0 < watched.most <= 1.1 * one_layer


def test_blocks_of_weights_come_back(weights: dict[str, Any]) -> None:
    """Packed weights differ from the originals by at most half a step, rows that do not fill a block included."""
    weight = torch.randn(75, 20, generator=torch.Generator().manual_seed(0))
    for bits in (4, 8):
        codes, scales, zeros = quantize.pack_blocks(weight, bits)
        if bits == 4:
            codes = np.stack([codes & 15, codes >> 4], axis=-1).reshape(*codes.shape[:2], -1)
            zeros = np.stack([zeros & 15, zeros >> 4], axis=-1).reshape(len(zeros), -1)[:, : scales.shape[1]]
        back = ((codes.astype(float) - zeros[..., None]) * scales[..., None]).reshape(20, -1)[:, :75].T
        slack = np.repeat(scales.T, quantize.BLOCK, axis=0)[:75] * 0.501
        assert (np.abs(back - weight.numpy()) <= slack + 1e-6).all()


def test_what_does_not_fit_is_refused_before_anything_is_written(weights: dict[str, Any], tmp_path: Path) -> None:
    """A checkpoint with one tensor renamed, and one without anchors to compare with."""
    table = {name: tensor.to(torch.bfloat16) for name, tensor in weights.items()}
    table["model.norm.wait"] = table.pop("model.norm.weight")
    save_file(table, tmp_path / "x.safetensors")
    built = tmp_path / "built"
    with pytest.raises(WeightsError, match=r"1 missing: model\.norm\.weight; 1 not known: model\.norm\.wait"):
        owl.export(options_of(tmp_path / "x.safetensors", built, "export", "q_align"), PLACE)
    save_file({name: tensor.to(torch.bfloat16) for name, tensor in weights.items()}, tmp_path / "y.safetensors")
    with pytest.raises(WeightsError, match="name the anchors"):
        owl.export(options_of(tmp_path / "y.safetensors", built, "export", "compare2score"), PLACE)
    assert not built.exists()


def test_a_card_tells_licence_and_origin(folder: Path, built: Path) -> None:
    """Facts from the manifest, as a table."""
    said = owl.card(options_of(folder, built, "card", "q_align", "--dtype", "fp32"))
    assert "nobody has said" in said
    assert "excellent = 5" in said
    assert "sha256 of part0.safetensors" in said


def test_anchors_can_be_chosen_from_scored_pictures(folder: Path) -> None:
    """A table with file, score and variance names five; they come prepared, worst first."""
    rows = ["file,score,variance", *(f"anchors/{4 - at}.png,{at * 10},{1 + at}" for at in range(5))]
    table = folder / "scored.csv"
    table.write_text("\n".join(rows))
    chosen = owl.read_anchors(None, table)
    assert len(chosen) == 5
    assert torch.equal(chosen[0], owl.read_anchors(folder / "anchors", None)[4])
