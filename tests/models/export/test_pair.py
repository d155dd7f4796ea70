"""Export and its check: a small network goes to ONNX and back; the shipped pair is what its manifest says."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from models import MODELS_FOLDER  # noqa: E402
from models.data.photos import cut_tiles, lay_out_tiles  # noqa: E402
from models.export.pair import (  # noqa: E402
    HEIGHT,
    TILES_VIEW,
    WIDTH,
    PairForm,
    read_manifest_facts,
    run_onnx,
    to_network_input,
    write_pair,
)
from models.networks.lite import MEAN, STD, Lite, LiteConfig, split_tiles  # noqa: E402
from models.train.lite import tiles_to_tensor  # noqa: E402
from models.verify.pair import verify_pair  # noqa: E402
from vqmon.scoring.manifests.frame_scorer import load_frame_spec  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]


SHIPPED = MODELS_FOLDER / "built" / "lite@1.onnx"


@pytest.fixture(scope="module")
def network() -> Lite:
    """A small network with random weights."""
    torch.manual_seed(0)
    return Lite(LiteConfig(trunk="mobilenetv4_conv_small_050", hidden=8)).eval()


@pytest.fixture(scope="module")
def pair(network: Lite, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small network, exported."""
    folder = tmp_path_factory.mktemp("built")
    return write_pair(
        network, "tiny", version=7, facts=read_manifest_facts(MODELS_FOLDER / "lite.facts.toml"), folder=folder
    )


def test_a_manifest_reads_back(pair: Path) -> None:
    """The pair's name, its size and the licence note come back through the daemon's own reader."""
    spec = load_frame_spec(pair.with_suffix(".json"))
    assert (spec.id, spec.size_bytes) == ("tiny@7", pair.stat().st_size)
    assert "BIQ2021" in spec.licence.note


def test_the_export_says_nothing_of_the_machine(pair: Path) -> None:
    """No path of the exporting checkout is left in the file."""
    content = pair.read_bytes()
    assert str(MODELS_FOLDER.parent).encode() not in content
    assert b"site-packages" not in content


def test_half_precision_is_of_the_file_alone(network: Lite, pair: Path, tmp_path: Path) -> None:
    """The file is little more than half as large; scores differ by the rounding of weights, and by no more."""
    form = PairForm(view=TILES_VIEW, mean=MEAN, std=STD, stores_half_precision=True)
    facts = read_manifest_facts(MODELS_FOLDER / "lite.facts.toml")
    half = write_pair(network, "half", version=1, facts=facts, folder=tmp_path, form=form)
    assert 0.5 < half.stat().st_size / pair.stat().st_size < 0.75
    assert len(verify_pair(half, network=network, is_rounded=True)) == 5
    pictures = np.random.default_rng(1).integers(0, 256, (2, HEIGHT, WIDTH, 3)).astype(np.uint8)
    difference = np.abs(run_onnx(half, pictures) - run_onnx(pair, pictures)).max()
    assert 0 < difference < 2e-4 * 200


def test_the_graph_splits_a_mosaic_as_it_was_laid_out() -> None:
    """Tiles laid side by side come apart in the same order."""
    canvas = np.random.default_rng(0).integers(0, 256, (540, 960, 3)).astype(np.uint8)
    tiles = cut_tiles(canvas)
    pixels = torch.from_numpy(to_network_input(lay_out_tiles(tiles)[None]))
    torch.testing.assert_close(split_tiles(pixels), tiles_to_tensor(tiles))


def test_the_shipped_scorer_ranks_a_picture_made_worse() -> None:
    """A real photo, then blurred, then blurred a lot: each scores lower."""
    skimage_data = pytest.importorskip("skimage.data")
    from PIL import Image, ImageFilter

    from models.data.photos import mosaic

    photo = Image.fromarray(skimage_data.astronaut())
    pictures = np.stack([mosaic(photo.filter(ImageFilter.GaussianBlur(sigma))) for sigma in (0, 1.5, 4)])
    scores = run_onnx(SHIPPED, pictures)
    assert scores[0] > scores[1] > scores[2]


def test_the_shipped_manifest_is_calibrated_over_the_whole_scale() -> None:
    """The ends of the native range lie within the calibration, which rises."""
    spec = load_frame_spec(SHIPPED.with_suffix(".json"))
    low, high = (spec.calibration.apply(value) for value in spec.native_range)
    assert low < 20
    assert high > 80
