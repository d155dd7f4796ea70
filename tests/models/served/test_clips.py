"""Scorers over clips in the daemon: a real decode and real graphs say what torch says of the same pixels."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from models.export.assembly import (  # noqa: E402
    composite,
    published,
    recipes,
    writer,
)
from models.export.assembly.assembly import FeatureInput, GraphAssembly, run_in_torch  # noqa: E402  # noqa: E402
from models.networks.backbones.clip import ClipConfig, ClipVisual  # noqa: E402
from models.networks.backbones.convnext3d import ConvNextConfig  # noqa: E402
from models.networks.backbones.slowfast import FastPathway, SlowFastConfig  # noqa: E402
from models.networks.backbones.swin import SwinConfig  # noqa: E402
from models.networks.fragments.cover import Cover  # noqa: E402
from models.networks.fragments.dover import Dover  # noqa: E402
from models.networks.fragments.fast_vqa import FastVqa  # noqa: E402
from models.networks.pictures import liqe  # noqa: E402
from models.networks.sr_vqa import SrVqa, SrVqaConfig  # noqa: E402
from pipelines.observe.open_scorers import open_scorer_tiers  # noqa: E402
from tests.media.clips import clip, x264  # noqa: E402
from tests.models import published_fragments as fragments  # noqa: E402
from vqmon.core.calibration import Calibration  # noqa: E402
from vqmon.core.frames import fragment_origins, window_corners  # noqa: E402
from vqmon.core.types import DecodedSegment  # noqa: E402
from vqmon.media.decode.pool import DecoderPool  # noqa: E402
from vqmon.scoring.runtime.graph import Placement  # noqa: E402
from vqmon.scoring.scorers.registry import ScorerOptions, open_scorers  # noqa: E402
from vqmon.settings.scoring import ScoringSettings  # noqa: E402
from vqmon.telemetry.metrics import Meters  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]


CLIPS = SwinConfig(frames=8, side=56, width=8, depths=(1, 1), heads=(1, 2), window=(2, 7, 7), gated_stages=1)


PICTURES = SwinConfig(
    frames=1, side=64, patch=(1, 4, 4), width=8, depths=(2, 1), heads=(1, 2), window=(1, 4, 4), gated_stages=0
)


MOTION = SlowFastConfig(slow_width=8, fast_width=2, depths=(1, 1, 1, 1), classes=3)


WORDS = ClipConfig(patch=56, width=64, depth=1, joint=16)


WIDTHS = {"spatial": 16, "fast": 64, "liqe": 495, "fastvqa": 16}


MEDIA = {
    "h264": clip(*x264(), seconds=2.4, size="640x360"),
    "short": clip(*x264(), seconds=0.2),
    "variable-rate": clip(
        *x264("-vf", "select='not(mod(n\\,7))+lt(n\\,20)'", "-fps_mode", "vfr"), seconds=4, container="mp4"
    ),
    "odd-size": clip(
        *x264("-vf", "scale=321:241,setsar=1,format=yuv444p", "-pix_fmt", "yuv444p"), seconds=1.5, container="mp4"
    ),
}


def lively(network: Any) -> Any:
    published.randomize_weights(network)
    return network.eval().requires_grad_(requires_grad=False)


def lean(clips: FastVqa) -> GraphAssembly:
    sentences = torch.nn.functional.normalize(torch.randn(liqe.SENTENCE_COUNT, WORDS.joint), dim=-1)
    liqe_network = lively(liqe.Liqe(WORDS, sentences, torch.tensor(3.0)))
    network = lively(SrVqa(SrVqaConfig(features=WIDTHS, swin=PICTURES, hidden=8)))
    whole = recipes.assemble_sr_vqa(network, fast=lively(FastPathway(MOTION)), fast_vqa=clips, liqe=liqe_network)
    inputs = tuple(recipes.motion_input(64) if each.name == recipes.MOTION else each for each in whole.inputs)
    return GraphAssembly(name=whole.name, version=whole.version, inputs=inputs, parts=whole.parts)


def build() -> dict[str, GraphAssembly]:
    """Two of them over the same features."""
    torch.manual_seed(0)
    clips = lively(FastVqa(CLIPS))
    return {
        "sr_vqa_lean": lean(clips),
        "fast_vqa": recipes.assemble_fast_vqa(clips),
        "dover": recipes.assemble_dover(lively(Dover(CLIPS, ConvNextConfig(widths=(8, 16), depths=(3, 1))))),
        "cover": recipes.assemble_cover(
            lively(Cover(CLIPS, ConvNextConfig(widths=(8, 16), depths=(3, 1)))), clip=lively(ClipVisual(WORDS)),
            semantic_side=112,
        ),
    }  # fmt: skip


def scale_of(name: str) -> composite.ScoreScale:
    """COVER's scores have no range of their own."""
    own = composite.ScoreScale(native_range=(-5, 5), calibration=Calibration(version=1, points=((-5, 0), (5, 100))))
    return own if name == "cover" else composite.find_scale(name)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, GraphAssembly]]:
    """Four scorers, written as `python -m models export` writes them."""
    folder, made = tmp_path_factory.mktemp("served"), build()
    for name, assembly in made.items():
        sheet = writer.write_assembly(assembly, published.read_scorer_facts(name), precision="fp32", folder=folder)
        assert composite.is_servable(sheet, name) == (name != "cover")
        composite.write_composite_manifest(sheet, scale_of(name))
    return folder, made


