"""Full SR-VQA and RQ-VQA in the daemon: both halves of a frame, Q-Align's own encoder, its hidden state, the fusion."""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from PIL import Image  # noqa: E402

from models import __main__ as command  # noqa: E402
from models.commands import feature_scorers  # noqa: E402
from models.commands import owl as owl_command  # noqa: E402
from models.export import owl_hidden  # noqa: E402
from models.export.assembly import composite, published  # noqa: E402
from models.export.assembly.assembly import FeatureInput, GraphAssembly, run_in_torch  # noqa: E402
from models.networks.backbones.bottleneck import BottleneckConfig  # noqa: E402
from models.networks.backbones.clip import Clip, ClipConfig  # noqa: E402
from models.networks.backbones.slowfast import FastPathway, SlowFastConfig  # noqa: E402
from models.networks.backbones.swin import SwinConfig  # noqa: E402
from models.networks.fragments.fast_vqa import FastVqa  # noqa: E402
from models.networks.owl import q_align  # noqa: E402
from models.networks.sr_vqa import RqVqa, SrVqa, SrVqaConfig  # noqa: E402
from models.weights import HuggingFace, WeightsError  # noqa: E402
from tests.models.owl_weights import CONFIG, network, random_weights  # noqa: E402
from vqmon.core.types import DecodedSegment, View  # noqa: E402
from vqmon.media.decode.pool import DecoderPool  # noqa: E402
from vqmon.scoring.runtime.graph import Placement  # noqa: E402
from vqmon.scoring.scorers.registry import ScorerOptions, open_scorers  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]


CPU = ScorerOptions(placement=Placement(device="cpu"))


CLIPS = SwinConfig(frames=8, side=56, width=8, depths=(1, 1), heads=(1, 2), window=(2, 7, 7), gated_stages=1)


PICTURES = SwinConfig(
    frames=1, side=64, patch=(1, 4, 4), width=8, depths=(2, 1), heads=(1, 2), window=(1, 4, 4), gated_stages=0
)


MOTION = SlowFastConfig(slow_width=8, fast_width=2, depths=(1, 1, 1, 1), classes=3)


WORDS = ClipConfig(patch=56, width=64, depth=1, text_width=64, text_depth=1, joint=16)


WIDTHS = {"spatial": 16, "fast": 64, "llm": CONFIG.language.width, "liqe": 495, "fastvqa": 16}


BOT = BottleneckConfig(width=16, inner=8, heads=2, head=4, side=8, depth=1)


MAKE = {
    "sr_vqa": lambda: SrVqa(SrVqaConfig(features=WIDTHS, swin=PICTURES, hidden=8)),
    "rq_vqa": lambda: RqVqa(PICTURES, BOT, features=WIDTHS),
    "slowfast": lambda: FastPathway(MOTION),
    "fast_vqa": lambda: FastVqa(CLIPS),
    "liqe": lambda: Clip(WORDS),
}


SCALE = "native_range = [-5.0, 5.0]\npoints = [[-5.0, 0.0], [0.0, 40.0], [5.0, 100.0]]\n"


NAMES = ("sr-vqa-fp32", "rq-vqa-fp32")


@dataclass(frozen=True, kw_only=True)
class Built:
    """What the command wrote of small networks."""

    folder: Path
    assemblies: dict[str, GraphAssembly]
    weights: dict[str, Any]


def small_kits() -> dict[str, published.PublishedScorer]:
    """The published kits over small networks."""
    return {
        name: replace(kit, files={key: replace(spec, build=MAKE[key]) for key, spec in kit.files.items()})
        for name, kit in published.PUBLISHED_SCORERS.items()
        if name in ("sr_vqa", "rq_vqa")
    }


def options_of(folder: Path, *arguments: str) -> argparse.Namespace:
    return command.build_parser().parse_args([*arguments, "--built", str(folder), "--dtype", "fp32"])


