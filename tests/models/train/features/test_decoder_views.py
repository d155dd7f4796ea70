"""Views of picture files against those of the decoder, and kinds of views that cannot be made."""

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from models.export.assembly.assembly import PixelInput  # noqa: E402
from models.export.assembly.composite import view_of_input  # noqa: E402
from models.train.features import extract  # noqa: E402
from models.train.features.decoder_views import make_row, make_view  # noqa: E402
from vqmon.core.types import View  # noqa: E402
from vqmon.media.decode.pool import DecoderPool  # noqa: E402
from vqmon.media.decode.protocol import DecodeLimits  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]


def test_fragments_are_pieces_of_their_cells_at_native_scale() -> None:
    """Each lies within its own seventh of the picture; the draw depends on the seed alone."""
    y, x = np.mgrid[0:700, 0:1400]
    picture = np.stack([y // 100, x // 200, (y + x) % 256], -1).astype(np.uint8)
    view = view_of_input(extract.FRAGMENTS_INPUT)
    seen = make_view(view, picture, seed=3)
    for row, column in np.ndindex(7, 7):
        piece = seen[row * 32 : row * 32 + 32, column * 32 : column * 32 + 32]
        assert (piece[..., 0] == row).all()
        assert (piece[..., 1] == column).all()
        assert (np.diff(piece[..., 2].astype(int), axis=0) % 256 == 1).all()
    assert (make_view(view, picture, seed=3) == seen).all()
    assert (make_view(view, picture, seed=4) != seen).any()


SIZES = {"cockatoo.mp4": (1280, 720), "bikes.mp4": (640, 272), "nasa_13013.mp4": (480, 270)}


INPUTS = (
    extract.TILES_INPUT,
    extract.SALIENCY_INPUT,
    extract.FRAGMENTS_INPUT,
    PixelInput(name="centre", transform="centre", side=224),
    PixelInput(name="windows", transform="windows", side=224, order="NKCHW", pictures=15),
    PixelInput(name="grid", transform="grid", side=224, order="NKCHW", pictures=6, columns=3, short_side=384),
)


@pytest.fixture(params=SIZES)
async def seen(request: pytest.FixtureRequest, shared: Path) -> Any:
    """A real clip: its frames at their own size, all views of trained scorers, and its bytes."""
    media = (shared / "clips" / request.param).read_bytes()
    width, height = SIZES[request.param]
    native = View(kind="stretch", width=width, height=height)
    views = [
        native,
        *(view_of_input(source) for source in INPUTS),
    ]
    async with DecoderPool(1, limits=DecodeLimits(deadline_seconds=60)) as pool:
        decoded = await pool.decode(media, views=tuple(views))
    assert (decoded.media.width, decoded.media.height) == (width, height)
    return decoded.views, decoded.views[native], zlib.crc32(media)


async def test_views_of_a_picture_are_those_of_the_decoder(seen: Any) -> None:
    """Fragments to the bit, at the decoder's places; what is scaled within 1.5 levels on the mean."""
    views, frames, seed = seen
    for source in INPUTS:
        view = view_of_input(source)
        ours = np.stack([make_view(view, frame, seed=seed + at) for at, frame in enumerate(frames)])
        assert ours.shape == views[view].shape
        apart = np.abs(ours.astype(int) - views[view])
        is_cut = view.kind in ("fragments", "windows") and min(frames.shape[1:3]) >= 224
        assert apart.max() == 0 if is_cut else apart.mean() < 1.5


def test_views_that_nobody_trains_on_are_refused() -> None:
    """Rather than made in another way than the decoder's."""
    with pytest.raises(ValueError, match="views of kind halves cannot be made"):
        make_view(View(kind="halves", width=4, height=4), np.zeros((9, 9, 3), np.uint8), seed=0)


@pytest.mark.parametrize(
    ("order", "transform", "pictures", "shape"),
    [
        ("NCHW", "stretch", 1, (1, 3, 32, 32)),
        ("NKCHW", "windows", 4, (1, 4, 3, 32, 32)),
        ("NCTHW", "stretch", 5, (1, 3, 5, 32, 32)),
        ("NKCHW", "stretch", 5, (1, 5, 3, 32, 32)),
    ],
)
def test_a_row_has_the_layout_that_graphs_take(
    order: Any, transform: Any, pictures: int, shape: tuple[int, ...]
) -> None:
    """The middle frame of a clip, or all in turn; too few are repeated."""
    frames = np.stack([np.full((40, 48, 3), 50 * number, np.uint8) for number in range(3)])
    frames[..., 2] = 7
    pixels = PixelInput(name="x", transform=transform, side=32, order=order, pictures=pictures)
    row = make_row(pixels, frames, seed=0)
    assert row.shape == shape
    assert row.flags.c_contiguous
    red, blue = row.reshape(-1, 32, 32)[:: 1 if order == "NCTHW" else 3], row.reshape(-1, 32, 32)[-1]
    assert (blue == 7).all()
    expected = [0, 50, 100, 0, 50] if transform == "stretch" and pictures > 1 else [50] * pictures
    assert [int(each.mean()) for each in red[: len(expected)]] == expected


def test_clips_of_fewer_frames_see_those_of_the_same_moments() -> None:
    """Of two clips of one scorer, that with half the frames has every second one."""
    frames = np.stack([np.full((40, 48, 3), 20 * number, np.uint8) for number in range(6)])
    rows = [
        make_row(PixelInput(name="x", transform="stretch", side=8, order="NCTHW", pictures=count), frames, seed=0)
        for count in (6, 3)
    ]
    assert [[int(each) for each in row.mean((0, 1, 3, 4))] for row in rows] == [[0, 20, 40, 60, 80, 100], [0, 40, 80]]
