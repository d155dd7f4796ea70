"""Feature networks and the scorers that join them, from a checkpoint to graphs and a sheet, and their checks."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import onnx  # noqa: E402

from models import __main__ as command  # noqa: E402
from models.export.assembly import (  # noqa: E402
    composite,
    published,
    recipes,
)
from models.export.assembly.assembly import GraphAssembly, run_in_torch  # noqa: E402
from models.export.assembly.writer import write_assembly  # noqa: E402
from models.networks.backbones.bottleneck import BottleneckConfig  # noqa: E402
from models.networks.backbones.clip import ClipConfig, ClipVisual  # noqa: E402
from models.networks.backbones.convnext3d import ConvNextConfig  # noqa: E402
from models.networks.backbones.slowfast import FastPathway, SlowFast, SlowFastConfig  # noqa: E402
from models.networks.backbones.swin import SwinConfig  # noqa: E402
from models.networks.fragments.cover import Cover  # noqa: E402
from models.networks.fragments.dover import Dover  # noqa: E402
from models.networks.fragments.fast_vqa import FastVqa  # noqa: E402
from models.networks.pictures import liqe  # noqa: E402
from models.networks.sr_vqa import RqVqa, SrVqa, SrVqaConfig  # noqa: E402
from models.verify import assembly as parts_verify  # noqa: E402
from models.weights import WeightsError  # noqa: E402
from vqmon.errors import ScorerError  # noqa: E402
from vqmon.scoring.runtime.graph import Placement  # noqa: E402
from vqmon.scoring.scorers.registry import ScorerOptions, open_scorers  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]


CLIPS = SwinConfig(frames=8, side=56, width=8, depths=(2, 1), heads=(1, 2), window=(2, 7, 7), gated_stages=1)


# six steps in time, in windows of four
LONG = SwinConfig(frames=12, side=56, width=8, depths=(2, 1), heads=(1, 2), window=(4, 7, 7), gated_stages=1)


FLAT = SwinConfig(frames=8, side=56, width=8, depths=(1, 1), heads=(1, 2), window=(2, 7, 7), gated_stages=1)


PICTURES = SwinConfig(
    frames=1, side=64, patch=(1, 4, 4), width=8, depths=(2, 1), heads=(1, 2), window=(1, 4, 4), gated_stages=0
)


MOTION = SlowFastConfig(slow_width=8, fast_width=2, depths=(1, 1, 1, 1), classes=3)


WORDS = ClipConfig(patch=56, width=64, depth=1, joint=16)


WIDTHS = {"spatial": 16, "fast": 64, "llm": 12, "liqe": 495, "fastvqa": 16}


FACTS = published.read_scorer_facts("sr_vqa")


def lively(network: Any) -> Any:
    published.randomize_weights(network)
    return network.eval().requires_grad_(requires_grad=False)


def prompted_network() -> liqe.Liqe:
    sentences = torch.nn.functional.normalize(torch.randn(liqe.SENTENCE_COUNT, WORDS.joint), dim=-1)
    return lively(liqe.Liqe(WORDS, sentences, torch.tensor(3.0)))


def joined() -> GraphAssembly:
    """RQ-VQA and SR-VQA in one, so that what they share is there once."""
    shared = {"fast": lively(FastPathway(MOTION)), "fast_vqa": lively(FastVqa(FLAT)), "liqe": prompted_network()}
    bot = BottleneckConfig(width=16, inner=8, heads=2, head=4, side=8, depth=1)
    released = recipes.assemble_rq_vqa(lively(RqVqa(PICTURES, bot, features=WIDTHS)), **shared)
    ours = recipes.assemble_sr_vqa(lively(SrVqa(SrVqaConfig(features=WIDTHS, swin=PICTURES, hidden=8))), **shared)
    last = [part for part in released.parts if part.name in ("rq-vqa-spatial", "rq-vqa")]
    return GraphAssembly(name="both", version=1, inputs=ours.inputs, parts=(*ours.parts, *last))


def small(assembly: GraphAssembly) -> GraphAssembly:
    """Motion at 64 pixels a side."""
    inputs = tuple(recipes.motion_input(64) if each.name == recipes.MOTION else each for each in assembly.inputs)
    return GraphAssembly(name=assembly.name, version=assembly.version, inputs=inputs, parts=assembly.parts)


BUILD = {
    "slowfast": lambda: recipes.assemble_slowfast(lively(SlowFast(MOTION))),
    "fast_vqa": lambda: recipes.assemble_fast_vqa(lively(FastVqa(CLIPS))),
    "dover": lambda: recipes.assemble_dover(lively(Dover(FLAT, ConvNextConfig(widths=(8, 16), depths=(3, 1))))),
    "cover": lambda: recipes.assemble_cover(
        lively(Cover(LONG, ConvNextConfig(widths=(8, 16), depths=(3, 1)))),
        clip=lively(ClipVisual(WORDS)),
        semantic_side=112,
    ),
    "liqe": lambda: recipes.assemble_liqe(prompted_network()),
}


def make(name: str) -> GraphAssembly:
    torch.manual_seed(0)
    return small(BUILD[name]())


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        ("slowfast", "fp32"),
        ("fast_vqa", "fp32"),
        ("fast_vqa", "fp16"),
        ("dover", "fp32"),
        ("cover", "fp32"),
        ("cover", "fp16"),
        ("liqe", "fp16"),
    ],
)
def test_written_networks_pass_every_check(tmp_path: Path, name: str, precision: str) -> None:
    """Hashes, nodes, golden values, rows together and alone, and torch within 1e-4 or 5e-3."""
    assembly = make(name)
    lines = parts_verify.verify_assembly(
        write_assembly(assembly, FACTS, precision=precision, folder=tmp_path), assembly=assembly
    )
    assert sum("against torch" in line for line in lines) == len(assembly.parts)
    assert sum("none of NonZero" in line for line in lines) == len(assembly.parts)
    for path in tmp_path.glob("*.onnx"):
        onnx.checker.check_model(str(path))
        content = path.read_bytes()
        assert str(Path(command.__file__).parents[2]).encode() not in content
        assert b"site-packages" not in content


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[GraphAssembly, Path]:
    """Two composites over shared graphs, written."""
    torch.manual_seed(0)
    assembly = small(joined())
    return assembly, write_assembly(assembly, FACTS, precision="fp32", folder=tmp_path_factory.mktemp("both"))


def test_composites_say_in_onnx_what_they_say_in_torch(both: tuple[GraphAssembly, Path]) -> None:
    """Graphs in a chain; the last ones' answers are the networks' own, from pixels and features: one per segment of
    RQ-VQA, one per unit of SR-VQA."""
    assembly, sheet = both
    lines = parts_verify.verify_assembly(sheet, assembly=assembly)
    assert sum("against torch" in line for line in lines) == len(assembly.parts) == 7
    runner, given = parts_verify.AssemblyRunner(sheet), assembly.golden(3, seed=5)
    output, expected = runner.run(given), run_in_torch(assembly, given)
    for name, shape in (("rq-vqa", (1,)), ("sr-vqa", (3,))):
        assert output[name].shape == shape
        np.testing.assert_allclose(output[name], expected[name], rtol=1e-4, atol=1e-5)


def test_the_chain_of_graphs_is_the_network_as_trained(both: tuple[GraphAssembly, Path]) -> None:
    """SR-VQA called as one network, features by hand, gives what its graphs give."""
    assembly, sheet = both
    given = assembly.golden(2, seed=9)
    values = parts_verify.AssemblyRunner(sheet).run(given)
    parts = {part.name: part.network for part in assembly.parts}
    net = SrVqa(SrVqaConfig(features=WIDTHS, swin=PICTURES, hidden=8)).eval()
    net.spatial, net.regression = parts["sr-vqa-spatial"], parts["sr-vqa"]  # type: ignore[assignment]
    names = ("slowfast-fast", "llm", "liqe-logits", "fast-vqa-features")
    features = [torch.from_numpy(np.asarray(values[name])) for name in names]
    with torch.inference_mode():
        actual = net(torch.from_numpy(np.asarray(given["picture"])), *features)
    np.testing.assert_allclose(values["sr-vqa"], actual.numpy(), rtol=1e-4, atol=1e-5)


def test_parts_are_the_same_file_whichever_scorer_they_serve(both: tuple[GraphAssembly, Path], tmp_path: Path) -> None:
    """The fast pathway's graph, written by itself and for composites, has one hash: it is computed once."""
    assembly, sheet = both
    fast = next(part for part in assembly.parts if part.name == "slowfast-fast")
    alone = GraphAssembly(name="slowfast-fast", version=1, inputs=(recipes.motion_input(64),), parts=(fast,))
    write_assembly(alone, FACTS, precision="fp32", folder=tmp_path)
    file = "slowfast-fast-fp32@1.onnx"
    assert (tmp_path / file).read_bytes() == (sheet.parent / file).read_bytes()


