"""Export and its check: a small network goes to ONNX and back; the shipped pair is what its manifest says."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from models import MODELS_FOLDER  # noqa: E402
from models.data.photos import cut_tiles, lay_out  # noqa: E402
from models.export.pair import normalise, read_facts, run_onnx, write_pair  # noqa: E402
from models.networks.lite import Lite, LiteConfig, split_tiles  # noqa: E402
from models.train.lite import to_tensor  # noqa: E402
from models.verify.pair import VerifyError, verify  # noqa: E402
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
    return write_pair(network, "tiny", version=7, facts=read_facts(MODELS_FOLDER / "lite.facts.toml"), folder=folder)


def test_an_exported_network_passes_every_check(network: Lite, pair: Path) -> None:
    """Hash, graph, golden result, batches of several sizes and agreement with torch."""
    assert len(verify(pair, network=network)) == 5


def test_a_manifest_reads_back(pair: Path) -> None:
    """The pair's name, its size and the licence note come back through the daemon's own reader."""
    spec = load_frame_spec(pair.with_suffix(".json"))
    assert (spec.id, spec.size_bytes) == ("tiny@7", pair.stat().st_size)
    assert "BIQ2021" in spec.licence.note


def test_a_changed_file_is_refused(pair: Path, tmp_path: Path) -> None:
    """One more byte at the end is another hash."""
    copy = tmp_path / pair.name
    copy.write_bytes(pair.read_bytes() + b"\0")
    copy.with_suffix(".json").write_bytes(pair.with_suffix(".json").read_bytes())
    with pytest.raises(VerifyError, match="sha256"):
        verify(copy, network=None)


def test_another_network_is_told_apart(pair: Path) -> None:
    """Weights that were not exported do not agree with the file."""
    torch.manual_seed(1)
    other = Lite(LiteConfig(trunk="mobilenetv4_conv_small_050", hidden=8)).eval()
    torch.nn.init.normal_(other.direct.weight)
    with pytest.raises(VerifyError, match="torch against ONNX"):
        verify(pair, network=other)


def test_the_export_says_nothing_of_the_machine(pair: Path) -> None:
    """No path of the exporting checkout is left in the file."""
    content = pair.read_bytes()
    assert str(MODELS_FOLDER.parent).encode() not in content
    assert b"site-packages" not in content


def test_the_graph_splits_a_mosaic_as_it_was_laid_out() -> None:
    """Tiles laid side by side come apart in the same order."""
    canvas = np.random.default_rng(0).integers(0, 256, (540, 960, 3)).astype(np.uint8)
    tiles = cut_tiles(canvas)
    pixels = torch.from_numpy(normalise(lay_out(tiles)[None]))
    torch.testing.assert_close(split_tiles(pixels), to_tensor(tiles))


def test_the_shipped_pair_passes_every_check() -> None:
    """Its hash, its golden result, its graph and its batches."""
    assert len(verify(SHIPPED, network=None)) == 4
    assert SHIPPED.stat().st_size <= 12 * 2**20


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
