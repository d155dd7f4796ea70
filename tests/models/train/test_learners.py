"""Scorers that anyone can train: what they see, that they learn it from a CSV, and what is refused."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import skimage.data  # noqa: E402
from PIL import Image, ImageFilter  # noqa: E402

from models import MODELS_FOLDER  # noqa: E402
from models.__main__ import main  # noqa: E402
from models.commands.train import read_table, score_plan  # noqa: E402
from models.data.csv_scores import DataError  # noqa: E402
from models.export.composite import view_of  # noqa: E402
from models.train.checkpoint import read_parts  # noqa: E402
from models.train.features import extract  # noqa: E402
from models.train.features import extractors as own  # noqa: E402
from models.train.features.decoder_views import view_of_picture  # noqa: E402
from models.train.features.extract import Frozen, Looking, Parts  # noqa: E402
from models.train.learners import LEARNERS, Shape  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

PHOTO = np.asarray(skimage.data.chelsea())


@pytest.fixture(scope="module")
def parts() -> Parts:
    """Lite's weights of the shipped pair, and fragments as they were drawn."""
    torch.manual_seed(0)
    return {**read_parts({}), "fragments": Frozen(network=own.FragmentNet().eval(), origin="drawn")}


def test_all_looks_have_the_sizes_that_networks_expect(parts: Parts) -> None:
    """Of a landscape photo and of a portrait one, each alone what it is among others."""
    sizes = {
        extract.MAPS: (sum(own.WIDTHS), own.GRID, own.GRID),
        extract.SALIENCY: (1, own.GRID, own.GRID),
        extract.STATISTICS: (own.FEATURES["statistics"],),
        extract.FRAGMENTS: (3, 224, 224),
        extract.FRAGMENT_FEATURES: (own.FEATURES["fragments"],),
    }
    for look, size in sizes.items():
        looking = Looking(look, parts)
        both = looking([PHOTO, PHOTO.transpose(1, 0, 2)], seed=3)
        assert both.shape == (2, *size)
        np.testing.assert_allclose(looking([PHOTO], seed=3)[0], both[0], rtol=1e-3, atol=1e-3)


