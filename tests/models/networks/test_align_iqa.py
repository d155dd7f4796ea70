"""The guided scorer: what guidance does, what is trained, and that its graphs say what it says."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from models.export.assembly import (  # noqa: E402
    composite,
    published,
    recipes,
)
from models.export.assembly.assembly import TextInput  # noqa: E402
from models.export.assembly.writer import write_assembly  # noqa: E402
from models.networks.align_iqa import (  # noqa: E402
    AlignIqa,
    AlignIqaConfig,
    ConcatAggregator,
    SeparableConv,
    TextImageConsistency,
    resize_maps,
)
from models.networks.backbones.clip import Clip, ClipConfig  # noqa: E402
from models.networks.backbones.swin import SwinConfig  # noqa: E402
from models.verify import assembly as parts_verify  # noqa: E402
from tests.scoring.tiny_onnx import decoded  # noqa: E402
from vqmon.scoring.manifests.composite_scorer import load_composite_spec  # noqa: E402
from vqmon.scoring.manifests.frame_scorer import golden_frames  # noqa: E402
from vqmon.scoring.runtime.graph import Placement  # noqa: E402
from vqmon.scoring.scorers.registry import ScorerOptions, open_scorers  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

SWIN = SwinConfig(
    frames=1, side=64, patch=(1, 4, 4), width=8, depths=(1, 2, 1), heads=(1, 2, 4), window=(1, 4, 4), gated_stages=0
)
CONFIG = AlignIqaConfig(swin=SWIN, width=16, guidance=4)
WORDS = ClipConfig(side=64, patch=16, width=64, depth=1, text_width=64, text_depth=1, joint=8, vocabulary=516)


@pytest.fixture
def network() -> AlignIqa:
    torch.manual_seed(0)
    net = AlignIqa(CONFIG)
    published.randomize_weights(net)
    return net.eval()


def pictures(count: int = 2) -> Any:
    return torch.randint(0, 256, (count, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))


def test_a_new_network_listens_to_its_backbone_alone() -> None:
    """Strengths start at 0: any guidance, or none, gives the same; the trained one tells them apart."""
    torch.manual_seed(0)
    net = AlignIqa(CONFIG).eval()
    left, right = torch.zeros(2, 1, 16, 16), torch.zeros(2, 1, 16, 16)
    left[..., :8], right[..., 8:] = 1, 1
    with torch.no_grad():
        maps = net.backbone(pictures())
        torch.testing.assert_close(net.score_maps(maps, left), net.score_maps(maps, None))
        for inject in net.injectors["natural"]:
            inject.strength.fill_(0.5)
        assert (net.score_maps(maps, left) - net.score_maps(maps, right)).abs().min() > 1e-5


def test_content_has_guidance_of_its_own(network: AlignIqa) -> None:
    """Saliency is made here; generated content needs a prompt's likeness, and is steered by other weights."""
    with torch.no_grad():
        natural = network(pictures())
        given = torch.rand(2, 2, 4, 4)
        assert not torch.allclose(network(pictures(), given, content="generated"), natural)
    assert ((natural > 0) & (natural < 1)).all()
    with pytest.raises(ValueError, match="similarity of patches to the prompt"):
        network(pictures(), content="generated")


def test_likeness_is_a_cosine_at_its_place() -> None:
    """A patch like the prompt is 1 where it lies, one unlike it -1; the whole picture's is everywhere."""
    prompt = torch.tensor([[3.0, 0.0]])
    tokens = torch.zeros(1, 1 + 9, 2)
    tokens[0, 0], tokens[0, 1 + 5], tokens[0, 1 + 6] = torch.tensor([[0.0, 2.0], [5.0, 0.0], [-1.0, 0.0]])
    actual = TextImageConsistency()(tokens, prompt)
    assert actual.shape == (1, 2, 3, 3)
    assert float(actual[0, 0, 1, 2]) == pytest.approx(1)
    assert float(actual[0, 0, 2, 0]) == pytest.approx(-1)
    assert actual[0, 1].abs().max() == 0


