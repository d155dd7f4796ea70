"""Feature networks and the scorers that join them, from a checkpoint to graphs and a sheet, and their checks."""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import onnx  # noqa: E402

from models import __main__ as command  # noqa: E402
from models.commands import feature_scorers  # noqa: E402
from models.export import composite  # noqa: E402
from models.export.assembly import published, recipes  # noqa: E402
from models.export.assembly.assembly import Assembly, Part, Source, run_torch  # noqa: E402
from models.export.assembly.writer import write_assembly  # noqa: E402
from models.networks import liqe  # noqa: E402
from models.networks.backbones.bottleneck import BotConfig  # noqa: E402
from models.networks.backbones.clip import ClipConfig  # noqa: E402
from models.networks.backbones.convnext3d import ConvNextConfig  # noqa: E402
from models.networks.backbones.slowfast import FastPathway, SlowFast, SlowFastConfig  # noqa: E402
from models.networks.backbones.swin import SwinConfig  # noqa: E402
from models.networks.dover import Dover  # noqa: E402
from models.networks.fast_vqa import FastVqa  # noqa: E402
from models.networks.sr_vqa import RqVqa, SrVqa, SrVqaConfig  # noqa: E402
from models.verify import assembly as parts_verify  # noqa: E402
from models.verify.pair import VerifyError  # noqa: E402
from models.weights import WeightsError  # noqa: E402
from vqmon.errors import ScorerError  # noqa: E402
from vqmon.scoring.runtime.graph import Placement  # noqa: E402
from vqmon.scoring.scorers.registry import ScorerOptions, open_scorers  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

CLIPS = SwinConfig(frames=8, side=56, width=8, depths=(2, 1), heads=(1, 2), window=(2, 7, 7), gated_stages=1)
FLAT = SwinConfig(frames=8, side=56, width=8, depths=(1, 1), heads=(1, 2), window=(2, 7, 7), gated_stages=1)
PICTURES = SwinConfig(
    frames=1, side=64, patch=(1, 4, 4), width=8, depths=(2, 1), heads=(1, 2), window=(1, 4, 4), gated_stages=0
)
MOTION = SlowFastConfig(slow_width=8, fast_width=2, depths=(1, 1, 1, 1), classes=3)
WORDS = ClipConfig(patch=56, width=64, depth=1, joint=16)
WIDTHS = {"spatial": 16, "fast": 64, "llm": 12, "liqe": 495, "fastvqa": 16}
FACTS = published.facts_of("sr_vqa")


def lively(network: Any) -> Any:
    published.enliven(network)
    return network.eval().requires_grad_(requires_grad=False)


def words() -> liqe.Liqe:
    sentences = torch.nn.functional.normalize(torch.randn(liqe.SENTENCES, WORDS.joint), dim=-1)
    return lively(liqe.Liqe(WORDS, sentences, torch.tensor(3.0)))


def joined() -> Assembly:
    """RQ-VQA and SR-VQA in one, so that what they share is there once."""
    shared = {"fast": lively(FastPathway(MOTION)), "clips": lively(FastVqa(FLAT)), "sentences": words()}
    bot = BotConfig(width=16, inner=8, heads=2, head=4, side=8, depth=1)
    released = recipes.rq_vqa(lively(RqVqa(PICTURES, bot, features=WIDTHS)), **shared)
    ours = recipes.sr_vqa(lively(SrVqa(SrVqaConfig(features=WIDTHS, swin=PICTURES, hidden=8))), **shared)
    last = [part for part in released.parts if part.name in ("rq-vqa-spatial", "rq-vqa")]
    return Assembly(name="both", version=1, sources=ours.sources, parts=(*ours.parts, *last))


def small(assembly: Assembly) -> Assembly:
    """Motion at 64 pixels a side."""
    sources = tuple(recipes.motion(64) if each.name == recipes.MOTION else each for each in assembly.sources)
    return Assembly(name=assembly.name, version=assembly.version, sources=sources, parts=assembly.parts)


BUILD = {
    "slowfast": lambda: recipes.slowfast(lively(SlowFast(MOTION))),
    "fast_vqa": lambda: recipes.fast_vqa(lively(FastVqa(CLIPS))),
    "dover": lambda: recipes.dover(lively(Dover(FLAT, ConvNextConfig(widths=(8, 16), depths=(3, 1))))),
    "liqe": lambda: recipes.liqe(words()),
}


def make(name: str) -> Assembly:
    torch.manual_seed(0)
    return small(BUILD[name]())


