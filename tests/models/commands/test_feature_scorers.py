"""The commands for feature networks and composites: from a published file to a card, and refused options."""

import argparse
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")


from models import __main__ as command  # noqa: E402
from models.commands import feature_scorers  # noqa: E402
from models.export.assembly import published  # noqa: E402
from models.networks.backbones.slowfast import FastPathway, SlowFastConfig  # noqa: E402
from models.weights import WeightsError  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]


def lively(network: Any) -> Any:
    published.randomize_weights(network)
    return network.eval().requires_grad_(requires_grad=False)


def options_of(tmp_path: Path, *arguments: str) -> argparse.Namespace:
    return command.build_parser().parse_args([*arguments, "--built", str(tmp_path / "built"), "--dtype", "fp32"])


def test_from_a_published_file_through_the_command(tmp_path: Path) -> None:
    """A file as published, with the slow pathway in it, becomes a graph of the fast one; the card says whence."""
    torch.manual_seed(2)
    table = dict(lively(FastPathway(SlowFastConfig())).state_dict())
    table["blocks.0.multipathway_blocks.0.conv.weight"] = torch.zeros(64, 3, 1, 7, 7)
    torch.save({"model_state": table}, tmp_path / "SLOWFAST_8x8_R50.pyth")
    arguments = ("slowfast_fast", "--weights", str(tmp_path / "SLOWFAST_8x8_R50.pyth"))
    feature_scorers.export(options_of(tmp_path, "export", *arguments))
    lines = feature_scorers.verify(options_of(tmp_path, "verify", *arguments))
    assert any(line.startswith("slowfast-fast against torch") for line in lines)
    output = feature_scorers.card(options_of(tmp_path, "card", "slowfast_fast"))
    assert "sha256 of SLOWFAST_8x8_R50.pyth" in output
    assert "not stated" in output


def test_missing_and_unknown_files_are_named(tmp_path: Path) -> None:
    """What a composite needs, and what it does not take."""
    with pytest.raises(
        WeightsError, match=r"rq_vqa needs weights that are not named: --part slowfast=FILE: SLOWFAST_8x8_R50\.pyth"
    ):
        feature_scorers.build_assembly(options_of(tmp_path, "export", "rq_vqa", "--weights", "x.pth"))
    with pytest.raises(WeightsError, match="takes no weights of dover"):
        feature_scorers.build_assembly(
            options_of(tmp_path, "export", "liqe", "--weights", "x.pth", "--part", "dover=y")
        )
    with pytest.raises(WeightsError, match="write NAME=FILE"):
        feature_scorers.build_assembly(options_of(tmp_path, "export", "liqe", "--part", "liqe"))
    with pytest.raises(WeightsError, match="written as fp32 or fp16, not as int4"):
        feature_scorers.precision_of(argparse.Namespace(name="liqe", dtype="int4"))


@pytest.mark.parametrize("dtype", ["fp32", "int8"])
def test_a_scorer_that_was_not_exported_is_told(tmp_path: Path, dtype: str) -> None:
    """By `verify` as by `card`, with what to do."""
    for run, name in ((feature_scorers.verify, "verify"), (feature_scorers.card, "card")):
        options = options_of(tmp_path, name, "liqe")
        options.dtype = dtype
        with pytest.raises(WeightsError, match=rf"liqe-{dtype}@1\.parts\.json: no such sheet; export the scorer first"):
            run(options)
