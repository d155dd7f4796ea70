"""What the scorer sees of a picture: where the tiles lie and how they are laid out."""

import numpy as np
import pytest

pytest.importorskip("PIL")

from PIL import Image

from models.data import photos

pytestmark = pytest.mark.torch


@pytest.mark.parametrize(
    ("size", "canvas"),
    [((1920, 1080), (960, 540)), ((1080, 1920), (540, 960)), ((320, 180), (960, 540)), ((640, 272), (1271, 540))],
)
def test_the_short_side_becomes_540_px(size: tuple[int, int], canvas: tuple[int, int]) -> None:
    """Large frames are made smaller and small ones larger, in their own shape."""
    assert photos.canvas_size(*size) == canvas


def test_tiles_of_a_landscape_frame_are_centred_in_their_cells() -> None:
    """On 960 x 540 the cells are 240 x 180, so tiles begin at 56, 296, 536, 776 and at 42, 222, 402."""
    assert photos.tile_origins(960, 540) == [(x, y) for y in (42, 222, 402) for x in (56, 296, 536, 776)]


def test_tiles_of_a_portrait_frame_use_the_same_grid() -> None:
    """On 540 x 960 the cells are 135 x 320: 3.5, 138.5, ... round to the larger pixel, rows begin at 112, 432, 752."""
    assert photos.tile_origins(540, 960) == [(x, y) for y in (112, 432, 752) for x in (4, 139, 274, 409)]


def test_tiles_never_overlap_nor_leave_the_canvas() -> None:
    """Also on a square, the tightest canvas there is."""
    origins = photos.tile_origins(540, 540)
    xs, ys = sorted({x for x, _ in origins}), sorted({y for _, y in origins})
    assert min(np.diff(xs)) >= photos.TILE_WIDTH
    assert min(np.diff(ys)) >= photos.TILE_HEIGHT
    assert 0 <= xs[0] < xs[-1] + photos.TILE_WIDTH <= 540
    assert 0 <= ys[0] < ys[-1] + photos.TILE_HEIGHT <= 540


def test_a_mosaic_holds_the_pixels_of_its_tiles() -> None:
    """Row 1, column 2 of the mosaic is the tile that begins at 536, 222 of the canvas."""
    canvas = np.random.default_rng(0).integers(0, 256, (540, 960, 3)).astype(np.uint8)
    seen = photos.lay_out(photos.cut_tiles(canvas))
    assert seen.shape == (288, 512, 3)
    np.testing.assert_array_equal(seen[96:192, 256:384], canvas[222:318, 536:664])


def test_a_full_hd_picture_is_halved() -> None:
    """A flat picture stays flat, and a canvas-sized one is not touched at all."""
    flat = photos.mosaic(Image.new("RGB", (1920, 1080), (10, 200, 30)))
    assert (flat == np.array([10, 200, 30])).all()
    canvas = np.random.default_rng(1).integers(0, 256, (540, 960, 3)).astype(np.uint8)
    np.testing.assert_array_equal(photos.to_canvas(Image.fromarray(canvas)), canvas)


def test_validation_rows_are_never_fitted_on() -> None:
    """The two parts are disjoint, complete and the same for the same seed."""
    fit, validation = photos.split_validation(100, 10, seed=1)
    assert sorted([*fit, *validation]) == list(range(100))
    np.testing.assert_array_equal(validation, photos.split_validation(100, 10, seed=1)[1])
    assert len(validation) == 10
