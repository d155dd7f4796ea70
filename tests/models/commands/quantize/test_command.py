"""The 8-bit form of an exported scorer, from a folder of pictures to a bundle that the daemon serves."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image, ImageFilter

torch = pytest.importorskip("torch")

import onnx  # noqa: E402
import skimage.data  # noqa: E402

from models import __main__ as command  # noqa: E402
from models.commands.quantize.command import find_files  # noqa: E402
from models.commands.quantize.human_scores import RatedFiles, measure_loss  # noqa: E402
from models.data.csv_scores import DataError  # noqa: E402
from models.export.assembly import picture_scorers, published  # noqa: E402
from models.networks.backbones.clip import Clip, ClipConfig  # noqa: E402
from vqmon.cli.main import main  # noqa: E402
from vqmon.scoring.manifests.composite_scorer import load_composite_spec  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

SMALL = ClipConfig(patch=56, width=64, depth=2, text_width=64, text_depth=1, joint=32)


def write_pictures(folder: Path, count: int) -> None:
    """Crops of a photo, sharp, blurred and noisy."""
    folder.mkdir(parents=True, exist_ok=True)
    photo, random = Image.fromarray(skimage.data.chelsea()), np.random.default_rng(0)
    for number in range(count):
        crop = photo.crop((5 * number, 2 * number, 5 * number + 300, 2 * number + 240))
        crop = crop.filter(ImageFilter.GaussianBlur(number % 4))
        noisy = np.asarray(crop) + random.normal(0, 8 * (number % 3), (240, 300, 3))
        Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(folder / f"{number:02}.png")


@pytest.fixture
def bundles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a small LIQE in float32, and the pictures `photos` beside it."""
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    torch.manual_seed(0)
    network = Clip(SMALL)
    published.randomize_weights(network)
    torch.save({name: tensor.half() for name, tensor in network.state_dict().items()}, tmp_path / "LIQE.pt")
    kit = published.PUBLISHED_SCORERS["liqe"]
    small = replace(kit, files={"liqe": replace(kit.files["liqe"], build=lambda: Clip(SMALL))})
    monkeypatch.setattr(published, "PUBLISHED_SCORERS", {"liqe": small})
    write_pictures(tmp_path / "photos", 18)
    built = str(tmp_path / "bundles")
    command.main(["export", "liqe", "--weights", str(tmp_path / "LIQE.pt"), "--dtype", "fp32", "--built", built])
    return tmp_path / "bundles"


def quantize(bundles: Path, *more: str) -> None:
    clips = str(bundles.parent / "photos")
    command.main(["quantize", "liqe", "--clips", clips, "--built", str(bundles), "--threads", "1", *more])


