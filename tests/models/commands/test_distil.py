"""A scorer that the daemon serves teaches a small one, from a folder of pictures to a bundle in one command."""

import io
import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402
import skimage.data  # noqa: E402
from PIL import Image, ImageFilter  # noqa: E402

from models.__main__ import main  # noqa: E402
from models.data.csv_scores import ScoredRow, read_scored_rows  # noqa: E402
from models.data.teachers.distil import ask_teacher  # noqa: E402
from models.train.checkpoint import read_frozen_networks  # noqa: E402
from models.train.features.extract import extract_features  # noqa: E402
from models.train.losses import spearman  # noqa: E402
from models.train.scores import predict  # noqa: E402
from models.train.trainable import TRAINABLE_SCORERS, ScorerNetworkConfig  # noqa: E402
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
    photo = Image.fromarray(skimage.data.chelsea())
    for number in range(12):
        content = tmp_path / "clips" / f"content-{number // 2}"
        content.mkdir(parents=True, exist_ok=True)
        crop = photo.crop((12 * number, 8 * number, 12 * number + 200, 8 * number + 150))
        crop.filter(ImageFilter.GaussianBlur(number % 2 * 4)).save(content / f"{number}.png")
    (tmp_path / "clips" / "notes.txt").write_text("no picture")
    main(arguments(tmp_path, "--teacher", "lite_fast", "--clips", str(tmp_path / "clips"), "--name", "pupil"))
    rows = [line.split(",") for line in (tmp_path / "run" / "teacher.csv").read_text().splitlines()[1:]]
    spec = load_composite_spec(tmp_path / "pupil@1.json")
    scores = [float(score) for _, score, _ in rows]
    assert len(rows) == 12
    # both versions of a content are trained on or held out
    groups = {group: [Path(path).parent for path, _, other in rows if other == group] for _, _, group in rows}
    assert sorted(len(set(folders)) for folders in groups.values()) == [1] * 6
    assert all(len(folders) == 2 for folders in groups.values())
    assert spec.provenance["taught by"].startswith("lite_fast@2, sha256 ")
    assert spec.provenance["taught by"].endswith(", 12 files, 6 contents")
    assert spec.licence.name.startswith("that of its teacher: ")
    assert spec.calibration.points[0][1] >= min(scores) - 0.01
    assert spec.calibration.points[-1][1] <= max(scores) + 0.01
    card = capsys.readouterr().out
    assert "| SRCC on rows kept apart | " in card
    assert json.loads((tmp_path / "pupil@1.json").read_text())["name"] == "pupil"


def write_ladders(folder: Path, photos: tuple[str, ...]) -> None:
    """Two crops of each photo at six degrees of blur, and five of noise and of JPEG compression."""
    folder.mkdir()
    for name in photos:
        photo = Image.fromarray(getattr(skimage.data, name)()).convert("RGB")
        for number, left in enumerate((0, photo.width - 300)):
            crop = photo.crop((left, 0, left + 300, 260))
            noise = np.random.default_rng(number).normal(0, 6, (260, 300, 3))
            for degree in range(6):
                pictures = {"blur": crop.filter(ImageFilter.GaussianBlur(0.7 * degree))}
                if degree:
                    pictures["noise"] = Image.fromarray(
                        (np.asarray(crop) + degree * noise).clip(0, 255).astype(np.uint8)
                    )
                    compressed = io.BytesIO()
                    crop.save(compressed, "JPEG", quality=(80, 45, 25, 12, 5)[degree - 1])
                    pictures["compression"] = Image.open(compressed)
                for kind, picture in pictures.items():
                    picture.save(folder / f"{name}-{number}-{kind}-{degree}.png")


def scores_by_name(scorer: str, clips: Path, folder: Path) -> dict[str, float]:
    """As `vqmon score` gives them."""
    return {row.path.name: row.score for row in read_scored_rows(ask_teacher(scorer, clips, folder=folder).csv)}


def untrained_scores(rows: list[ScoredRow], cache: Path, *, seed: int) -> torch.Tensor:
    """Of a pupil whose weights are drawn."""
    pupil, config = TRAINABLE_SCORERS["statistics"], ScorerNetworkConfig()
    inputs, _ = extract_features(
        pupil.features(config), rows, frozen_networks=read_frozen_networks({}), cache_folder=cache
    )
    torch.manual_seed(seed)
    return predict(pupil.build_network(config), inputs, np.arange(len(rows)))


def test_a_pupil_follows_its_teacher_on_content_that_it_has_not_seen(tmp_path: Path) -> None:
    """Two photos are taught, a third is not; the pupil is served, and untrained pupils do not rank as it does."""
    write_ladders(tmp_path / "taught", ("astronaut", "coffee"))
    write_ladders(tmp_path / "unseen", ("chelsea",))
    changes = ("steps=150", "warm_up=10", "validate_every=50", "share=0.8")
    main(
        [
            "train", "statistics", "--folder", str(tmp_path / "run"), "--built", str(tmp_path), "--threads", "1",
            "--teacher", "lite_fast", "--clips", str(tmp_path / "taught"), "--name", "pupil",
            *(word for change in changes for word in ("--set", change)),
        ]
    )  # fmt: skip
    teacher = scores_by_name("lite_fast", tmp_path / "unseen", tmp_path / "teacher")
    pupil = scores_by_name(str(tmp_path / "pupil@1.json"), tmp_path / "unseen", tmp_path / "pupil")
    rows = read_scored_rows(tmp_path / "teacher" / "teacher.csv")
    expected = torch.tensor([row.score for row in rows])
    trained = spearman(torch.tensor([pupil[row.path.name] for row in rows]), expected)
    untrained = [spearman(untrained_scores(rows, tmp_path / "cache", seed=seed), expected) for seed in range(5)]
    assert len(teacher) == 32
    assert trained > 0.8
    assert max(untrained) < trained - 0.2


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
