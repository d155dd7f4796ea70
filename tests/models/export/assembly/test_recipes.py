"""Recipes of published scorers: their inputs, which graph takes what, and which graphs are shared."""

from dataclasses import replace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from models.export.assembly import recipes  # noqa: E402
from models.export.assembly.assembly import FeatureInput, GraphAssembly, PixelInput, TextInput  # noqa: E402
from models.networks.align_iqa import AlignIqa, AlignIqaConfig  # noqa: E402
from models.networks.backbones.bottleneck import BottleneckConfig  # noqa: E402
from models.networks.backbones.clip import Clip, ClipConfig, ClipVisual  # noqa: E402
from models.networks.backbones.convnext3d import ConvNextConfig  # noqa: E402
from models.networks.backbones.slowfast import FastPathway, SlowFast, SlowFastConfig  # noqa: E402
from models.networks.backbones.swin import SwinConfig  # noqa: E402
from models.networks.fragments.cover import Cover  # noqa: E402
from models.networks.fragments.dover import FUSIONS, Dover  # noqa: E402
from models.networks.fragments.fast_vqa import FastVqa  # noqa: E402
from models.networks.pictures import liqe  # noqa: E402
from models.networks.sr_vqa import RqVqa, SrVqa, SrVqaConfig  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

CLIPS = SwinConfig(frames=8, side=56, width=8, depths=(1, 1), heads=(1, 2), window=(2, 7, 7), gated_stages=1)
PICTURES = SwinConfig(
    frames=1, side=64, patch=(1, 4, 4), width=8, depths=(2, 1), heads=(1, 2), window=(1, 4, 4), gated_stages=0
)
MOTION = SlowFastConfig(slow_width=8, fast_width=2, depths=(1, 1, 1, 1), classes=3)
PATCHES = ClipConfig(patch=56, width=64, depth=1, joint=16)
WIDTHS = {"spatial": 16, "fast": 64, "llm": 12, "liqe": 495, "fastvqa": 16}
LEAN_WIDTHS = {name: width for name, width in WIDTHS.items() if name != "llm"}
ALIGN = AlignIqaConfig(swin=replace(PICTURES, depths=(1, 2, 1), heads=(1, 2, 4)), width=16, guidance=4)
PROMPTS = ClipConfig(side=64, patch=16, width=64, depth=1, text_width=64, text_depth=1, joint=8, vocabulary=516)

MOTION_INPUT = PixelInput(name="motion", transform="stretch", side=224, order="NCTHW", pictures=32)
FRAGMENTS_INPUT = PixelInput(name="fragments", transform="fragments", side=56, order="NCTHW", pictures=8, stride=2)
WINDOWS_INPUT = PixelInput(name="windows", transform="windows", side=224, order="NKCHW", pictures=15)
PICTURE_INPUT = PixelInput(name="picture", transform="centre", side=64)


@pytest.fixture(scope="module")
def shared_networks() -> dict[str, Any]:
    torch.manual_seed(0)
    sentences = torch.nn.functional.normalize(torch.randn(liqe.SENTENCE_COUNT, PATCHES.joint), dim=-1)
    return {
        "fast": FastPathway(MOTION),
        "fast_vqa": FastVqa(CLIPS),
        "liqe": liqe.Liqe(PATCHES, sentences, torch.tensor(3.0)),
    }


def takes_of(assembly: GraphAssembly) -> dict[str, tuple[str, ...]]:
    return {part.name: part.takes for part in assembly.parts}


def segment_parts(assembly: GraphAssembly) -> list[str]:
    return [part.name for part in assembly.parts if part.each == "segment"]


def sr_vqa(widths: dict[str, int]) -> SrVqa:
    return SrVqa(SrVqaConfig(features=widths, swin=PICTURES, hidden=8))


def test_inputs_have_their_sizes_and_axes() -> None:
    """Motion, fragments, windows and pictures at the sizes of the networks that take them."""
    assert recipes.motion_input() == MOTION_INPUT
    assert recipes.motion_input(64) == replace(MOTION_INPUT, side=64)
    assert recipes.fragments_input(CLIPS) == FRAGMENTS_INPUT
    assert recipes.windows_input() == WINDOWS_INPUT
    assert recipes.centre_input(PICTURES) == PICTURE_INPUT


