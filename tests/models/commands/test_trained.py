"""What an owner trains is what the daemon serves: from a CSV to a checkpoint, to graphs, to the verdict on a clip."""

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import skimage.data  # noqa: E402
from PIL import Image, ImageFilter  # noqa: E402

from models.__main__ import main  # noqa: E402
from models.commands.trained import MAX_CALIBRATION_POINTS, build_trained_assembly, fit_score_scale  # noqa: E402
from models.data.csv_scores import DataError  # noqa: E402
from models.export.assembly.assembly import GraphAssembly, PixelInput, run_in_torch  # noqa: E402
from models.export.assembly.composite import view_of_input  # noqa: E402
from models.train.checkpoint import read_trained_scorer  # noqa: E402
from tests.media.clips import clip, x264  # noqa: E402
from vqmon.core.types import DecodedSegment  # noqa: E402
from vqmon.media.decode.pool import DecoderPool  # noqa: E402
from vqmon.scoring.manifests.composite_scorer import load_composite_spec  # noqa: E402
from vqmon.scoring.runtime.graph import Placement  # noqa: E402
from vqmon.scoring.scorers.registry import ScorerOptions, builtin_folder, open_scorers  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default"), pytest.mark.timeout(900)]

PHOTO = np.asarray(skimage.data.chelsea())
NAMES = {"fragments": "fragments", "lean_sr_vqa": "my-lean", "align_iqa": "my-align"}
SHORT = {"warm_up": 2, "validate_every": 12, "steps": 24, "share": 0.7, "network.width": 16, "learning_rate": 0.002}


def train(name: str, csv: Path, folder: Path, *more: str) -> Path:
    changes = [word for key, value in SHORT.items() for word in ("--set", f"{key}={value}")]
    main(["train", name, "--csv", str(csv), "--folder", str(folder), "--threads", "1", *changes, *more])
    return folder / "best.pt"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Three scorers that learned to tell sharp crops from blurred ones, for a moment."""
    folder = tmp_path_factory.mktemp("trained")
    lines = ["path,score,group"]
    for n in range(6):
        crop = Image.fromarray(PHOTO[10 * n : 10 * n + 150, 15 * n : 15 * n + 200])
        for blur in (0, 4):
            crop.filter(ImageFilter.GaussianBlur(blur)).save(folder / f"{n}-{blur}.png")
            lines.append(f"{n}-{blur}.png,{4 - blur / 2 + n / 100},{n}")
    (folder / "scores.csv").write_text("\n".join(lines) + "\n")
    options = ("--cache", str(folder / "cache"), "--licence", "CC-BY-4.0")
    best: dict[str, Path] = {}
    for name in NAMES:
        part = ("--part", f"fragments={best['fragments']}") if name == "lean_sr_vqa" else ()
        best[name] = train(name, folder / "scores.csv", folder / name, *options, *part)
    return best


@pytest.fixture(scope="module")
def built(trained: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All of them in one folder, as the command writes them."""
    folder = tmp_path_factory.mktemp("built")
    for name, called in NAMES.items():
        main(["export", "trained", "--weights", str(trained[name]), "--name", called, "--built", str(folder)])
    return folder


def rows_of(assembly: GraphAssembly, decoded: DecodedSegment) -> dict[str, np.ndarray]:
    rows = {}
    for source in assembly.inputs:
        assert isinstance(source, PixelInput)
        rows[source.name] = np.ascontiguousarray(decoded.views[view_of_input(source)].transpose(0, 3, 1, 2))
    return rows


async def test_the_daemon_scores_a_real_clip_as_torch_does(trained: dict[str, Path], built: Path, shared: Path) -> None:
    """Opened after their golden self-tests; one decode for all and for lite@1; rows together, and a row alone."""
    media = (shared / "clips" / "bikes.mp4").read_bytes()
    terms = ScorerOptions(placement=Placement(device="cpu", threads=1))
    async with (
        DecoderPool(1) as pool,
        open_scorers(["lite@1", *NAMES.values()], [builtin_folder(), built], terms) as (lite, *scorers),
    ):
        views = tuple(dict.fromkeys(view for scorer in (lite, *scorers) for view in scorer.views))
        decoded = await pool.decode(media, views=views)
        scores = [await scorer.score(decoded) for scorer in scorers]
    assert len(views) == 3
    for name, score in zip(NAMES, scores, strict=True):
        checkpoint = read_trained_scorer(trained[name])
        assembly = build_trained_assembly(checkpoint, NAMES[name], version=1)
        rows = rows_of(assembly, decoded)
        torch_scores = run_in_torch(assembly, rows)[assembly.parts[-1].name]
        alone = run_in_torch(assembly, {key: each[-1:] for key, each in rows.items()})[assembly.parts[-1].name]
        np.testing.assert_allclose(alone, torch_scores[-1:], rtol=1e-4, atol=1e-5)
        assert score.native_value == pytest.approx(float(torch_scores.mean()), abs=1e-4)
        points = load_composite_spec(built / f"{NAMES[name]}@1.json").calibration
        assert score.frame_values == pytest.approx([points.apply(float(each)) for each in torch_scores], abs=0.05)


