"""LPIPS and DISTS: from files as torchvision and the authors write them to a bundle that the daemon serves."""

import argparse
import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import torchvision  # noqa: E402

from models import __main__ as command  # noqa: E402
from models.commands import reference_measures  # noqa: E402
from models.verify.pair import VerifyError  # noqa: E402
from models.weights import WeightsError  # noqa: E402
from vqmon.core.scores import PicturePairs  # noqa: E402
from vqmon.scoring.runtime.graph import Placement  # noqa: E402
from vqmon.scoring.runtime.shared_graphs import SharedGraphs  # noqa: E402
from vqmon.scoring.scorers.reference_measures import open_reference_measures  # noqa: E402
from vqmon.scoring.scorers.registry import ScorerOptions  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

LPIPS_CHANNELS = {"lpips_alex": (64, 192, 384, 256, 256), "lpips_vgg": (64, 128, 256, 512, 512)}
CPU = ScorerOptions(placement=Placement(device="cpu", threads=1))


def write_files(folder: Path, name: str) -> tuple[Path, Path]:
    """A whole state dict of torchvision, classifier included, and the authors' file; values are random."""
    torch.manual_seed(11)
    with torch.device("meta"):
        build = torchvision.models.alexnet if name == "lpips_alex" else torchvision.models.vgg16
        shapes = {key: tensor.shape for key, tensor in build(weights=None).state_dict().items()}
    # the classifier is not read: one number stands for all of it
    trunk = {
        key: torch.zeros(1).expand(shape).contiguous() if "classifier" in key and len(shape) == 1
        else torch.zeros(1) if "classifier" in key
        else torch.randn(shape) * (2 / shape[1:].numel()) ** 0.5 if len(shape) == 4
        else 0.05 * torch.randn(shape)
        for key, shape in shapes.items()
    }  # fmt: skip
    if name == "dists":
        heads = {key: torch.rand(1, 1475, 1, 1) for key in ("alpha", "beta")}
    else:
        heads = {
            f"lin{index}.model.1.weight": torch.rand(1, channels, 1, 1)
            for index, channels in enumerate(LPIPS_CHANNELS[name])
        }
    files = folder / "trunk.pth", folder / "heads.pth"
    for file, table in zip(files, (trunk, heads), strict=True):
        torch.save(table, file)
    return files


def options_of(folder: Path, verb: str, name: str, trunk: Path, heads: Path) -> argparse.Namespace:
    files = [] if verb == "card" else ["--weights", str(trunk), "--heads", str(heads)]
    return command.build_parser().parse_args([verb, name, *files, "--built", str(folder)])


@pytest.mark.parametrize("name", ["lpips_alex", pytest.param("lpips_vgg", marks=pytest.mark.slow), "dists"])
async def test_files_as_published_become_a_measure_that_is_served(tmp_path: Path, name: str) -> None:
    """Torch and ONNX agree; equal pictures have 0, damaged ones more, the more the damage; the card says whence."""
    trunk, heads = write_files(tmp_path, name)
    manifest = reference_measures.export(options_of(tmp_path, "export", name, trunk, heads))
    lines = reference_measures.verify(options_of(tmp_path, "verify", name, trunk, heads))
    assert sum(line.startswith("torch against ONNX") for line in lines) == 3
    assert "sha256 of heads.pth" in reference_measures.card(options_of(tmp_path, "card", name, trunk, heads))
    assert abs(json.loads(manifest.read_text())["golden"]["output"]) > 0.01
    random = np.random.default_rng(5)
    picture = np.kron(random.integers(30, 220, (1, 10, 12, 3)), np.ones((1, 8, 8, 1))).astype(np.uint8)
    noise = random.normal(0, 1, picture.shape)
    damaged = [np.clip(picture + strength * noise, 0, 255).astype(np.uint8) for strength in (0, 8, 40)]
    pairs = PicturePairs(samples=(0, 1, 2), reference=np.repeat(picture, 3, axis=0), segment=np.concatenate(damaged))
    async with SharedGraphs() as graphs:
        (measure,) = open_reference_measures([name.replace("_", "-")], [tmp_path], CPU, shared_graphs=graphs)
        none, some, much = (await measure.compare(pairs, sample_count=3)).frame_values
    assert none == pytest.approx(0, abs=1e-5)
    assert some is not None
    assert much is not None
    assert 1e-3 < some < much
    assert measure.short_side == (256 if name == "dists" else 0)


def test_files_that_do_not_fit_are_named(tmp_path: Path) -> None:
    """A missing option, the trunk of another network, and heads of the other trunk; what to use instead is said."""
    trunk, heads = write_files(tmp_path, "lpips_alex")
    missing = command.build_parser().parse_args(["export", "dists", "--weights", str(trunk), "--built", str(tmp_path)])
    with pytest.raises(WeightsError, match=r"dists needs two files: .*vgg16-397923af\.pth.*weights\.pt of the PyPI"):
        reference_measures.export(missing)
    with pytest.raises(WeightsError, match="--weights: this is not torchvision's VGG16"):
        reference_measures.export(options_of(tmp_path, "export", "lpips_vgg", trunk, heads))
    table = torch.load(heads, weights_only=True)
    table["lin4.model.1.weight"] = torch.rand(1, 512, 1, 1)
    torch.save(table, heads)
    with pytest.raises(
        WeightsError, match=r"--heads: this is not lpips/weights/v0.1/alex.pth.*1 of another shape: lin4"
    ):
        reference_measures.export(options_of(tmp_path, "export", "lpips_alex", trunk, heads))


def test_a_graph_that_is_not_that_of_the_weights_is_found(tmp_path: Path) -> None:
    """Verifying against other weights fails, and so does a file that was changed after the export."""
    trunk, heads = write_files(tmp_path, "lpips_alex")
    manifest = reference_measures.export(options_of(tmp_path, "export", "lpips_alex", trunk, heads))
    table = torch.load(trunk, weights_only=True)
    torch.save({key: 1.5 * tensor if key == "features.0.weight" else tensor for key, tensor in table.items()}, trunk)
    with pytest.raises(VerifyError, match="torch against ONNX, 80 x 64 px"):
        reference_measures.verify(options_of(tmp_path, "verify", "lpips_alex", trunk, heads))
    graph = manifest.with_suffix(".onnx")
    graph.write_bytes(graph.read_bytes() + b"\0")
    with pytest.raises(VerifyError, match="not the file of the manifest"):
        reference_measures.verify(options_of(tmp_path, "verify", "lpips_alex", trunk, heads))