def test_only_what_is_new_is_trained(network: AlignIqa) -> None:
    """No gradient reaches the backbone; scores, injectors in use and the saliency decoder learn."""
    network.train()
    network(pictures()).sum().backward()
    assert all(each.grad is None for each in network.backbone.parameters())
    for part in (network.saliency, network.aggregator, network.quality, network.injectors["natural"]):
        assert all(each.grad is not None and each.grad.abs().sum() > 0 for each in part.parameters())


def test_kept_maps_give_the_same_score(network: AlignIqa) -> None:
    """The frozen backbone may run once: its maps and the saliency made of them give what pictures give."""
    with torch.no_grad():
        maps = network.backbone(pictures())
        torch.testing.assert_close(network.score_maps(maps, network.saliency(maps)), network(pictures()))


def test_wide_gaps_reach_far_with_few_weights() -> None:
    """One separable convolution of dilation 5 sees 11 places across, and has far fewer weights than a full one."""
    layer = SeparableConv(16, 16, dilation=5)
    seen = torch.zeros(1, 16, 21, 21, requires_grad=True)
    layer(seen)[0, :, 10, 10].sum().backward()
    assert seen.grad is not None
    rows = seen.grad.abs().sum((0, 1, 3)).nonzero().flatten().tolist()
    assert rows == [5, 10, 15]
    assert sum(each.numel() for each in layer.parameters()) < 16 * 16 * 9 / 4


def test_scales_can_be_left_out() -> None:
    """The ablation without the aggregator runs, with fewer weights."""
    torch.manual_seed(0)
    plain = AlignIqa(CONFIG, aggregator=ConcatAggregator(CONFIG)).eval()
    with torch.no_grad():
        assert plain(pictures()).shape == (2,)
    counts = [sum(each.numel() for each in net.aggregator.parameters()) for net in (plain, AlignIqa(CONFIG))]
    assert counts[0] < counts[1]


def test_maps_change_their_grid_without_losing_their_mean() -> None:
    """To a coarser grid by means of cells, to a finer one along lines; a flat map stays flat."""
    maps = torch.rand(1, 1, 8, 8)
    assert float(resize_maps(maps, 4).mean()) == pytest.approx(float(maps.mean()), abs=1e-6)
    assert float(resize_maps(maps, 4)[0, 0, 0, 0]) == pytest.approx(float(maps[0, 0, :2, :2].mean()), abs=1e-6)
    torch.testing.assert_close(resize_maps(torch.full((1, 1, 4, 4), 0.3), 8), torch.full((1, 1, 8, 8), 0.3))


def test_written_graphs_pass_every_check(network: AlignIqa, tmp_path: Path) -> None:
    """For generated content: CLIP's places, the prompt and the quality network, against torch, together and alone."""
    clip = Clip(WORDS)
    published.randomize_weights(clip)
    assembly = recipes.assemble_align_iqa_generated(network, clip=clip.eval())
    read = [
        replace(each, content=b"f o\nfo x</w>\n") if isinstance(each, TextInput) else each for each in assembly.inputs
    ]
    assembly = replace(assembly, inputs=tuple(read))
    sheet = write_assembly(assembly, published.read_scorer_facts("align_iqa"), precision="fp16", folder=tmp_path)
    lines = parts_verify.verify_assembly(sheet, assembly=assembly)
    assert any(line.startswith("align-iqa-generated against torch") for line in lines)


async def test_the_daemon_says_what_torch_says(network: AlignIqa, tmp_path: Path) -> None:
    """Through the daemon's own reader, self-test, batching and calibration."""
    assembly = recipes.assemble_align_iqa(network)
    sheet = write_assembly(assembly, published.read_scorer_facts("align_iqa"), precision="fp32", folder=tmp_path)
    manifest = composite.write_composite_manifest(sheet, composite.find_scale("align_iqa"))
    view = load_composite_spec(manifest).sources[0].input.view
    frames = golden_frames(view, seed=8, frames=3)
    terms = ScorerOptions(placement=Placement(device="cpu", threads=1))
    async with open_scorers(["align-iqa-fp32"], [tmp_path], terms) as (scorer,):
        score = await scorer.score(decoded(frames, view))
    with torch.inference_mode():
        expected = network(torch.from_numpy(frames).permute(0, 3, 1, 2)).numpy()
    assert score.frame_values == pytest.approx(list(100 * expected), abs=0.01)
    assert score.native_value == pytest.approx(float(expected.mean()), abs=1e-4)
