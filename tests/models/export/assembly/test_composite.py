"""Composite manifests: scales and views."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import pytest  # noqa: E402

from models.export.assembly import (  # noqa: E402
    composite,
    recipes,
)
from models.export.assembly.assembly import PixelInput  # noqa: E402
from models.export.assembly.picture_scorers import PICTURE_SCORERS  # noqa: E402
from models.networks.backbones.swin import SwinConfig  # noqa: E402
from models.weights import WeightsError  # noqa: E402
from vqmon.core.types import View  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]


@pytest.mark.parametrize(
    "text",
    ["native_range = [0, 1]", "native_range = [1, 0]\npoints = [[0, 0], [1, 100]]", "points = [[0, 100], [1, 0]]\n"
     "native_range = [0, 1]", "native_range = [0, 1]\npoints = [[0, 0], [nan, 100]]", "native_range = [",
     "native_range = [0, 1]\npoints = [[0, 0], [1, 100]]\nextra = 1"],
)  # fmt: skip
def test_scales_that_make_no_sense_are_refused(tmp_path: Path, text: str) -> None:
    """Half said, falling, endless, no TOML, more than known: the file is named, and what it should hold."""
    (tmp_path / "s.toml").write_text(text)
    with pytest.raises(WeightsError, match=r"--scale .*s\.toml.*native_range = \[low, high\] and points"):
        composite.read_scale_file(tmp_path / "s.toml")
    with pytest.raises(WeightsError, match="cannot be read"):
        composite.read_scale_file(tmp_path / "none.toml")


def test_the_view_is_that_of_the_source() -> None:
    """Two squares of 448, padded with the mean of CLIP's pictures."""
    source = PixelInput(name="halves", transform="halves", side=448, order="NKCHW", pictures=2)
    view = composite.view_of_input(source)
    assert (view.row_shape, view.picture_count, view.pad_rgb) == ((2, 448, 448, 3), 2, (122, 116, 104))


def test_views_are_those_of_the_published_networks() -> None:
    """Full size: 32 frames at 224; seven by seven pieces of 32, every second frame; windows; a 384 centre."""
    views = {
        source.name: composite.view_of_input(source)
        for source in (
            recipes.motion_input(), recipes.fragments_input(SwinConfig()), recipes.windows_input(),
            recipes.centre_input(SwinConfig(frames=1, side=384, patch=(1, 4, 4), window=(1, 12, 12), gated_stages=0)),
        )
    }  # fmt: skip
    assert views["motion"].row_shape == views["fragments"].row_shape == (32, 224, 224, 3)
    assert (views["fragments"].columns, views["fragments"].rows) == (7, 7)
    assert [views[name].clip.stride for name in ("motion", "fragments")] == [1, 2]  # type: ignore[union-attr]
    assert views["windows"].row_shape == (15, 224, 224, 3)
    semantic = PixelInput(name="frames", transform="stretch", side=512, order="NKCHW", pictures=20, stride=4)
    view = composite.view_of_input(semantic)
    assert (view.row_shape, view.clip and view.clip.stride) == ((20, 512, 512, 3), 4)
    assert views["windows"].clip is None
    grids = {name: composite.view_of_input(scorer.crops) for name, scorer in PICTURE_SCORERS.items()}
    assert grids["hyper_iqa"] == View(kind="grid", width=224, height=224, columns=4, rows=2, short_side=384)
    assert grids["maniqa"] == View(kind="grid", width=224, height=224, columns=3, rows=2)
    assert [grids[name].row_shape for name in ("db_cnn", "musiq")] == [(2, 384, 384, 3), (2, 768, 768, 3)]
    assert (views["picture"].short_side, views["picture"].row_shape) == (384, (384, 384, 3))
