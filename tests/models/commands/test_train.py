"""The command `train`: it learns from a CSV, resumes, measures on test rows, and refuses wrong options."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import skimage.data  # noqa: E402
from PIL import Image, ImageFilter  # noqa: E402

from models import MODELS_FOLDER  # noqa: E402
from models.__main__ import main  # noqa: E402
from models.commands.train import parse_score_config, read_training_config  # noqa: E402
from models.data.csv_scores import DataError  # noqa: E402
from models.train.trainable import TRAINABLE_SCORERS  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]


PHOTO = np.asarray(skimage.data.chelsea())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six crops, each sharp and blurred, with scores."""
    lines = ["path,score,group"]
    for n in range(6):
        crop = Image.fromarray(PHOTO[10 * n : 10 * n + 150, 15 * n : 15 * n + 200])
        for blur in (0, 4):
            name = f"{n}-{blur}.png"
            crop.filter(ImageFilter.GaussianBlur(blur)).save(tmp_path / name)
            lines.append(f"{name},{4 - blur / 2 + n / 100},{n}")
    (tmp_path / "scores.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_training_from_a_csv_learns_goes_on_and_is_measured(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Align-IQA tells sharp from blurred in contents it never saw; features are made once; a second run goes on."""
    arguments = ["train", "align_iqa", "--csv", str(folder / "scores.csv"), "--test", str(folder / "scores.csv")]
    arguments += ["--folder", str(folder / "t"), "--cache", str(folder / "kept")]
    short = [
        "--set",
        "warm_up=2",
        "--set",
        "validate_every=12",
        "--set",
        "share=0.7",
        "--set",
        "network.width=16",
        "--set",
        "learning_rate=0.01",
    ]
    main([*arguments, *short, "--set", "steps=24"])
    srcc = float(capsys.readouterr().out.rpartition("SRCC ")[2].split(",")[0])
    assert srcc > 0.7
    cached_mtimes = sorted(path.stat().st_mtime_ns for path in (folder / "kept").rglob("*.npy"))
    assert len(cached_mtimes) == 24
    main([*arguments, *short, "--set", "steps=30"])
    assert torch.load(folder / "t" / "last.pt", weights_only=True)["step"] == 30
    assert sorted(path.stat().st_mtime_ns for path in (folder / "kept").rglob("*.npy")) == cached_mtimes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: ["--csv", str(f / "scores.csv"), "--part", "lite"], "write NAME=FILE"),
        (
            lambda f: ["--csv", str(f / "scores.csv"), "--part", f"lite={f / '0-0.png'}"],
            "cannot be read as a checkpoint",
        ),
        (lambda f: [], "name the scores"),
        (lambda f: ["--csv", str(f / "scores.csv"), "--part", "lite=none.pt"], "no such file"),
        (lambda f: ["--csv", str(f / "scores.csv"), "--set", "stepz=3"], "has no stepz"),
        (lambda f: ["--csv", str(f / "scores.csv"), "--set", "network.guidance=none"], "text needs quotes"),
    ],
)
def test_what_is_missing_is_said_in_one_line(folder: Path, change: Callable[[Path], list[str]], message: str) -> None:
    """As an exit with a message, not a traceback."""
    with pytest.raises(SystemExit, match=message):
        main(["train", "spatial", "--folder", str(folder / "t"), *change(folder)])


def test_fragments_must_be_trained_before_they_are_looked_through(folder: Path) -> None:
    """Lean SR-VQA says so, and refuses weights of something else."""
    arguments = ["train", "lean_sr_vqa", "--csv", str(folder / "scores.csv"), "--folder", str(folder / "t")]
    with pytest.raises(SystemExit, match=r"needs trained weights of `fragments`: --part fragments=best\.pt"):
        main(arguments)
    torch.save({"weights": {"last.bias": torch.zeros(1)}, "learner": "spatial"}, folder / "other.pt")
    with pytest.raises(SystemExit, match="holds weights of spatial"):
        main([*arguments, "--part", f"fragments={folder / 'other.pt'}"])


@pytest.mark.parametrize("name", TRAINABLE_SCORERS)
def test_every_learner_has_a_plan_that_can_be_read(name: str) -> None:
    """The shipped TOML gives a plan and a network."""
    plan, shape = parse_score_config(read_training_config(MODELS_FOLDER / f"{name}.toml"))
    assert plan.steps > plan.validate_every
    assert sum(p.numel() for p in TRAINABLE_SCORERS[name].build_network(shape).parameters()) > 10_000
    with pytest.raises(DataError, match="has no losses"):
        read_training_config(MODELS_FOLDER / f"{name}.toml", ["losses.none=1"])
