"""Checkpoints of trained scorers: what is written is read back, and other files are refused."""

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from models.data.csv_scores import DataError  # noqa: E402
from models.train.checkpoint import checkpoint_facts, read_frozen_networks, read_trained_scorer  # noqa: E402
from models.train.features.extract import FrozenNetwork  # noqa: E402
from models.train.features.extractors import FragmentNetwork  # noqa: E402
from models.train.trainable import TRAINABLE_SCORERS, ScorerNetworkConfig  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]


def write_checkpoint(file: Path, kind: str, **changes: Any) -> dict[str, Any]:
    """A checkpoint of a freshly drawn network with two validation rows."""
    csv = file.with_name("scores.csv")
    csv.write_text("path,score\n")
    config = ScorerNetworkConfig(width=16)
    frozen = {name: FrozenNetwork(network=FragmentNetwork(), origin="here") for name in ("fragments", "lite")}
    facts = checkpoint_facts(
        kind, config, frozen_networks=frozen, csv=csv, rows=12, licence=changes.pop("licence", None)
    )
    network = TRAINABLE_SCORERS[kind].build_network(config)
    table = {
        **facts,
        "weights": network.state_dict(),
        "srcc": 0.5,
        "step": 7,
        "predicted": torch.tensor([0.1, 0.2]),
        "wanted": torch.tensor([0.0, 1.0]),
        **changes,
    }
    torch.save(table, file)
    return table


def test_a_checkpoint_reads_back_with_its_provenance(tmp_path: Path) -> None:
    """Weights, configuration, validation rows, licence, and where the scores come from."""
    table = write_checkpoint(tmp_path / "best.pt", "fragments", licence="CC-BY-4.0")
    trained = read_trained_scorer(tmp_path / "best.pt")
    assert (trained.kind, trained.config.width, trained.licence) == ("fragments", 16, "CC-BY-4.0")
    assert trained.frozen_networks == {}
    assert trained.facts["steps"] == "7"
    assert trained.facts["rows"] == "12"
    assert trained.facts["scores"].startswith("scores.csv, sha256 ")
    assert trained.target.tolist() == [0.0, 1.0]
    for name, value in trained.network.state_dict().items():
        assert torch.equal(value, table["weights"][name])


def test_a_licence_that_nobody_stated_is_said_to_be_unknown(tmp_path: Path) -> None:
    """Rather than left empty."""
    write_checkpoint(tmp_path / "best.pt", "fragments")
    assert read_trained_scorer(tmp_path / "best.pt").licence == "not stated"


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"learner": "lite"}, "not a best.pt of fragments, spatial"), ({"weights": None}, "weights")],
)
def test_other_checkpoints_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    """One of another kind of training, and one without weights."""
    table = write_checkpoint(tmp_path / "best.pt", "fragments")
    table |= changes
    torch.save({key: value for key, value in table.items() if value is not None}, tmp_path / "best.pt")
    with pytest.raises(DataError, match=message):
        read_trained_scorer(tmp_path / "best.pt")


def test_lite_comes_from_the_shipped_pair() -> None:
    """When no other weights are named; its origin names the file and its hash."""
    (lite,) = read_frozen_networks({}).values()
    assert lite.origin.startswith("lite@1.onnx, sha256 ")
    assert not any(parameter.requires_grad for parameter in lite.network.parameters())


def test_unknown_frozen_networks_are_refused(tmp_path: Path) -> None:
    """The known names are listed; weights of another network are named as such."""
    torch.save({"weights": {}}, tmp_path / "x.pt")
    with pytest.raises(DataError, match="known: lite, fragments"):
        read_frozen_networks({"swin": tmp_path / "x.pt"})
    with pytest.raises(DataError, match="not weights of fragments"):
        read_frozen_networks({"fragments": tmp_path / "x.pt"})