@pytest.mark.parametrize(
    ("name", "form"),
    [("slowfast", "fp32"), ("fast_vqa", "fp32"), ("fast_vqa", "fp16"), ("dover", "fp32"), ("liqe", "fp16")],
)
def test_written_networks_pass_every_check(tmp_path: Path, name: str, form: str) -> None:
    """Hashes, nodes, golden values, rows together and alone, and torch within 1e-4 or 5e-3."""
    assembly = make(name)
    lines = parts_verify.verify(write_assembly(assembly, FACTS, form=form, folder=tmp_path), assembly=assembly)
    assert sum("against torch" in line for line in lines) == len(assembly.parts)
    assert sum("none of NonZero" in line for line in lines) == len(assembly.parts)
    for path in tmp_path.glob("*.onnx"):
        onnx.checker.check_model(str(path))
        content = path.read_bytes()
        assert str(Path(command.__file__).parents[2]).encode() not in content
        assert b"site-packages" not in content


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Assembly, Path]:
    """Two composites over shared graphs, written."""
    torch.manual_seed(0)
    assembly = small(joined())
    return assembly, write_assembly(assembly, FACTS, form="fp32", folder=tmp_path_factory.mktemp("both"))


def test_composites_say_in_onnx_what_they_say_in_torch(both: tuple[Assembly, Path]) -> None:
    """Graphs in a chain; the last ones' answers are the networks' own, from pixels and features: one per segment of
    RQ-VQA, one per unit of SR-VQA."""
    assembly, sheet = both
    lines = parts_verify.verify(sheet, assembly=assembly)
    assert sum("against torch" in line for line in lines) == len(assembly.parts) == 7
    runner, given = parts_verify.PartsRunner(sheet), assembly.golden(3, seed=5)
    said, expected = runner.run(given), run_torch(assembly, given)
    for name, shape in (("rq-vqa", (1,)), ("sr-vqa", (3,))):
        assert said[name].shape == shape
        np.testing.assert_allclose(said[name], expected[name], rtol=1e-4, atol=1e-5)


def test_the_chain_of_graphs_is_the_network_as_trained(both: tuple[Assembly, Path]) -> None:
    """SR-VQA called as one network, features by hand, gives what its graphs give."""
    assembly, sheet = both
    given = assembly.golden(2, seed=9)
    values = parts_verify.PartsRunner(sheet).run(given)
    parts = {part.name: part.network for part in assembly.parts}
    net = SrVqa(SrVqaConfig(features=WIDTHS, swin=PICTURES, hidden=8)).eval()
    net.spatial, net.regression = parts["sr-vqa-spatial"], parts["sr-vqa"]  # type: ignore[assignment]
    names = ("slowfast-fast", "llm", "liqe-logits", "fast-vqa-features")
    features = [torch.from_numpy(np.asarray(values[name])) for name in names]
    with torch.inference_mode():
        found = net(torch.from_numpy(np.asarray(given["picture"])), *features)
    np.testing.assert_allclose(values["sr-vqa"], found.numpy(), rtol=1e-4, atol=1e-5)


def test_parts_are_the_same_file_whichever_scorer_they_serve(both: tuple[Assembly, Path], tmp_path: Path) -> None:
    """The fast pathway's graph, written by itself and for composites, has one hash: it is computed once."""
    assembly, sheet = both
    fast = next(part for part in assembly.parts if part.name == "slowfast-fast")
    alone = Assembly(name="slowfast-fast", version=1, sources=(recipes.motion(64),), parts=(fast,))
    write_assembly(alone, FACTS, form="fp32", folder=tmp_path)
    file = "slowfast-fast-fp32@1.onnx"
    assert (tmp_path / file).read_bytes() == (sheet.parent / file).read_bytes()


async def test_the_daemon_opens_what_is_written(tmp_path: Path) -> None:
    """A manifest for the daemon passes the daemon's own reader, and its self-test: five graphs over clips, fused."""
    sheet = write_assembly(make("dover"), FACTS, form="fp32", folder=tmp_path)
    manifest = composite.write_composite(sheet, composite.scale_of("dover"))
    terms = ScorerOptions(placement=Placement(device="cpu", threads=1))
    async with open_scorers(["dover-fp32"], [tmp_path], terms) as (scorer,):
        assert scorer.id == "dover-fp32@1"
    table = json.loads(manifest.read_text())
    table["golden"]["output"][0] += 0.01
    manifest.write_text(json.dumps(table))
    with pytest.raises(ScorerError, match="self-test"):
        async with open_scorers(["dover-fp32"], [tmp_path], terms):
            pass


