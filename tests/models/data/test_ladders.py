"""Degradations of ladders: each rung is worse than the one before, and the same for the same seed."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import skimage.data
from PIL import Image

from models.data import ladders
from models.data.photos import to_canvas

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

CANVAS = to_canvas(Image.fromarray(np.asarray(skimage.data.astronaut())))


@pytest.mark.parametrize("kind", sorted(ladders._DEGRADATIONS))
def test_each_rung_is_farther_from_the_original(kind: str) -> None:
    """The mean absolute difference rises from rung to rung; pictures keep their size."""
    rungs = ladders._DEGRADATIONS[kind](CANVAS, np.random.default_rng(0))
    differences = [np.abs(rung.astype(int) - CANVAS).mean() for rung in rungs]
    assert {rung.shape for rung in rungs} == {CANVAS.shape}
    assert differences == sorted(differences)
    assert len(set(differences)) == len(rungs) == 5


def test_synthetic_ladders_start_with_the_original() -> None:
    """Two different kinds per picture, six rungs of twelve tiles each, reproducible with the seed."""
    runs = [list(ladders.synthetic_ladders(iter([("a", CANVAS)]), kinds=2, seed=4)) for _ in range(2)]
    assert [(name, kind) for name, kind, _ in runs[0]] == [(name, kind) for name, kind, _ in runs[1]]
    assert len({kind for _, kind, _ in runs[0]}) == 2
    for (_, _, tiles), (_, _, same) in zip(*runs, strict=True):
        assert len(tiles) == 6
        np.testing.assert_array_equal(tiles[0], ladders.cut_tiles(CANVAS))
        np.testing.assert_array_equal(tiles, same)


def test_codec_ladders_fall_with_the_rate_and_skip_broken_sources(tmp_path: Path) -> None:
    """One ladder per source and frame, farther from the uncompressed frame at each rung; a broken file is skipped."""
    photo, broken = tmp_path / "photo.png", tmp_path / "broken.mp4"
    Image.fromarray(CANVAS[:300, :300]).save(photo)
    broken.write_bytes(b"no clip")
    sources = [
        (broken.name, ["-i", str(broken)]),
        (photo.name, ladders.pan_over_photo(photo, side=240, frames=4)),
    ]
    codecs = {"h264": (*ladders.CODECS["h264"][:2], (20, 51))}
    results = list(ladders.codec_ladders(sources, codecs=codecs, frame_numbers=(1, 3)))
    assert [(name, codec) for name, codec, _ in results] == [("photo.png", "h264")] * 2
    for _, _, (clean, good, bad) in results:
        errors = [np.abs(rung.astype(int) - clean).mean() for rung in (good, bad)]
        assert 0 < errors[0] < errors[1]