def test_a_scorer_in_8_bits_is_served_and_follows_float32(
    bundles: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Integer products, a verified bundle whose card says how it was made, and nearly the same scores."""
    quantize(bundles, "--max-loss", "0.1")
    report = capsys.readouterr().out
    assert "12 pictures and clips calibrate liqe-logits; 6 are held out" in report
    assert "liqe-int8@1.json" in report
    assert "not measured: what 8 bits lose against human scores" in report
    graph = onnx.load(str(bundles / "liqe-logits-int8@1.onnx"))
    operators = [node.op_type for node in graph.graph.node]
    assert operators.count("QuantizeLinear") >= 4
    assert (bundles / "liqe-logits-int8@1.onnx").stat().st_size < (bundles / "liqe-logits-fp32@1.onnx").stat().st_size
    command.main(["verify", "liqe", "--dtype", "int8", "--built", str(bundles)])
    command.main(["card", "liqe", "--dtype", "int8", "--built", str(bundles)])
    assert "12 pictures and clips; " in capsys.readouterr().out
    exact, rounded = (load_composite_spec(bundles / f"liqe-{form}@1.json") for form in ("fp32", "int8"))
    assert rounded.calibration == exact.calibration
    assert rounded.sha256 != exact.sha256

    monkeypatch.setenv("VQMON_SCORING__FOLDERS", json.dumps([str(bundles)]))
    monkeypatch.setenv("VQMON_DECODE__WORKERS", "1")
    words = ["score", "--json", "--scorer", "liqe-fp32", "--scorer", "liqe-int8", str(bundles.parent / "photos")]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    events = [json.loads(line)["data"] for line in result.stdout.splitlines() if line.startswith("{")]
    scores = np.array([[score["native_value"] for score in event["scores"]] for event in events])
    assert scores.shape == (18, 2)
    assert np.corrcoef(scores.T)[0, 1] > 0.95
    assert not (scores[:, 0] == scores[:, 1]).all()


def test_8_bits_that_cost_too_much_are_not_written(bundles: Path) -> None:
    """Nothing is left of the tries, and the message says what was reached and what to do."""
    files = sorted(path.name for path in bundles.iterdir())
    with pytest.raises(SystemExit, match=r"8 bits cost too much: SRCC -?[01]\.\d{4} .* --max-loss"):
        quantize(bundles, "--max-loss", "-1")
    assert sorted(path.name for path in bundles.iterdir()) == files


def test_8_bits_are_held_to_human_scores(bundles: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Scores that float32 gave lose by any rounding; the figure and the verdict are printed, and are on the card."""
    table = bundles.parent / "scores.csv"
    rows = "\n".join(f"photos/{number:02}.png,{number % 4}" for number in range(18))
    table.write_text(f"path,score\n{rows}\n")
    quantize(bundles, "--max-loss", "2", "--data", str(table))
    report = capsys.readouterr().out
    assert "lost, 2 allowed: passed" in report
    command.main(["card", "liqe", "--dtype", "int8", "--built", str(bundles)])
    assert "| human scores | scores.csv (18 files): SRCC with human scores" in capsys.readouterr().out
    table.write_text("path,score\nphotos/00.png,1\n")
    with pytest.raises(SystemExit, match=r"scores\.csv: 1 files are too few: 12"):
        quantize(bundles, "--data", str(table))


def test_a_loss_is_refused_where_it_is_larger_or_unknown() -> None:
    """Of two orders of three files one loses half; constant scores have no correlation."""
    rated = RatedFiles(name="scores.csv", files=(), scores=np.array([1.0, 2.0, 3.0]))
    loss = measure_loss(rated, [1, 2, 3], [2, 1, 3], max_loss=0.005)
    assert (loss.exact, loss.rounded, loss.is_allowed) == (1.0, 0.5, False)
    assert loss.describe().endswith("0.5000 lost, 0.005 allowed: failed")
    assert measure_loss(rated, [1, 2, 3], [2, 4, 6], max_loss=0.005).is_allowed
    assert not measure_loss(rated, [1, 2, 3], [1, 1, 1], max_loss=0.005).is_allowed


def test_what_cannot_be_quantized_says_why(bundles: Path, tmp_path: Path) -> None:
    """No pictures, too few, no manifest, another precision."""
    with pytest.raises(DataError, match="holds no pictures or clips"):
        find_files(bundles)
    with pytest.raises(DataError, match="--clips FOLDER"):
        find_files(None)
    for number in range(7, 18):
        (tmp_path / "photos" / f"{number:02}.png").unlink()
    with pytest.raises(SystemExit, match="7 files are too few: 12 are needed"):
        quantize(bundles)
    with pytest.raises(SystemExit, match="export the scorer with --dtype fp32 first"):
        quantize(bundles, "--version", "2")
    write_pictures(tmp_path / "photos", 18)
    (bundles / "liqe-fp32@1.json").unlink()
    with pytest.raises(SystemExit, match=r"liqe-fp32@1\.json: missing, .*--scale"):
        quantize(bundles)


def test_a_refusal_leaves_an_earlier_form_as_it_is(bundles: Path) -> None:
    quantize(bundles, "--max-loss", "0.1")
    before = {path.name: path.read_bytes() for path in bundles.iterdir()}
    with pytest.raises(SystemExit):
        quantize(bundles, "--max-loss", "-1")
    assert {path.name: path.read_bytes() for path in bundles.iterdir()} == before
    command.main(["verify", "liqe", "--dtype", "int8", "--built", str(bundles)])


class Convolutional(torch.nn.Module):
    """Convolutions, and a last layer that is a product of matrices."""

    def __init__(self) -> None:
        super().__init__()
        self.features = torch.nn.Conv2d(3, 8, 3)
        self.fc = torch.nn.Linear(8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, 3, height, width) -> (batch, 1)."""
        return self.fc(torch.relu(self.features(x)).mean((2, 3)))  # type: ignore[no-any-return]


def test_convolutions_with_a_last_product_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    torch.save(Convolutional().state_dict(), tmp_path / "weights.pt")
    kit = published.PUBLISHED_SCORERS["db_cnn"]
    small = replace(kit, files={"db_cnn": replace(kit.files["db_cnn"], build=Convolutional)})
    monkeypatch.setattr(published, "PUBLISHED_SCORERS", {"db_cnn": small})
    scorer = picture_scorers.PICTURE_SCORERS["db_cnn"]
    scorer = replace(scorer, build=Convolutional, crops=replace(scorer.crops, side=64, short_side=0))
    monkeypatch.setattr(picture_scorers, "PICTURE_SCORERS", {"db_cnn": scorer})
    write_pictures(tmp_path / "photos", 12)
    built = str(tmp_path / "bundles")
    command.main(["export", "db_cnn", "--weights", str(tmp_path / "weights.pt"), "--dtype", "fp32", "--built", built])
    with pytest.raises(SystemExit, match="nothing to gain"):
        command.main(["quantize", "db_cnn", "--clips", str(tmp_path / "photos"), "--built", built, "--threads", "1"])