def test_slowfast_and_its_fast_pathway_take_motion(shared_networks: dict[str, Any]) -> None:
    whole = recipes.assemble_slowfast(SlowFast(MOTION), side=64, version=2)
    assert (whole.name, whole.version, takes_of(whole)) == ("slowfast", 2, {"slowfast": ("motion",)})
    assert whole.inputs == (replace(MOTION_INPUT, side=64),)
    fast = recipes.assemble_slowfast_fast(shared_networks["fast"], version=3)
    assert (fast.name, fast.version, takes_of(fast)) == ("slowfast-fast", 3, {"slowfast-fast": ("motion",)})
    assert fast.inputs == (MOTION_INPUT,)


def test_fast_vqa_scores_its_feature_maps(shared_networks: dict[str, Any]) -> None:
    assembly = recipes.assemble_fast_vqa(shared_networks["fast_vqa"])
    assert assembly.inputs == (FRAGMENTS_INPUT,)
    assert takes_of(assembly) == {"fast-vqa-features": ("fragments",), "fast-vqa-score": ("fast-vqa-features",)}
    assert segment_parts(assembly) == []


def test_liqe_scores_its_logits(shared_networks: dict[str, Any]) -> None:
    assembly = recipes.assemble_liqe(shared_networks["liqe"])
    assert assembly.inputs == (WINDOWS_INPUT,)
    assert takes_of(assembly) == {"liqe-logits": ("windows",), "liqe-score": ("liqe-logits",)}


def test_dover_fuses_both_sides_of_a_segment() -> None:
    """The aesthetic side sees the frames of the fragments, resized; only the fused score is of the segment."""
    dover = Dover(CLIPS, ConvNextConfig(widths=(8, 16), depths=(1, 1)))
    assembly = recipes.assemble_dover(dover)
    assert assembly.inputs == (FRAGMENTS_INPUT, replace(FRAGMENTS_INPUT, name="squeezed", transform="stretch"))
    assert takes_of(assembly) == {
        "dover-technical-features": ("fragments",),
        "dover-technical": ("dover-technical-features",),
        "dover-aesthetic-features": ("squeezed",),
        "dover-aesthetic": ("dover-aesthetic-features",),
        "dover": ("dover-technical", "dover-aesthetic"),
    }
    assert segment_parts(assembly) == ["dover"]


def test_dover_fuses_as_chosen() -> None:
    """The fused scores of the same sides differ between the published fusions; another name is refused."""
    dover = Dover(CLIPS, ConvNextConfig(widths=(8, 16), depths=(1, 1)))
    sides = torch.tensor([[0.05]]), torch.tensor([[-0.02]])
    scores = {
        fusion: recipes.assemble_dover(dover, fusion=fusion).parts[-1].network(*sides).item() for fusion in FUSIONS
    }
    assert scores["by-name"] == recipes.assemble_dover(dover).parts[-1].network(*sides).item()
    assert len({round(score, 4) for score in scores.values()}) == len(FUSIONS) == 3
    with pytest.raises(KeyError, match="by-file"):
        recipes.assemble_dover(dover, fusion="by-file")


def test_cover_adds_up_three_sides_of_a_clip() -> None:
    """The semantic side sees, one at a time, the first of each pair of frames that make a step in time."""
    network = Cover(CLIPS, ConvNextConfig(widths=(8, 16), depths=(1, 1)))
    assembly = recipes.assemble_cover(network, clip=ClipVisual(PATCHES))
    assert assembly.inputs == (
        FRAGMENTS_INPUT,
        replace(FRAGMENTS_INPUT, name="squeezed", transform="stretch"),
        PixelInput(name="frames", transform="stretch", side=512, order="NKCHW", pictures=4, stride=4),
    )
    assert takes_of(assembly) == {
        "cover-semantic-vectors": ("frames",),
        "cover-semantic": ("cover-semantic-vectors",),
        "cover-technical-features": ("fragments",),
        "cover-technical": ("cover-semantic-vectors", "cover-technical-features"),
        "cover-aesthetic-features": ("squeezed",),
        "cover-aesthetic": ("cover-semantic-vectors", "cover-aesthetic-features"),
        "cover": ("cover-semantic", "cover-technical", "cover-aesthetic"),
    }
    assert [part.name for part in assembly.parts if part.each == "picture"] == ["cover-semantic-vectors"]
    assert segment_parts(assembly) == []


