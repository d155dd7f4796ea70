"""Rungs of ladders: the same for the same seed, and each family has the settings that it stands for."""

import re

import numpy as np
import pytest

pytest.importorskip("torch")

from models.data.teachers.rungs import Rung, draw_poor_rungs, draw_poor_source, draw_rungs

pytestmark = pytest.mark.torch
SIZE = (640, 360)


def rungs_of(seed: int) -> list[Rung]:
    return draw_rungs(np.random.default_rng(seed))


def poor_rungs_of(seed: int) -> list[Rung]:
    return draw_poor_rungs(np.random.default_rng(seed), SIZE)


@pytest.mark.parametrize("draw", [rungs_of, poor_rungs_of])
def test_a_seed_gives_one_ladder(draw: object) -> None:
    """Equal for one seed, different for another; the first rung is without loss."""
    assert callable(draw)
    assert draw(3) == draw(3) != draw(4)
    assert (draw(3)[0].kind, draw(3)[0].filters) == ("clean", "null")
    assert draw(3)[0].encoder[-4:-2] == ("-qp", "0")


@pytest.mark.parametrize("draw", [rungs_of, poor_rungs_of])
@pytest.mark.parametrize("seed", range(5))
def test_sharpened_forms_follow_their_soft_scene(draw: object, seed: int) -> None:
    """The same filters and encoder with an unsharp mask of rising weight."""
    assert callable(draw)
    soft: dict[int | None, Rung] = {}
    amounts: dict[int | None, list[float]] = {}
    for rung in draw(seed):
        if rung.kind == "soft":
            soft[rung.pair] = rung
        if rung.kind == "softsharp":
            assert str(rung.filters).startswith(f"{soft[rung.pair].filters},unsharp=")
            assert rung.encoder == soft[rung.pair].encoder
            amounts.setdefault(rung.pair, []).append(rung.amount)
    assert soft
    assert all(len(each) == 4 and each == sorted(each) for each in amounts.values())


@pytest.mark.parametrize("seed", range(5))
def test_codecs_span_their_rates(seed: int) -> None:
    """Four rates for each of three codecs at full size and of two at fewer lines, from nearly the best to the worst."""
    codecs = [rung for rung in rungs_of(seed) if rung.kind == "codec"]
    assert len({rung.codec for rung in codecs}) == 3
    for codec in {rung.codec for rung in codecs}:
        damages = [rung.damage for rung in codecs if rung.codec == codec]
        assert damages == sorted(damages)
        assert damages[0] < 0.25
        assert 0.8 < damages[-1] <= 1
    scaled = [rung for rung in rungs_of(seed) if rung.kind == "sizecodec"]
    assert len(scaled) == 8
    assert all(rung.lines is not None and 180 <= rung.lines <= 720 for rung in scaled)


def test_every_codec_is_drawn_and_gets_worse_with_damage() -> None:
    """Over some seeds; the option that sets the rate rises with the damage within a ladder."""
    options = re.compile(r"-(?:crf|qscale:v|qmin) ([\d.]+)")
    drawn = set()
    for seed in range(12):
        by_codec: dict[str | None, list[float]] = {}
        for rung in [rung for rung in rungs_of(seed) if rung.kind == "codec"]:
            match = options.search(" ".join(rung.encoder))
            assert match
            by_codec.setdefault(rung.codec, []).append(float(match[1]))
        drawn |= by_codec.keys()
        assert all(values == sorted(values) and values[0] < values[-1] for values in by_codec.values())
    assert drawn == {"x264", "x265", "av1", "vp9", "mpeg2", "mpeg4", "jpeg", "vp8"}


def test_sizes_are_even_and_rise() -> None:
    """A quarter of the lines of the rendition that each stands for, within a pixel."""
    sizes = [rung for rung in rungs_of(1) if rung.kind == "size"]
    heights = [int(str(rung.filters).split(":")[1]) for rung in sizes]
    assert all(height % 2 == 0 for height in heights)
    assert all(abs(height - (rung.lines or 0) / 2) <= 1 for height, rung in zip(heights, sizes, strict=True))
    assert heights == sorted(heights)


def test_poor_sources_are_smaller_or_coded() -> None:
    """270 to 1080 lines, even sizes, some noisy and some soft."""
    sources = [draw_poor_source(np.random.default_rng(seed)) for seed in range(40)]
    assert {source.size for source in sources} <= {
        (240, 136),
        (320, 180),
        (426, 240),
        (480, 270),
        (640, 360),
        (960, 540),
    }
    assert 0 < sum("noise" in source.filters for source in sources) < 20
    assert 0 < sum("gblur" in source.filters for source in sources) < 20
