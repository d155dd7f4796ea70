"""The verification of scorers of several graphs: changed graphs and sheets are refused."""

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")


from models.export.assembly import published  # noqa: E402
from models.export.assembly.assembly import FeatureInput, GraphAssembly, GraphPart  # noqa: E402  # noqa: E402
from models.export.assembly.writer import write_assembly  # noqa: E402
from models.networks.pictures import liqe  # noqa: E402
from models.verify import assembly as parts_verify  # noqa: E402
from models.verify.pair import VerifyError  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]


FACTS = published.read_scorer_facts("sr_vqa")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smallest scorer."""
    folder = tmp_path_factory.mktemp("written")
    torch.manual_seed(1)
    part = GraphPart(name="liqe-score", network=liqe.ExpectedQuality(), takes=("logits",))
    source = FeatureInput(name="logits", shape=(liqe.SENTENCE_COUNT,))
    assembly = GraphAssembly(name="tiny", version=1, inputs=(source,), parts=(part,))
    return write_assembly(assembly, FACTS, precision="fp32", folder=folder)


def test_changed_graphs_and_sheets_are_refused(written: Path, tmp_path: Path) -> None:
    """One byte more in a graph; one golden value moved; another shape."""
    for path in written.parent.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    sheet, graph = tmp_path / written.name, tmp_path / "liqe-score-fp32@1.onnx"
    table = json.loads(sheet.read_text())
    table["golden"]["liqe-score"]["values"][0] += 0.01
    sheet.write_text(json.dumps(table))
    with pytest.raises(VerifyError, match="golden values of liqe-score"):
        parts_verify.verify_assembly(sheet)
    graph.write_bytes(graph.read_bytes() + b"\0")
    with pytest.raises(VerifyError, match="sha256"):
        parts_verify.verify_assembly(sheet)