def pixels_of(assembly: GraphAssembly, decoded: DecodedSegment) -> dict[str, np.ndarray]:
    """The rows of every source as torch takes them."""
    pixel_rows = {}
    for source in assembly.inputs:
        assert not isinstance(source, FeatureInput)
        pixels = decoded.views[composite.view_of_input(source)]
        axes = {"NCHW": (0, 3, 1, 2), "NCTHW": (0, 4, 1, 2, 3), "NKCHW": (0, 1, 4, 2, 3)}[source.order]
        pixel_rows[source.name] = np.ascontiguousarray(pixels.transpose(axes))
    return pixel_rows


@pytest.mark.parametrize("media", MEDIA)
async def test_a_segment_is_scored_as_torch_scores_its_pixels(
    served: tuple[Path, dict[str, GraphAssembly]], media: str
) -> None:
    """Lean SR-VQA, FAST-VQA, DOVER and COVER look at one decode, of whole, short and odd segments."""
    folder, made = served
    names = [f"{assembly.name}-fp32" for assembly in made.values()]
    async with (
        DecoderPool(1) as pool,
        open_scorers(names, [folder], ScorerOptions(placement=Placement(device="cpu"))) as scorers,
    ):
        views = tuple(dict.fromkeys(view for scorer in scorers for view in scorer.views))
        decoded = await pool.decode(MEDIA[media], views=views)
        scores = {name: await scorer.score(decoded) for name, scorer in zip(made, scorers, strict=True)}
    for name, assembly in made.items():
        torch_scores = np.ravel(run_in_torch(assembly, pixels_of(assembly, decoded))[assembly.parts[-1].name])
        points = scale_of(name).calibration
        assert scores[name].native_value == pytest.approx(torch_scores.mean(), rel=1e-4, abs=1e-5)
        expected = [points.apply(each) for each in np.broadcast_to(torch_scores, len(decoded.times_seconds)).tolist()]
        assert scores[name].frame_values == pytest.approx(expected, abs=0.02)


async def test_features_of_a_clip_are_computed_once(served: tuple[Path, dict[str, GraphAssembly]]) -> None:
    """FAST-VQA after lean SR-VQA runs its last graph alone, a row at a time on a CPU: three clips, three runs."""
    runs: list[float] = []
    terms = ScorerOptions(placement=Placement(device="cpu"), on_run=runs.append)
    async with (
        DecoderPool(1) as pool,
        open_scorers(["sr-vqa-lean-fp32", "fast-vqa-fp32"], [served[0]], terms) as (lean, fast),
    ):
        decoded = await pool.decode(MEDIA["h264"], views=list({*lean.views, *fast.views}))
        await lean.score(decoded)
        before = len(runs)
        await fast.score(decoded)
    assert (before, len(runs) - before) == (5 * 3, 3)


async def test_the_daemon_opens_them_beside_a_cheap_scorer(served: tuple[Path, dict[str, GraphAssembly]]) -> None:
    """No refusal at start, and each view asked for once."""
    settings = ScoringSettings(
        scorers=("lite", "fast-vqa-fp32"), heavy=("sr-vqa-lean-fp32",), folders=(served[0],), device="cpu",
        allow_noncommercial=True,
    )  # fmt: skip
    async with open_scorer_tiers(settings, meters=Meters()) as tiers:
        assert tiers.heavy is not None
        assert set(tiers.scorers[1].views) < set(tiers.heavy.scorers[0].views)


def published_windows(height: int, width: int) -> list[tuple[int, int]]:
    """LIQE's windows: every 32 px, row by row; fifteen at equal steps from the first, around the end if need be."""
    tops, lefts = range(0, height - 223, 32), range(0, width - 223, 32)
    windows = [(top, left) for top in tops for left in lefts]
    step = max(1, len(windows) // 15)
    return [windows[index * step % len(windows)] for index in range(15)]


@pytest.mark.parametrize(("height", "width"), [(224, 224), (225, 398), (360, 640), (541, 961), (2160, 3840)])
@pytest.mark.parametrize("seed", [0, 7, 2**32 - 1])
def test_both_sides_cut_alike(height: int, width: int, seed: int) -> None:
    """The decoder's pieces and windows start where the torch side's start, which recorded outputs hold to account."""
    ours = fragment_origins(height, width, rows=7, columns=7, side=(32, 32), seed=seed)
    np.testing.assert_array_equal(ours, fragments.origins(height, width, groups=1, seed=seed)[:, :, 0])
    assert window_corners(height, width, size=(224, 224), count=15) == published_windows(height, width)
