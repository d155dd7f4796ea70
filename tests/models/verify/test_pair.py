"""The verification of a pair: what passes, and what is refused."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from models import MODELS_FOLDER  # noqa: E402
from models.export.pair import read_manifest_facts, write_pair  # noqa: E402
from models.networks.lite import Lite, LiteConfig  # noqa: E402
from models.verify.pair import VerifyError, verify_pair  # noqa: E402

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


def test_an_exported_network_passes_every_check(network: Lite, pair: Path) -> None:
    """Hash, graph, golden result, batches of several sizes and agreement with torch."""
    assert len(verify_pair(pair, network=network)) == 5


def test_a_changed_file_is_refused(pair: Path, tmp_path: Path) -> None:
    """One more byte at the end is another hash."""
    copy = tmp_path / pair.name
    copy.write_bytes(pair.read_bytes() + b"\0")
    copy.with_suffix(".json").write_bytes(pair.with_suffix(".json").read_bytes())
    with pytest.raises(VerifyError, match="sha256"):
        verify_pair(copy, network=None)


def test_another_network_is_told_apart(pair: Path) -> None:
    """Weights that were not exported do not agree with the file."""
    torch.manual_seed(1)
    other = Lite(LiteConfig(trunk="mobilenetv4_conv_small_050", hidden=8)).eval()
    torch.nn.init.normal_(other.direct.weight)
    with pytest.raises(VerifyError, match="torch against ONNX"):
        verify_pair(pair, network=other)


def test_the_shipped_pair_passes_every_check() -> None:
    """Its hash, its golden result, its graph and its batches."""
    assert len(verify_pair(SHIPPED, network=None)) == 4
    assert SHIPPED.stat().st_size <= 12 * 2**20
