"""The whole recipe of lite@2 in small: pictures, ladders, features, head, export, and the daemon's score."""

import argparse
import hashlib
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from PIL import Image  # noqa: E402

from models import MODELS_FOLDER  # noqa: E402
from models.commands import lite2  # noqa: E402
from models.data.clean_pictures import CleanPicture  # noqa: E402
from models.data.csv_scores import DataError  # noqa: E402
from models.data.display_tiles import FrameTiler, decode_frame  # noqa: E402
from models.data.teachers.ladders import LadderScene, read_scene  # noqa: E402
from models.export.pair import to_network_input  # noqa: E402
from models.networks.lite2 import MEAN, STD, Lite2, Lite2Config  # noqa: E402
from models.train.builtin.lite2_head import PhotoFeatures  # noqa: E402
from tests.media.clips import MOTION, clip, x264  # noqa: E402
from vqmon.core.types import View  # noqa: E402
from vqmon.media.decode.pool import DecoderPool  # noqa: E402
from vqmon.scoring.manifests.frame_scorer import load_frame_spec  # noqa: E402
from vqmon.scoring.runtime.graph import Placement  # noqa: E402
from vqmon.scoring.scorers.registry import ScorerOptions, open_scorers  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.filterwarnings("default")]

KINDS = {
    "pristine": ("clean", "size", "soft", "softsharp", "blur", "noise", "banding"),
    "poor": ("clean", "sharp"),
}


def draw_picture(seed: int) -> Image.Image:
    """Discs of all sizes on a gradient, with fine texture: 1000 x 600 px."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:600, :1000].astype(np.float32)
    picture = np.stack([80 + x / 12, 60 + y / 6, 140 - x / 20], 2)
    for _ in range(220):
        left, top, radius = random.uniform(0, 1000), random.uniform(0, 600), random.uniform(3, 60)
        inside = (x - left) ** 2 + (y - top) ** 2 < radius**2
        picture[inside] = random.uniform(20, 235, 3)
    picture += 9 * np.sin(x * 1.1 + y * 0.7)[..., None]
    return Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the ladders of two pictures, one of them shown by a poor source."""
    folder = tmp_path_factory.mktemp("training")
    for seed, kind in enumerate(("pristine", "poor")):
        path = folder / f"{seed}.png"
        draw_picture(seed).save(path)
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        picture = CleanPicture(
            file=path.name, origin="drawn", author="the test", licence="CC0-1.0", size_bytes=len(content),
            sha256=digest, seed=seed,
        )  # fmt: skip
        task = lite2.SceneTask(picture=picture, kind=kind, seed=11, number=0)  # type: ignore[arg-type]
        made = lite2.make_ladders([task], {digest: path}, folder=folder, upscalers={}, kinds=KINDS[kind])
        assert list(made) == [""]
    return folder


@pytest.fixture(scope="module")
def scenes(training: Path) -> dict[str, LadderScene]:
    """Kind -> the scene as read back."""
    return {kind: read_scene(next(training.glob(f"{kind}-*.npz"))) for kind in KINDS}


@pytest.fixture(scope="module")
def network() -> Lite2:
    """A trunk of random weights."""
    torch.manual_seed(0)
    return Lite2(Lite2Config()).eval()


def detail(tiles: np.ndarray) -> float:
    """The mean difference of neighbouring pixels of the luma."""
    return float(np.abs(np.diff(tiles.astype(float).mean(-1), axis=-1)).mean())


def test_each_family_does_what_it_says(scenes: dict[str, LadderScene]) -> None:
    """Blur takes detail away, noise and masks add it, bands leave few levels, fewer lines are worse for teachers."""
    scene = scenes["pristine"]
    by_kind: dict[str, list[int]] = {}
    for index, rung in enumerate(scene.rungs):
        by_kind.setdefault(rung.kind, []).append(index)
    details = [detail(tiles) for tiles in scene.tiles["canvas"]]
    clean = by_kind["clean"][0]
    assert [len(by_kind[kind]) for kind in KINDS["pristine"]] == [2, 8, 2, 8, 4, 4, 4]
    blurs, noises = ([details[index] for index in by_kind[kind]] for kind in ("blur", "noise"))
    assert details[clean] > blurs[0] > blurs[1] > blurs[2] > blurs[3]
    # the encoder may take the lightest noise away
    assert max(details[clean], noises[1]) < noises[2] < noises[3]
    for soft, sharpened in zip(by_kind["soft"], np.reshape(by_kind["softsharp"], (2, 4)), strict=True):
        assert details[soft] < details[sharpened[0]] < details[sharpened[3]]
    similarities = [scene.rungs[index].ms_ssim for index in by_kind["size"]]
    assert similarities[0] < similarities[2] < similarities[4] < similarities[6]
    assert scene.rungs[clean].ms_ssim > 0.999
    assert scene.rungs[clean].vmaf_neg > 95


def test_a_poor_scene_is_compared_with_its_source(scenes: dict[str, LadderScene]) -> None:
    """Its clean rung is equal to the source and softer than a pristine one; masks are labelled by the teachers."""
    scene = scenes["poor"]
    assert scene.kind == "poor"
    assert scene.rungs[0].ms_ssim > 0.999
    assert [rung.kind for rung in scene.rungs] == ["clean", "clean", "sharp", "sharp", "sharp"]
    assert scene.rungs[4].ms_ssim < scene.rungs[0].ms_ssim