def export_words(folder: Path, name: str) -> tuple[str, ...]:
    parts = (word for key in ("slowfast", "fast_vqa", "liqe") for word in ("--part", f"{key}={folder / key}.pt"))
    return (name, "--weights", str(folder / f"{name}.pt"), *parts)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    """Q-Align, its hidden state, and both scorers over it, through the command."""
    folder = tmp_path_factory.mktemp("hidden")
    weights = random_weights()
    torch.save(weights, folder / "owl.pt")
    for at, (key, make) in enumerate(MAKE.items()):
        torch.manual_seed(at)
        made = make()
        published.randomize_weights(made)
        torch.save(made.state_dict(), folder / f"{key}.pt")
    (folder / "scale.toml").write_text(SCALE)
    owl = ("--weights", str(folder / "owl.pt"), "--allow-noncommercial")
    environment = owl_command.ExportEnvironment(config=CONFIG, hub=HuggingFace(folder))
    owl_command.export(options_of(folder, "export", "q_align", *owl), environment)
    sheet = feature_scorers.export_hidden_state(
        options_of(folder, "export", "q_align_hidden", *owl), published.read_scorer_facts("q_align_hidden"), CONFIG
    )
    results = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(published, "PUBLISHED_SCORERS", small_kits())
        for name in published.PUBLISHED_SCORERS:
            scale = ("--scale", str(folder / "scale.toml")) if name == "rq_vqa" else ()
            arguments = (*export_words(folder, name), "--part", f"q_align_hidden={sheet}", *scale)
            options = options_of(folder, "export", *arguments)
            feature_scorers.export(options)
            assert "llm against torch" not in "\n".join(
                feature_scorers.verify(options_of(folder, "verify", *arguments))
            )
            results[name] = feature_scorers.build_assembly(options)[0]
        yield Built(folder=folder, assemblies=results, weights=weights)


async def seen(clip: Path, *views: View) -> DecodedSegment:
    media = clip.read_bytes()  # noqa: ASYNC240 - a test waits for nobody
    async with DecoderPool(1) as pool:
        return await pool.decode(media, views=list(dict.fromkeys(views)))


def expected_of(built: Built, name: str, decoded: DecodedSegment) -> Any:
    """What torch says of the decoder's pixels, Q-Align's plain network of the halves first."""
    net, given = network(built.weights), {}
    halves = decoded.views[View(kind="halves", width=448, height=448, pad_rgb=q_align.PAD_RGB)]
    with torch.inference_mode():
        rows = []
        for unit in halves:
            features = net.encode_pictures(torch.from_numpy(q_align.normalise_pictures(unit)))
            rows.append(
                torch.stack(
                    [net.hidden_states(owl_hidden.HIDDEN_STATE_PROMPT, [frame[None]])[0].mean(0) for frame in features]
                )
            )
        given["llm"] = torch.stack(rows).mean(1).numpy()
    for source in built.assemblies[name].inputs:
        if not isinstance(source, FeatureInput):
            axes = {"NCHW": (0, 3, 1, 2), "NCTHW": (0, 4, 1, 2, 3), "NKCHW": (0, 1, 4, 2, 3)}[source.order]
            pixels = decoded.views[composite.view_of_input(source)]
            given[source.name] = np.ascontiguousarray(pixels.transpose(axes))
    assembly = built.assemblies[name]
    return np.ravel(run_in_torch(assembly, given)[assembly.parts[-1].name])


@pytest.mark.parametrize("clip", ["carphone_pristine.mp4", "h265_video.mp4"])
async def test_a_real_clip_is_scored_as_torch_scores_its_pixels(built: Built, shared: Path, clip: str) -> None:
    """Every graph in a chain, from one decode: a score per second of SR-VQA, one of all seconds of RQ-VQA."""
    async with open_scorers(NAMES, [built.folder], CPU) as scorers:
        decoded = await seen(shared / "clips" / clip, *(view for scorer in scorers for view in scorer.views))
        scores = [await scorer.score(decoded) for scorer in scorers]
    for name, score in zip(("sr_vqa", "rq_vqa"), scores, strict=True):
        torch_score = expected_of(built, name, decoded)
        assert score.native_value == pytest.approx(float(torch_score.mean()), rel=1e-4, abs=1e-5)
        points = composite.find_scale(name, built.folder / "scale.toml" if name == "rq_vqa" else None).calibration
        values = [points.apply(each) for each in np.broadcast_to(torch_score, len(decoded.times_seconds)).tolist()]
        assert score.frame_values == pytest.approx(values, abs=0.02)


async def test_the_halves_matter(built: Built, shared: Path) -> None:
    """Other halves of the same seconds give another score: the hidden state reaches it."""
    async with open_scorers(NAMES, [built.folder], CPU) as scorers:
        decoded = await seen(shared / "clips" / "h265_video.mp4", *(view for each in scorers for view in each.views))
        turned = {view: 255 - pixels for view, pixels in decoded.views.items() if view.kind == "halves"}
        other = replace(decoded, views={**decoded.views, **turned})
        for scorer in scorers:
            assert (await scorer.score(decoded)).native_value != (await scorer.score(other)).native_value