def test_rq_vqa_scores_a_segment_from_five_features(shared_networks: dict[str, Any]) -> None:
    bottleneck = BottleneckConfig(width=16, inner=8, heads=2, head=4, side=8, depth=1)
    assembly = recipes.assemble_rq_vqa(RqVqa(PICTURES, bottleneck, features=WIDTHS), **shared_networks)
    llm = FeatureInput(name="llm", shape=(12,))
    assert assembly.inputs == (PICTURE_INPUT, MOTION_INPUT, FRAGMENTS_INPUT, WINDOWS_INPUT, llm)
    assert takes_of(assembly) == {
        "rq-vqa-spatial": ("picture",),
        "slowfast-fast": ("motion",),
        "fast-vqa-features": ("fragments",),
        "liqe-logits": ("windows",),
        "rq-vqa": ("rq-vqa-spatial", "slowfast-fast", "llm", "liqe-logits", "fast-vqa-features"),
    }
    assert segment_parts(assembly) == ["rq-vqa"]


def test_sr_vqa_scores_each_unit(shared_networks: dict[str, Any]) -> None:
    assembly = recipes.assemble_sr_vqa(sr_vqa(WIDTHS), **shared_networks, version=4)
    assert (assembly.name, assembly.version) == ("sr-vqa", 4)
    assert assembly.inputs[-1] == FeatureInput(name="llm", shape=(12,))
    last = assembly.parts[-1]
    assert last.name == "sr-vqa"
    assert last.takes == ("sr-vqa-spatial", "slowfast-fast", "llm", "liqe-logits", "fast-vqa-features")
    assert segment_parts(assembly) == []


def test_lean_sr_vqa_needs_no_language_model(shared_networks: dict[str, Any]) -> None:
    assembly = recipes.assemble_sr_vqa(sr_vqa(LEAN_WIDTHS), **shared_networks)
    assert assembly.name == "sr-vqa-lean"
    assert assembly.inputs == (PICTURE_INPUT, MOTION_INPUT, FRAGMENTS_INPUT, WINDOWS_INPUT)
    last = assembly.parts[-1]
    assert last.name == "sr-vqa-lean"
    assert last.takes == ("sr-vqa-lean-spatial", "slowfast-fast", "liqe-logits", "fast-vqa-features")


def test_fusion_takes_the_features_in_the_networks_order(shared_networks: dict[str, Any]) -> None:
    """The regression concatenates its arguments in the order of the configured features."""
    turned = {name: LEAN_WIDTHS[name] for name in ("fastvqa", "spatial", "liqe", "fast")}
    last = recipes.assemble_sr_vqa(sr_vqa(turned), **shared_networks).parts[-1]
    assert last.takes == ("fast-vqa-features", "sr-vqa-lean-spatial", "liqe-logits", "slowfast-fast")


def test_composites_share_graphs_with_the_scorers_that_own_them(shared_networks: dict[str, Any]) -> None:
    """The same name, input and weights, so that one file serves both and is computed once."""
    composite = {part.name: part for part in recipes.assemble_sr_vqa(sr_vqa(WIDTHS), **shared_networks).parts}
    owners = [
        recipes.assemble_slowfast_fast(shared_networks["fast"]).parts[0],
        recipes.assemble_fast_vqa(shared_networks["fast_vqa"]).parts[0],
        recipes.assemble_liqe(shared_networks["liqe"]).parts[0],
    ]
    assert [part.name for part in owners] == ["slowfast-fast", "fast-vqa-features", "liqe-logits"]
    for part in owners:
        shared = composite[part.name]
        assert (shared.takes, shared.each) == (part.takes, part.each)
        state, expected = shared.network.state_dict(), part.network.state_dict()
        assert state.keys() == expected.keys()
        assert all(state[name].data_ptr() == expected[name].data_ptr() for name in state)


def test_align_iqa_takes_the_picture_alone() -> None:
    assembly = recipes.assemble_align_iqa(AlignIqa(ALIGN))
    assert assembly.inputs == (PICTURE_INPUT,)
    assert takes_of(assembly) == {"align-iqa": ("picture",)}


def test_align_iqa_of_generated_pictures_takes_the_prompt() -> None:
    """CLIP sees the picture at its own size, and the prompt as token ids."""
    assembly = recipes.assemble_align_iqa_generated(AlignIqa(ALIGN), clip=Clip(PROMPTS))
    clip_input = PixelInput(name="clip_picture", transform="centre", side=64)
    prompt = TextInput(name="prompt", ids=516, tokens=PROMPTS.context)
    assert assembly.inputs == (PICTURE_INPUT, clip_input, prompt)
    assert takes_of(assembly) == {
        "clip-places": ("clip_picture",),
        "clip-text": ("prompt",),
        "align-iqa-generated": ("picture", "clip-places", "clip-text"),
    }