def test_a_scene_is_made_once(training: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second run leaves the files alone; a truncated file is named."""
    file = next(training.glob("poor-*.npz"))
    picture = CleanPicture(
        file="1.png", origin="drawn", author="the test", licence="CC0-1.0", size_bytes=1,
        sha256=hashlib.sha256((training / "1.png").read_bytes()).hexdigest(), seed=1,
    )  # fmt: skip
    monkeypatch.setattr(lite2, "make_scene", None)
    task = lite2.SceneTask(picture=picture, kind="poor", seed=11, number=0)
    assert list(lite2.make_ladders([task], {}, folder=training, upscalers={})) == [""]
    broken = training / "broken.npz"
    broken.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"broken\.npz.*delete it"):
        read_scene(broken)
    broken.unlink()


async def test_the_daemon_gives_the_score_of_torch(training: Path, network: Lite2, tmp_path: Path) -> None:
    """Trained, exported, verified, and read by the daemon's scorer on a decoded clip."""
    recipe = lite2.read_recipe(MODELS_FOLDER / "lite2.toml")
    assert (recipe.open_head.ridge, recipe.open_head.penalties) == (3000, recipe.head.penalties)
    assert recipe.open_head.kind_weights == {**recipe.head.kind_weights, "soft": 6, "softsharp": 6, "sharp": 6}
    rungs = lite2.read_rungs(network, training)
    assert rungs.labels[np.char.startswith(rungs.kinds, "clean")].tolist() == [100] * 4
    checkpoint = lite2.fit_and_save(network, rungs, None, recipe, tmp_path / "lite_open.pt")
    options = argparse.Namespace(weights=checkpoint, built=tmp_path / "built", version=1)
    lite2.export(options)
    assert len(lite2.verify(options)) == 5
    assert "lite_open@2" in lite2.card(options)
    spec = load_frame_spec(tmp_path / "built" / "lite_open@2.json")
    assert spec.licence.commercial is True
    media = clip(*x264(), seconds=1)
    terms = ScorerOptions(placement=Placement(device="cpu", threads=1))
    async with DecoderPool(1) as pool, open_scorers(["lite_open"], [tmp_path / "built"], terms) as (scorer,):
        decoded = await pool.decode(media, views=scorer.views)
        score = await scorer.score(decoded)
    (view,) = scorer.views
    pixels = torch.from_numpy(to_network_input(decoded.views[view], mean=MEAN, std=STD))
    with torch.inference_mode():
        expected = float(network(pixels)[0].mean())
    assert score.native_value == pytest.approx(expected, abs=0.01)


def test_a_scorer_of_human_scores_says_so(training: Path, network: Lite2, tmp_path: Path) -> None:
    """Its licence is not stated, and it has percentiles and an interval of the photos that its heads had not seen."""
    recipe = lite2.read_recipe(MODELS_FOLDER / "lite2.toml")
    rungs = lite2.read_rungs(network, training)
    random = np.random.default_rng(0)
    features = rungs.features[random.integers(len(rungs.labels), size=80)] + 0.01 * random.standard_normal(
        (80, rungs.features.shape[1])
    )
    photo_features = PhotoFeatures(features=features, scores=random.uniform(0, 100, 80))
    file = lite2.fit_and_save(network, rungs, photo_features, recipe, tmp_path / "lite.pt")
    facts = lite2.checkpoint_facts(torch.load(file, weights_only=True))
    assert facts.licence.commercial is None
    assert "BIQ2021" in facts.licence.note
    assert facts.percentiles is not None
    assert facts.interval is not None
    assert "80 photos" in facts.interval.population


async def test_training_sees_what_the_daemon_decodes(tmp_path: Path) -> None:
    """The view of a grey picture in RGB is that of its lossless clip within rounding."""
    media = clip(*x264("-qp", "0"), "-pix_fmt", "yuv444p", seconds=0.2, source=f"{MOTION},hue=s=0")
    (tmp_path / "clip.mkv").write_bytes(media)
    frame = decode_frame(tmp_path / "clip.mkv", 0)
    assert frame is not None
    view: View = Lite2Config().view
    async with DecoderPool(1) as pool:
        decoded = await pool.decode(media, views=(view,))
    picture = frame.to_ndarray(format="rgb24")
    difference = np.abs(FrameTiler().view(picture, view).astype(int) - decoded.views[view][0])
    assert difference.mean() < 1.5


def test_commands_say_what_is_missing(tmp_path: Path) -> None:
    """Pictures, the trunk, ladders, a checkpoint."""
    nothing = argparse.Namespace(
        pictures=None, weights=None, folder=tmp_path, biq2021=None, threads=1, built=tmp_path, version=2
    )
    with pytest.raises(DataError, match="--pictures"):
        lite2.make_data(nothing)
    with pytest.raises(DataError, match="--weights"):
        lite2.train(nothing)
    with pytest.raises(DataError, match="--weights"):
        lite2.export(nothing)
    with pytest.raises(DataError, match="no ladders"):
        lite2.read_rungs(Lite2(Lite2Config()), tmp_path)


def test_scenes_are_planned_in_turn() -> None:
    """Every picture once before one comes twice; both kinds with their own seed."""
    config = lite2.read_recipe(MODELS_FOLDER / "lite2.toml").ladders
    pictures = [
        CleanPicture(file=f"{n}", origin="o", author="a", licence="l", size_bytes=1, sha256=f"{n:064d}", seed=n)
        for n in range(75)
    ]
    tasks = lite2.plan_scenes(pictures, config)
    pristine = [task for task in tasks if task.kind == "pristine"]
    assert (len(pristine), len(tasks)) == (config.pristine_scenes, config.pristine_scenes + config.poor_scenes)
    assert [task.number for task in pristine] == [0] * 75 + [1] * 8
    assert {(task.kind, task.seed) for task in tasks} == {("pristine", 11), ("poor", 77)}