async def test_one_encoder_serves_all(built: Built, shared: Path) -> None:
    """Q-Align's encoder is open once for three scorers; the second over the same hidden state runs its own graphs
    alone: a picture a run, and the fusion."""
    runs: list[float] = []
    async with open_scorers(["q-align-fp32", *NAMES], [built.folder], replace(CPU, on_run=runs.append)) as scorers:
        levels, ours, released = scorers
        encoder = levels._model.encoder  # type: ignore[union-attr]
        for scorer in (ours, released):
            assert scorer._graphs["q-align-encoder"] is encoder  # type: ignore[union-attr]
        decoded = await seen(shared / "clips" / "carphone_pristine.mp4", *ours.views, *levels.views)
        await ours.score(decoded)
        before = len(runs)
        await released.score(decoded)
        assert len(runs) - before == len(decoded.times_seconds) + 1
        await levels.score(decoded)


async def test_rows_say_alone_what_they_say_together(built: Built, shared: Path) -> None:
    """A second's score does not depend on its neighbours."""
    async with open_scorers(NAMES[:1], [built.folder], CPU) as (scorer,):
        decoded = await seen(shared / "clips" / "carphone_pristine.mp4", *scorer.views)
        together = (await scorer.score(decoded)).frame_values
    async with open_scorers(NAMES[:1], [built.folder], CPU) as (scorer,):
        for at in reversed(range(len(together))):
            alone = replace(
                decoded, times_seconds=decoded.times_seconds[at : at + 1], signals={}, thumbnails=(),
                views={view: pixels[at : at + 1] for view, pixels in decoded.views.items()},
            )  # fmt: skip
            assert (await scorer.score(alone)).frame_values == pytest.approx(together[at : at + 1], abs=1e-4)


@pytest.mark.parametrize("clip", ["bikes.mp4", "bear-vp9-odd-dimensions.webm", "carphone_pristine.mp4"])
async def test_halves_are_to_the_bit_as_published(shared: Path, clip: str) -> None:
    """Pillow makes the same of the frame at its own size: larger and smaller than 448, odd sides, an odd middle."""
    view = View(kind="halves", width=448, height=448, pad_rgb=q_align.PAD_RGB)
    media = (await seen(shared / "clips" / clip, view)).media
    native = View(kind="stretch", width=media.width, height=media.height)
    decoded = await seen(shared / "clips" / clip, view, native)
    for frame, half in zip(decoded.views[native], decoded.views[view], strict=True):
        picture = Image.fromarray(frame)
        middle = picture.height // 2
        boxes = ((0, 0, picture.width, middle), (0, middle, picture.width, picture.height))
        np.testing.assert_array_equal(half, [q_align.pad_to_square(picture.crop(box)) for box in boxes])


def test_sheets_that_do_not_fit_are_refused(built: Built, tmp_path: Path) -> None:
    """In another folder, of another form, of another width, of no hidden state."""
    sheet = built.folder / "q-align-hidden-fp32@1.parts.json"
    arguments = export_words(built.folder, "sr_vqa")

    def refused(folder: Path, part: Path, match: str, *more: str) -> None:
        with pytest.raises(WeightsError, match=match):
            feature_scorers.export(options_of(folder, "export", *arguments, "--part", f"q_align_hidden={part}", *more))

    refused(tmp_path, sheet, "its graphs must be in the folder that is written to")
    other = built.folder / "other.parts.json"
    other.write_text(sheet.read_text().replace('"form": "fp32"', '"form": "fp16"'))
    refused(built.folder, other, "is fp16, this export is fp32")
    refused(built.folder, built.folder / "sr-vqa-lean.parts.json", "cannot be read")
    other.write_text("{}")
    refused(built.folder, other, "not a sheet that makes llm")
    scale = ("--scale", str(built.folder / "scale.toml"))
    with pytest.raises(WeightsError, match=r"name that scorer's sheet by --part q_align_hidden=FILE\.parts\.json"):
        feature_scorers.export(options_of(tmp_path, "export", *arguments, *scale))
    with pytest.raises(WeightsError, match=r"sr_vqa takes no weights of dover; it takes sr_vqa, .*, q_align_hidden"):
        feature_scorers.export(options_of(tmp_path, "export", *arguments, "--part", "dover=x"))
