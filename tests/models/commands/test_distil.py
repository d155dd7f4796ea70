"""A scorer that the daemon serves teaches a small one, from a folder of pictures to a bundle in one command."""

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import skimage.data  # noqa: E402
from PIL import Image, ImageFilter  # noqa: E402

from models.__main__ import main  # noqa: E402
from vqmon.scoring.manifests.composite_scorer import load_composite_spec  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default"), pytest.mark.timeout(900)]

SHORT = ("warm_up=2", "validate_every=12", "steps=24", "share=0.7", "network.width=16", "learning_rate=0.002")


def arguments(folder: Path, *more: str) -> list[str]:
    changes = [word for change in SHORT for word in ("--set", change)]
    return [
        "train",
        "fragments",
        "--folder",
        str(folder / "run"),
        "--built",
        str(folder),
        "--threads",
        "1",
        *changes,
        *more,
    ]


def test_a_large_scorer_teaches_a_small_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The bundle is on the teacher's scale; its card names the teacher, its licence and the held-out correlation."""
    (tmp_path / "clips").mkdir()
    photo = Image.fromarray(skimage.data.chelsea())
    for number in range(12):
        crop = photo.crop((12 * number, 8 * number, 12 * number + 200, 8 * number + 150))
        crop.filter(ImageFilter.GaussianBlur(number % 2 * 4)).save(tmp_path / "clips" / f"{number}.png")
    (tmp_path / "clips" / "notes.txt").write_text("no picture")
    main(arguments(tmp_path, "--teacher", "lite_fast", "--clips", str(tmp_path / "clips"), "--name", "pupil"))
    rows = [line.split(",") for line in (tmp_path / "run" / "teacher.csv").read_text().splitlines()[1:]]
    spec = load_composite_spec(tmp_path / "pupil@1.json")
    scores = [float(score) for _, score in rows]
    assert len(rows) == 12
    assert spec.provenance["taught by"].startswith("lite_fast@2, sha256 ")
    assert spec.provenance["taught by"].endswith(", 12 files")
    assert spec.licence.name.startswith("that of its teacher: ")
    assert spec.calibration.points[0][1] >= min(scores) - 0.01
    assert spec.calibration.points[-1][1] <= max(scores) + 0.01
    card = capsys.readouterr().out
    assert "| SRCC on rows kept apart | " in card
    assert json.loads((tmp_path / "pupil@1.json").read_text())["name"] == "pupil"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ((), "--csv FILE .* or --teacher SCORER --clips FOLDER"),
        (("--teacher", "lite_fast"), "--clips FOLDER"),
        (("--teacher", "nobody", "--clips", "."), "nobody cannot score .: .*unknown scorer 'nobody'"),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, more: tuple[str, ...], message: str) -> None:
    """Before anything is trained."""
    with pytest.raises(SystemExit, match=message):
        main(arguments(tmp_path, *more))
