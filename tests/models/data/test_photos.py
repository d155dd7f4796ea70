"""Photos and ladders: where tiles are, how they are laid out, and that what is written comes back."""

from pathlib import Path

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
    seen = photos.lay_out_tiles(photos.cut_tiles(canvas))
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
    fit, validation = photos.split_train_validation(100, 10, seed=1)
    assert sorted([*fit, *validation]) == list(range(100))
    np.testing.assert_array_equal(validation, photos.split_train_validation(100, 10, seed=1)[1])
    assert len(validation) == 10


def test_ladders_read_back_as_written(tmp_path: Path) -> None:
    """Tiles come back bit by bit, with the content and the kind they were written under."""
    tiles = [np.full((12, 96, 128, 3), value, np.uint8) for value in (1, 2, 3)]
    assert photos.write_ladders(tmp_path, iter([("a", "blur", tiles[:2]), ("b", "noise", tiles[1:])])) == 4
    rungs, ladders = photos.load_ladders(tmp_path)
    assert [(each.content, each.kind, each.rows) for each in ladders] == [
        ("a", "blur", (0, 1)),
        ("b", "noise", (2, 3)),
    ]
    np.testing.assert_array_equal(rungs[3], tiles[2])


def test_a_ladder_has_two_rungs_or_more() -> None:
    """One rung has nothing to be compared with."""
    with pytest.raises(ValueError, match="two rungs, a/blur has 1"):
        photos.Ladder(content="a", kind="blur", rows=(0,))


def test_photos_are_read_back_with_their_scores(tmp_path: Path) -> None:
    """Both splits of the database's layout; a file name may differ from the CSV in case."""
    database, folder = tmp_path / "biq", tmp_path / "out"
    (database / "Images").mkdir(parents=True)
    folder.mkdir()
    for name, level in (("a.JPG", 50), ("b.jpg", 200)):
        Image.new("RGB", (64, 64), (level,) * 3).save(database / "Images" / name, "PNG")
    for split, rows in (("Train", "a.jpg,0.25"), ("Test", "b.jpg,0.75")):
        (database / f"{split} (Images and MOS).csv").write_text(f"Image Name,MOS\n{rows}\n")
    assert list(photos.write_photos(database, folder)) == [0.0, 0.5]
    for split, level, score in (("train", 50, 0.25), ("test", 200, 0.75)):
        canvases, scores = photos.load_photos(folder, split)
        assert canvases.shape == (1, 540, 540, 3)
        assert (canvases == level).all()
        assert scores.tolist() == [score]