def test_fragments_are_pieces_of_their_cells_at_native_scale() -> None:
    """Each lies within its own seventh of the picture; the draw depends on the seed alone."""
    y, x = np.mgrid[0:700, 0:1400]
    picture = np.stack([y // 100, x // 200, (y + x) % 256], -1).astype(np.uint8)
    view = view_of(extract.PIECES)
    seen = view_of_picture(view, picture, seed=3)
    for row, column in np.ndindex(7, 7):
        piece = seen[row * 32 : row * 32 + 32, column * 32 : column * 32 + 32]
        assert (piece[..., 0] == row).all()
        assert (piece[..., 1] == column).all()
        assert (np.diff(piece[..., 2].astype(int), axis=0) % 256 == 1).all()
    assert (view_of_picture(view, picture, seed=3) == seen).all()
    assert (view_of_picture(view, picture, seed=4) != seen).any()


def test_maps_lie_where_their_tiles_do(parts: Parts) -> None:
    """A tile changed in the second row, third column of the mosaic changes these cells and no others."""
    mosaic = torch.full((1, 3, 288, 512), 90, dtype=torch.uint8)
    changed = mosaic.clone()
    changed[..., 96:192, 256:384] = torch.randint(0, 255, (3, 96, 128), dtype=torch.uint8)
    net = extract.network_of(extract.MAPS, parts)
    assert net is not None
    with torch.no_grad():
        apart = (net(mosaic) - net(changed)).abs().amax(1)[0]
    rows, columns = torch.nonzero(apart > 1e-3, as_tuple=True)
    assert (set(rows.tolist()), set(columns.tolist())) == ({4, 5, 6, 7}, {6, 7, 8})


def test_saliency_is_highest_where_something_stands_out() -> None:
    """A bright square on even noise, in the upper right; a picture of one colour stands out nowhere."""
    small = torch.randint(100, 110, (2, 3, 64, 64), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    small[0, :, 11:15, 47:52] = 255
    small[1] = 128
    found, flat = own.Saliency()(small).numpy()
    row, column = np.unravel_index(found[0].argmax(), found[0].shape)
    assert (row, column) in {(r, c) for r in (1, 2, 3) for c in (8, 9, 10)}
    assert found.max() == 1
    assert flat.min() > 0.99


def test_the_products_of_matrices_are_the_fourier_transform() -> None:
    """Against numpy's, step by step as published, of a real picture."""
    small = np.asarray(Image.fromarray(PHOTO).resize((64, 64)))
    spectrum = np.fft.fft2(small @ np.array([0.299, 0.587, 0.114]))
    log = np.log1p(np.abs(spectrum))
    near = np.stack([np.roll(np.pad(log, 1, mode="edge"), (y, x), (0, 1)) for y in (-1, 0, 1) for x in (-1, 0, 1)])
    residual = np.log(np.abs(spectrum)) - near.mean(0)[1:-1, 1:-1]
    wanted = np.abs(np.fft.ifft2(np.exp(residual + 1j * np.angle(spectrum)))) ** 2
    for _ in range(3):
        padded = np.pad(wanted, 2, mode="edge")
        wanted = np.lib.stride_tricks.sliding_window_view(padded, (5, 5)).mean((2, 3))
    cells = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(wanted)[None], own.GRID)[0].numpy()
    found = own.Saliency()(torch.from_numpy(small.copy()).permute(2, 0, 1)[None])[0, 0].numpy()
    np.testing.assert_allclose(found, cells / cells.max(), rtol=1e-3, atol=1e-4)


def test_guidance_and_scales_can_be_left_out() -> None:
    """With guidance, once trained, saliency matters; without it nobody looks at it; both aggregators work."""
    maps, one, other = torch.rand(2, sum(own.WIDTHS), 12, 12), torch.zeros(2, 1, 12, 12), torch.rand(2, 1, 12, 12)
    for guidance, aggregator in (("saliency", "scales"), ("saliency", "plain"), ("none", "scales")):
        torch.manual_seed(0)
        shape = Shape(guidance=guidance, aggregator=aggregator)
        net = LEARNERS["align_iqa"].network(shape).eval()
        for injector in net.quality.injectors["natural"]:
            torch.nn.init.constant_(injector.strength, 1.0)
        is_guided = extract.SALIENCY in LEARNERS["align_iqa"].looks(shape)
        assert is_guided == (guidance == "saliency")
        with torch.no_grad():
            assert net(maps).shape == (2,)
            assert not torch.equal(net(maps, one), net(maps, other)) or not is_guided


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
    say = ["train", "align_iqa", "--csv", str(folder / "scores.csv"), "--test", str(folder / "scores.csv")]
    say += ["--folder", str(folder / "t"), "--cache", str(folder / "kept")]
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
    kept = sorted(path.stat().st_mtime_ns for path in (folder / "kept").rglob("*.npy"))
    assert len(kept) == 24
    main([*say, *short, "--set", "steps=30"])
    assert torch.load(folder / "t" / "last.pt", weights_only=True)["step"] == 30
    assert sorted(path.stat().st_mtime_ns for path in (folder / "kept").rglob("*.npy")) == kept


@pytest.mark.parametrize(
    ("change", "words"),
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
def test_what_is_missing_is_said_in_one_line(folder: Path, change: Callable[[Path], list[str]], words: str) -> None:
    """As an exit with a message, not a traceback."""
    with pytest.raises(SystemExit, match=words):
        main(["train", "spatial", "--folder", str(folder / "t"), *change(folder)])


def test_fragments_must_be_trained_before_they_are_looked_through(folder: Path) -> None:
    """Lean SR-VQA says so, and refuses weights of something else."""
    say = ["train", "lean_sr_vqa", "--csv", str(folder / "scores.csv"), "--folder", str(folder / "t")]
    with pytest.raises(SystemExit, match=r"needs trained weights of `fragments`: --part fragments=best\.pt"):
        main(say)
    torch.save({"weights": {"last.bias": torch.zeros(1)}, "learner": "spatial"}, folder / "other.pt")
    with pytest.raises(SystemExit, match="holds weights of spatial"):
        main([*say, "--part", f"fragments={folder / 'other.pt'}"])


@pytest.mark.parametrize("name", LEARNERS)
def test_every_learner_has_a_plan_that_can_be_read(name: str) -> None:
    """The shipped TOML gives a plan and a network."""
    plan, shape = score_plan(read_table(MODELS_FOLDER / f"{name}.toml"))
    assert plan.steps > plan.validate_every
    assert sum(p.numel() for p in LEARNERS[name].network(shape).parameters()) > 10_000
    with pytest.raises(DataError, match="has no losses"):
        read_table(MODELS_FOLDER / f"{name}.toml", ["losses.none=1"])
