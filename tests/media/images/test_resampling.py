"""Views at other sizes, with square pixels, upright."""

from pathlib import Path

import numpy as np
import pytest

from tests.media.clips import clip, ffmpeg, x264
from tests.media.decode.rig import FIT, SMALL, TILES, moving_clip
from vqmon.core.types import View
from vqmon.media.decode.pool import DecoderPool
from vqmon.media.images.resampling import Orientation, TileLayout, display_size


async def test_fit_pads_and_tiles_are_cut_as_documented() -> None:
    """`fit` pads above and below a wide picture; `tiles` shows parts of the picture at its own scale."""
    whole = View(kind="stretch", width=228, height=128)
    async with DecoderPool(1) as pool:
        decoded = await pool.decode(moving_clip(), views=[FIT, TILES, whole], signals=())
    fit, tiles, picture = (decoded.views[view][0] for view in (FIT, TILES, whole))
    assert (fit[0] == (1, 2, 3)).all()
    assert (fit[-1] == (1, 2, 3)).all()
    assert not (fit[32] == (1, 2, 3)).all()
    # column 1 of 4, row 2 of 3: 32 x 32 pixels centred in a cell of 57 x 42.7
    left, top = int(1.5 * 57 - 16 + 0.5), int(2.5 * 128 / 3 - 16 + 0.5)
    assert np.array_equal(tiles[64:96, 32:64], picture[top : top + 32, left : left + 32])


async def test_square_pixels_and_rotation_are_applied(tmp_path: Path) -> None:
    """A 2:1 pixel doubles the width, a quarter turn swaps the sides, and the picture is turned clockwise."""
    red_left = "color=red:size=64x32:rate=25:duration=1,drawbox=x=32:w=32:h=32:color=blue:t=fill,setsar=2"
    (tmp_path / "plain.mp4").write_bytes(clip(*x264(), source=red_left, container="mp4"))
    turned = tmp_path / "turned.mp4"
    ffmpeg("-display_rotation", "-90", "-i", str(tmp_path / "plain.mp4"), "-c", "copy", "-y", str(turned))
    async with DecoderPool(1) as pool:
        plain = await pool.decode((tmp_path / "plain.mp4").read_bytes(), views=[])
        decoded = await pool.decode(turned.read_bytes(), views=[SMALL])
    assert (plain.media.width, plain.media.height, plain.media.rotation_degrees) == (128, 32, 0)
    assert (decoded.media.width, decoded.media.height, decoded.media.rotation_degrees) == (32, 128, 90)
    top, bottom = decoded.views[SMALL][0][4].mean(axis=0), decoded.views[SMALL][0][-4].mean(axis=0)
    assert top[0] > 200 > 60 > top[2]
    assert bottom[2] > 200 > 60 > bottom[0]


@pytest.mark.parametrize(
    ("matrix", "rotation_degrees", "corner"),
    [
        ((1, 0, 0, 1), 0, "a"),
        ((0, 1, -1, 0), 90, "c"),
        ((-1, 0, 0, -1), 180, "d"),
        ((0, -1, 1, 0), 270, "b"),
        ((-1, 0, 0, 1), 0, "b"),
        ((1, 0, 0, -1), 180, "c"),
    ],
)
def test_the_display_matrix_turns_and_mirrors(
    matrix: tuple[int, int, int, int], rotation_degrees: int, corner: str
) -> None:
    """Of a picture with the corners a b / c d, `corner` is at the top left when it is displayed."""
    a, b, c, d = (value << 16 for value in matrix)
    orientation = Orientation.from_display_matrix(np.array([a, b, 0, c, d, 0, 0, 0, 1 << 30], np.int32).tobytes())
    assert orientation.rotation_degrees == rotation_degrees
    assert orientation.apply(np.array([["a", "b"], ["c", "d"]]))[0, 0] == corner


def test_without_a_display_matrix_a_picture_is_upright() -> None:
    """Side data that is missing or truncated changes nothing."""
    assert Orientation.from_display_matrix(b"") == Orientation.from_display_matrix(bytes(35)) == Orientation()


def test_display_size_applies_pixel_shape_before_rotation() -> None:
    """The height is kept, the width multiplied; then a quarter turn swaps them."""
    turned = Orientation(transposes=True)
    assert display_size(720, 576, orientation=Orientation(), sample_aspect_ratio=16 / 15) == (768, 576)
    assert display_size(720, 576, orientation=turned, sample_aspect_ratio=16 / 15) == (576, 768)
    assert display_size(1, 10, orientation=Orientation(), sample_aspect_ratio=0.1) == (1, 10)


@pytest.mark.parametrize("transposes", [False, True])
@pytest.mark.parametrize("flips_x", [False, True])
@pytest.mark.parametrize("flips_y", [False, True])
def test_tiles_of_the_coded_picture_are_those_of_the_upright_one(
    *, transposes: bool, flips_x: bool, flips_y: bool
) -> None:
    orientation = Orientation(transposes=transposes, flips_x=flips_x, flips_y=flips_y)
    coded = np.arange(40 * 60).reshape(40, 60)
    upright = orientation.apply(coded)
    height, width = upright.shape
    layout = TileLayout(canvas=(width, height), tile=(8, 4), corners=((0, 0), (12, 20), (width - 8, height - 4)))
    on_coded = layout.to_coded(orientation)
    assert on_coded.canvas == (60, 40)
    for (left, top), (coded_left, coded_top) in zip(layout.corners, on_coded.corners, strict=True):
        columns, rows = on_coded.tile
        tile = coded[coded_top : coded_top + rows, coded_left : coded_left + columns]
        np.testing.assert_array_equal(orientation.apply(tile), upright[top : top + 4, left : left + 8])
