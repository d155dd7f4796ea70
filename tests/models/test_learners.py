"""Scorers that anyone can train: what they see, that they learn it from a CSV, and what is refused."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import skimage.data  # noqa: E402
from PIL import Image, ImageFilter  # noqa: E402

from models import own_features as own  # noqa: E402
from models.__main__ import main  # noqa: E402
from models.learners import LEARNERS, Shape  # noqa: E402
from models.lite import Lite, LiteConfig  # noqa: E402
from models.scored import DataError  # noqa: E402
from models.train_command import HERE, read_table, score_plan  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

PHOTO = np.asarray(skimage.data.chelsea())


@pytest.fixture(scope="module")
def lite() -> Lite:
    """Weights as they were drawn: what is seen has the right shape, and depends on the picture."""
    torch.manual_seed(0)
    return Lite(LiteConfig()).eval()


def test_all_looks_have_the_sizes_that_networks_expect(lite: Lite) -> None:
    """Of a landscape photo and of a portrait one."""
    for picture in (PHOTO, PHOTO.transpose(1, 0, 2)):
        canvas = own.canvas_of(picture)
        assert min(canvas.shape[:2]) == 540
        assert own.maps_of(lite, canvas).shape == (sum(own.WIDTHS), own.GRID, own.GRID)
        assert own.statistics_of(lite, canvas).shape == (own.STATISTICS,)
        assert own.saliency_of(canvas).shape == (1, own.GRID, own.GRID)
        assert own.fragments_of(canvas, seed=0).shape == (224, 224, 3)


def test_fragments_are_pieces_of_their_cells_at_native_scale() -> None:
    """Each lies within its own seventh of the picture; the draw depends on the seed alone."""
    y, x = np.mgrid[0:700, 0:1400]
    canvas = np.stack([y // 100, x // 200, (y + x) % 256], -1).astype(np.uint8)
    seen = own.fragments_of(canvas, seed=3)
    for row, column in np.ndindex(7, 7):
        piece = seen[row * 32 : row * 32 + 32, column * 32 : column * 32 + 32]
        assert (piece[..., 0] == row).all()
        assert (piece[..., 1] == column).all()
        assert (np.diff(piece[..., 2].astype(int), axis=0) % 256 == 1).all()
    assert (own.fragments_of(canvas, seed=3) == seen).all()
    assert (own.fragments_of(canvas, seed=4) != seen).any()


def test_saliency_is_highest_where_something_stands_out() -> None:
    """A bright square on even noise, in the upper right."""
    canvas = np.random.default_rng(0).integers(100, 110, (540, 540, 3)).astype(np.uint8)
    canvas[90:130, 400:440] = 255
    found = own.saliency_of(canvas)[0]
    row, column = np.unravel_index(found.argmax(), found.shape)
    assert (row, column) in {(r, c) for r in (1, 2, 3) for c in (8, 9, 10)}
    assert found.max() == 1


def test_guidance_and_scales_can_be_left_out() -> None:
    """Without guidance saliency does not matter; with it, once trained, it does; both aggregators work."""
    maps, one, other = torch.rand(2, sum(own.WIDTHS), 12, 12), torch.zeros(2, 1, 12, 12), torch.rand(2, 1, 12, 12)
    for guidance, aggregator in (("saliency", "scales"), ("saliency", "plain"), ("none", "scales")):
        torch.manual_seed(0)
        net = LEARNERS["align_iqa"].network(Shape(guidance=guidance, aggregator=aggregator)).eval()
        for injector in net.quality.injectors["natural"]:
            torch.nn.init.constant_(injector.strength, 1.0)
        with torch.no_grad():
            assert torch.equal(net(maps, one), net(maps, other)) == (guidance == "none")


@pytest.fixture
def folder(tmp_path: Path, lite: Lite) -> Path:
    """Six crops, each sharp and blurred, with scores; and lite's weights."""
    torch.save({"weights": lite.state_dict()}, tmp_path / "lite.pt")
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
    say = ["train", "align_iqa", "--csv", str(folder / "scores.csv"), "--test", str(folder / "scores.csv")]
    say += ["--folder", str(folder / "t"), "--part", f"lite={folder / 'lite.pt'}"]
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
    main([*say, *short, "--set", "steps=24"])
    srcc = float(capsys.readouterr().out.rpartition("SRCC ")[2].split(",")[0])
    assert srcc > 0.7
    kept = sorted(path.stat().st_mtime_ns for path in (folder / "t" / "cache").rglob("*.npy"))
    assert len(kept) == 24
    main([*say, *short, "--set", "steps=30"])
    assert torch.load(folder / "t" / "last.pt", weights_only=True)["step"] == 30
    assert sorted(path.stat().st_mtime_ns for path in (folder / "t" / "cache").rglob("*.npy")) == kept


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: ["--csv", str(f / "scores.csv")], "needs lite's trained weights"),
        (lambda f: [], "name the scores"),
        (lambda f: ["--csv", str(f / "scores.csv"), "--part", "lite=none.pt"], "no such file"),
        (lambda f: ["--csv", str(f / "scores.csv"), "--set", "stepz=3"], "has no stepz"),
        (lambda f: ["--csv", str(f / "scores.csv"), "--set", "network.guidance=none"], "text needs quotes"),
    ],
)
def test_what_is_missing_is_said_in_one_line(folder: Path, change: Callable[[Path], list[str]], words: str) -> None:
    """As an exit with a message, not a traceback."""
    with pytest.raises(SystemExit, match=words):
        main(["train", "spatial", "--folder", str(folder / "t"), *change(folder)])


@pytest.mark.parametrize("name", LEARNERS)
def test_every_learner_has_a_plan_that_can_be_read(name: str) -> None:
    """The shipped TOML gives a plan and a network."""
    plan, shape = score_plan(read_table(HERE / f"{name}.toml"))
    assert plan.steps > plan.validate_every
    assert sum(p.numel() for p in LEARNERS[name].network(shape).parameters()) > 10_000
    with pytest.raises(DataError, match="has no losses"):
        read_table(HERE / f"{name}.toml", ["losses.none=1"])