def test_features_and_borrowed_features_are_no_scorers(both: tuple[Assembly, Path]) -> None:
    """A network without a scale, and a composite that takes what no decoder gives."""
    with pytest.raises(WeightsError, match=r"rq_vqa has no scale of its own.*--scale FILE\.toml"):
        composite.scale_of("rq_vqa")
    with pytest.raises(WeightsError, match="takes llm of another scorer's graph"):
        composite.write_composite(both[1], composite.scale_of("sr_vqa"))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smallest scorer."""
    folder = tmp_path_factory.mktemp("written")
    torch.manual_seed(1)
    part = Part(name="liqe-score", network=liqe.QualityOf(), takes=("logits",))
    source = recipes.Given(name="logits", shape=(liqe.SENTENCES,))
    assembly = Assembly(name="tiny", version=1, sources=(source,), parts=(part,))
    return write_assembly(assembly, FACTS, form="fp32", folder=folder)


def test_changed_graphs_and_sheets_are_refused(written: Path, tmp_path: Path) -> None:
    """One byte more in a graph; one golden value moved; another shape."""
    for path in written.parent.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    sheet, graph = tmp_path / written.name, tmp_path / "liqe-score-fp32@1.onnx"
    table = json.loads(sheet.read_text())
    table["golden"]["liqe-score"]["values"][0] += 0.01
    sheet.write_text(json.dumps(table))
    with pytest.raises(VerifyError, match="golden values of liqe-score"):
        parts_verify.verify(sheet)
    graph.write_bytes(graph.read_bytes() + b"\0")
    with pytest.raises(VerifyError, match="sha256"):
        parts_verify.verify(sheet)


def options_of(tmp_path: Path, *words: str) -> argparse.Namespace:
    return command.parser().parse_args([*words, "--built", str(tmp_path / "built"), "--dtype", "fp32"])


def test_from_a_published_file_through_the_command(tmp_path: Path) -> None:
    """A file as published, with the slow pathway in it, becomes a graph of the fast one; the card says whence."""
    torch.manual_seed(2)
    table = dict(lively(FastPathway(SlowFastConfig())).state_dict())
    table["blocks.0.multipathway_blocks.0.conv.weight"] = torch.zeros(64, 3, 1, 7, 7)
    torch.save({"model_state": table}, tmp_path / "SLOWFAST_8x8_R50.pyth")
    words = ("slowfast_fast", "--weights", str(tmp_path / "SLOWFAST_8x8_R50.pyth"))
    feature_scorers.export(options_of(tmp_path, "export", *words))
    lines = feature_scorers.verify(options_of(tmp_path, "verify", *words))
    assert any(line.startswith("slowfast-fast against torch") for line in lines)
    said = feature_scorers.card(options_of(tmp_path, "card", "slowfast_fast"))
    assert "sha256 of SLOWFAST_8x8_R50.pyth" in said
    assert "nobody has said" in said


def test_weights_that_do_not_fit_are_refused_by_name() -> None:
    """One missing, one unknown, one of another shape; names written by several GPUs are known."""
    spec = published.FileSpec(make=lambda: FastVqa(CLIPS), ignored=published.KITS["fast_vqa"].files["fast_vqa"].ignored)
    good = {f"module.{name}": tensor for name, tensor in FastVqa(CLIPS).state_dict().items()}
    good["module.fragments_backbone.layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(1)
    shapes = {name: tuple(tensor.shape) for name, tensor in good.items()}
    published.fill(spec, good, shapes)
    bad = dict(shapes)
    bad["module.vqa_head.fc_last.bias"] = (2,)
    bad["module.vqa_head.fc_lost.bias"] = bad.pop("module.vqa_head.fc_hid.bias")
    said = (
        r"1 missing: vqa_head\.fc_hid\.bias; 1 not known: vqa_head\.fc_lost\.bias; "
        r"1 of another shape: vqa_head\.fc_last\.bias is \(2,\), not \(1,\)"
    )
    with pytest.raises(WeightsError, match=said):
        published.fill(spec, good, bad)


def test_missing_and_unknown_files_are_named(tmp_path: Path) -> None:
    """What a composite needs, and what it does not take."""
    with pytest.raises(WeightsError, match="rq_vqa needs weights of slowfast, fast_vqa, liqe: --part slowfast=FILE"):
        feature_scorers.prepare(options_of(tmp_path, "export", "rq_vqa", "--weights", "x.pth"))
    with pytest.raises(WeightsError, match="takes no weights of dover"):
        feature_scorers.prepare(options_of(tmp_path, "export", "liqe", "--weights", "x.pth", "--part", "dover=y"))
    with pytest.raises(WeightsError, match="write NAME=FILE"):
        feature_scorers.prepare(options_of(tmp_path, "export", "liqe", "--part", "liqe"))
    with pytest.raises(WeightsError, match="written as fp32 or fp16, not as int4"):
        feature_scorers.form_of(argparse.Namespace(name="liqe", dtype="int4"))


def test_parts_that_take_what_nobody_gives_are_refused() -> None:
    """A name that is neither a source nor an earlier part."""
    source = Source(name="picture", made="centre", side=8)
    part = Part(name="y", network=liqe.QualityOf(), takes=("pictures",))
    with pytest.raises(ValueError, match="takes 'pictures'; known before it: picture"):
        Assembly(name="x", version=1, sources=(source,), parts=(part,))


@pytest.mark.parametrize("name", list(published.KITS))
def test_every_kit_has_facts_and_a_licence(name: str) -> None:
    """What the sheet will say; nobody has said that any of these may be used commercially."""
    facts = published.facts_of(name)
    assert facts.licence.commercial is None
    assert "paper" in facts.provenance