def test_graphs_of_what_is_frozen_are_shared(built: Path) -> None:
    """Lean SR-VQA and Align-IQA by the trunk's maps, lean SR-VQA and fragments by their features: by file and hash."""
    graphs = {}
    for called in NAMES.values():
        spec = load_composite_spec(built / f"{called}@1.json")
        graphs[called] = {step.graph.file: step.graph.sha256 for step in spec.steps}
    for first, other in (("my-lean", "my-align"), ("my-lean", "fragments")):
        assert len(graphs[first].items() & graphs[other].items()) == 1
    assert len(list(built.glob("*.onnx"))) == 7


def test_verify_and_card_say_what_was_written(
    trained: dict[str, Path], built: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Against torch and by themselves; where it comes from, and whose licences hold."""
    where = ["--name", "my-lean", "--built", str(built)]
    main(["verify", "trained", "--weights", str(trained["lean_sr_vqa"]), *where])
    output = capsys.readouterr().out
    assert output.count("against torch") == 4
    assert output.count("rows together against one by one") == 4
    main(["verify", "trained", *where])
    assert "golden values of my-lean-score" in capsys.readouterr().out
    main(["card", "trained", *where])
    output = capsys.readouterr().out
    for message in (
        "my-lean@1",
        "scores.csv, sha256",
        "| rows | 12 |",
        "CC-BY-4.0",
        "BIQ2021",
        "best.pt, sha256",
        "SRCC",
    ):
        assert message in output


def test_a_manifest_is_calibrated_on_rows_that_nothing_was_fitted_on(trained: dict[str, Path], built: Path) -> None:
    """Rising within the native scale, through what people said of them."""
    trained_scorer = read_trained_scorer(trained["align_iqa"])
    assert len(trained_scorer.predicted) == len(trained_scorer.target) == 4
    points = json.loads((built / "my-align@1.json").read_text())["calibration"]["points"]
    assert 0 <= points[0][0] < points[-1][0] <= 1
    assert [y for _, y in points] == sorted(y for _, y in points)


def test_calibration_follows_the_scores() -> None:
    """A bent but rising relation within 4 points of 100, by few points; noise is smoothed, order is kept."""
    native = np.linspace(0.3, 0.7, 400)
    wanted = ((native - 0.3) / 0.4) ** 2
    noise = np.random.default_rng(0).normal(scale=0.05, size=400)
    scale = fit_score_scale(native.astype(np.float32), np.clip(wanted + noise, 0, 1).astype(np.float32))
    assert len(scale.calibration.points) <= MAX_CALIBRATION_POINTS + 2
    calibrated = np.array([scale.calibration.apply(each) for each in native])
    assert np.abs(calibrated - 100 * wanted).max() < 4
    assert (np.diff(calibrated) > 0).all()


@pytest.mark.parametrize("target", [[1.0, 0.5, 0.0], [0.2, 0.2, 0.2]])
def test_predictions_that_do_not_rise_with_the_scores_are_not_calibrated(target: list[float]) -> None:
    """Falling, unrelated, and predictions that are all equal."""
    with pytest.raises(DataError, match="do not rise with their scores"):
        fit_score_scale(np.array([0.1, 0.2, 0.3], np.float32), np.array(target, np.float32))
    with pytest.raises(DataError, match=r"are predicted 0\.5000"):
        fit_score_scale(np.full(3, 0.5, np.float32), np.array([0.1, 0.2, 0.3], np.float32))


def test_wrong_files_are_refused_in_one_line(trained: dict[str, Path], tmp_path: Path) -> None:
    """None, no such file, a picture, weights without facts, and a name that no scorer can have."""
    torch.save({"weights": {}}, tmp_path / "old.pt")
    (tmp_path / "picture.pt").write_bytes(b"\x89PNG")
    for message, given in (
        ("name the checkpoint", []),
        ("no such file", ["--weights", str(tmp_path / "none.pt")]),
        ("cannot be read as a checkpoint", ["--weights", str(tmp_path / "picture.pt")]),
        ("or of an older format", ["--weights", str(tmp_path / "old.pt")]),
        ("not a valid scorer name", ["--weights", str(trained["fragments"]), "--name", "My Scorer"]),
    ):
        with pytest.raises(SystemExit, match=message):
            main(["export", "trained", "--built", str(tmp_path / "built"), *given])
    with pytest.raises(SystemExit, match="export the scorer first"):
        main(["card", "trained", "--name", "nothing", "--built", str(tmp_path)])
    with pytest.raises(SystemExit, match="export the scorer first"):
        main(["verify", "trained", "--name", "nothing", "--built", str(tmp_path)])


def test_clips_with_scores_teach_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every frame that is looked at is a row; a clip's score is the mean over its own, and it is exported."""
    lines = ["path,score"]
    for n, crf in enumerate(("18", "51") * 6):
        media = clip(*x264("-crf", crf), seconds=1.2, size=f"{320 + 16 * n}x240", container="mp4")
        (tmp_path / f"{n}.mp4").write_bytes(media)
        lines.append(f"{n}.mp4,{-float(crf)}")
    (tmp_path / "clips.csv").write_text("\n".join(lines) + "\n")
    best = train("fragments", tmp_path / "clips.csv", tmp_path / "t", "--test", str(tmp_path / "clips.csv"))
    assert "12 rows" in capsys.readouterr().out
    assert {np.load(file).shape for file in (tmp_path / "t" / "cache").rglob("*.npy")} == {(8, 3, 224, 224)}
    assert len(read_trained_scorer(best).predicted) == 4 * 8
    main(["export", "trained", "--weights", str(best), "--built", str(tmp_path / "built")])
    assert load_composite_spec(tmp_path / "built" / "fragments@1.json").id == "fragments@1"
