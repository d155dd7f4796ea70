"""Detail that parts lose and gain between frames: beginning, end and part of damage, in content that moves and cuts."""

from collections.abc import Iterable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from vqmon.core.frames import DetailGrid
from vqmon.core.scores import Losses
from vqmon.media.images.signals.detail_steps import DetailSteps

SHAPE = (9, 16)
LEFT = np.s_[:, :8]
FPS = 10
BLACK = {"fine": 0, "coarse": 0, "luma": 16}


def frames(*, seed: int = 0, seconds: float = 10, cuts: tuple[float, ...] = ()) -> list[DetailGrid]:
    """Sharp frames: the detail of each cell wanders by a fifth and more in a second, and is another after a cut."""
    random = np.random.default_rng(seed)
    result = []
    for number in range(round(seconds * FPS)):
        if number == 0 or number / FPS in cuts:
            luma, share = (random.uniform(*limits, SHAPE).astype(np.float32) for limits in ((30, 220), (0.25, 0.5)))
        share = np.clip(share * np.exp(random.normal(0, 0.06, SHAPE)), 0.2, 0.7).astype(np.float32)
        coarse = np.full(SHAPE, 12, np.float32)
        result.append(DetailGrid(fine=coarse * share, coarse=coarse, luma=luma))
    return result


def soften(grid: DetailGrid, part: tuple[slice, slice], share: float) -> DetailGrid:
    """The same with `share` of the detail in a part."""
    fine = grid.fine.copy()
    fine[part] = grid.coarse[part] / 8 + (fine[part] - grid.coarse[part] / 8) * share
    return DetailGrid(fine=fine, coarse=grid.coarse, luma=grid.luma)


def losses(grids: Iterable[DetailGrid]) -> list[Losses]:
    """Of one frame per second."""
    steps, count = DetailSteps(), 0
    for count, grid in enumerate(grids, start=1):
        steps.add_frame((count - 1) / FPS, partial(replace, grid))
    result = steps.losses([float(second) for second in range(count // FPS)])
    assert result is not None
    return result


def damaged_seconds(grids: Iterable[DetailGrid]) -> list[int]:
    return [second for second, loss in enumerate(losses(grids)) if loss.max() > 0]


@pytest.mark.parametrize("cuts", [(), (4.5,), (4.5, 5.5)], ids=["one scene", "a cut", "a scene all damaged"])
def test_damage_of_a_part_lasts_from_its_loss_to_its_gain(cuts: tuple[float, ...]) -> None:
    """Half a picture from 3.5 to 6.5 s: these seconds and this half, in sharp and in soft content."""
    grids = frames(cuts=cuts)
    grids[35:65] = [soften(grid, LEFT, 0.4) for grid in grids[35:65]]
    found = losses(grids)
    assert [second for second, loss in enumerate(found) if loss.max() > 0] == [4, 5, 6]
    for loss in found[4:7]:
        assert loss[:, :7].min() > 0.35
        assert loss[:, 9:].max() == 0
    assert damaged_seconds(frames(cuts=cuts)) == []


def test_a_clear_loss_or_gain_alone_reaches_to_the_cut() -> None:
    """One that is not clear tells nothing alone."""
    for share, seconds in ((0.3, [3, 4]), (0.6, [])):
        grids = frames(cuts=(2.5, 4.5))
        grids[30:45] = [soften(grid, LEFT, share) for grid in grids[30:45]]
        assert damaged_seconds(grids) == seconds
        grids = frames(cuts=(2.5, 4.5))
        grids[25:45] = [soften(grid, LEFT, share) for grid in grids[25:45]]
        grids[42:45] = frames(cuts=(2.5, 4.5))[42:45]
        assert damaged_seconds(grids) == [second for second in seconds if share == 0.3]


def test_black_between_two_scenes_is_a_cut() -> None:
    """What begins in a scene alone does not go on behind it, and what ends in one did not begin before it."""
    black = DetailGrid(**{name: np.full(SHAPE, level, np.float32) for name, level in BLACK.items()})
    grids = frames(cuts=(5.0,))
    grids[47:50] = [black] * 3
    begins = [soften(grid, LEFT, 0.2) if 30 <= number < 47 else grid for number, grid in enumerate(grids)]
    assert damaged_seconds(begins) == [3, 4]
    ends = [soften(grid, LEFT, 0.2) if 50 <= number < 70 else grid for number, grid in enumerate(grids)]
    assert damaged_seconds(ends) == [5, 6]


def test_what_content_does_is_no_damage() -> None:
    """Slow changes, small parts, a moment, and a text that vanishes."""
    slow, small, moment, text = (frames(), frames(), frames(), frames())
    for number in range(30, 60):
        slow[number] = soften(slow[number], LEFT, 1 - 0.6 * min(number - 30, 60 - number) / 15)
        small[number] = soften(small[number], np.s_[:3, :4], 0.2)
    moment[38:42] = [soften(grid, LEFT, 0.3) for grid in moment[38:42]]
    for number in range(30, 100):
        flat = soften(text[number], LEFT, 0.2)
        coarse = flat.coarse.copy()
        coarse[LEFT] *= 0.1
        text[number] = DetailGrid(fine=np.minimum(flat.fine, coarse * 0.2), coarse=coarse, luma=flat.luma)
    for name, grids in {"slow": slow, "small": small, "moment": moment, "text": text}.items():
        assert damaged_seconds(grids) == [], name


def test_frames_far_apart_tell_nothing() -> None:
    """Nor none: of a still picture, or of a segment whose sampled frames alone are decoded."""
    steps = DetailSteps()
    assert steps.losses([0.0]) is None
    for number, grid in enumerate(frames(seconds=1)):
        steps.add_frame(float(number), partial(replace, grid))
    assert steps.losses([0.0]) is None


def test_a_clock_that_goes_back_tells_nothing() -> None:
    steps = DetailSteps()
    for time, grid in zip((*np.arange(100, 102, 0.1), *np.arange(0, 2, 0.1)), frames(seconds=4), strict=True):
        steps.add_frame(float(time), partial(replace, grid))
    assert steps.losses([100.0, 1.0]) is None