async def test_the_daemon_opens_what_is_written(tmp_path: Path) -> None:
    """A manifest for the daemon passes the daemon's own reader, and its self-test: five graphs over clips, fused."""
    sheet = write_assembly(make("dover"), FACTS, precision="fp32", folder=tmp_path)
    manifest = composite.write_composite_manifest(sheet, composite.find_scale("dover"))
    terms = ScorerOptions(placement=Placement(device="cpu", threads=1))
    async with open_scorers(["dover-fp32"], [tmp_path], terms) as (scorer,):
        assert scorer.id == "dover-fp32@1"
    table = json.loads(manifest.read_text())
    table["golden"]["output"][0] += 0.01
    manifest.write_text(json.dumps(table))
    with pytest.raises(ScorerError, match="self-test"):
        async with open_scorers(["dover-fp32"], [tmp_path], terms):
            pass


def test_features_and_borrowed_features_are_no_scorers(both: tuple[GraphAssembly, Path]) -> None:
    """A network without a scale, and a composite that takes what no decoder gives."""
    with pytest.raises(WeightsError, match=r"rq_vqa has no scale.*--scale FILE\.toml"):
        composite.find_scale("rq_vqa")
    with pytest.raises(WeightsError, match="takes llm of another scorer's graph"):
        composite.write_composite_manifest(both[1], composite.find_scale("sr_vqa"))
