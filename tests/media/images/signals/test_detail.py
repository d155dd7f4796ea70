"""Fine and coarse differences per cell, and the detail that cells lack against earlier frames of their scene."""

from dataclasses import replace

import numpy as np
import pytest

from vqmon.core.frames import DETAIL_GRID_BYTES, DetailGrid
from vqmon.media.images.signals.detail import detail_losses, measure_detail

SHAPE = (9, 16)


def test_noise_ramps_and_flat_areas_have_their_known_differences() -> None:
    """Of uniform noise both are a third of its range; a ramp's coarse difference is eight times its fine one."""
    random = np.random.default_rng(3)
    luma = np.full((720, 1280), 90, np.uint8)
    luma[:, :640] = random.integers(0, 90, (720, 640))
    grid = measure_detail(luma)
    assert np.abs(grid.fine[:, :7] - 30).max() < 2.5
    assert np.abs(grid.coarse[:, :7] - 30).max() < 2.5
    assert grid.fine[:, 9:].max() == 0
    assert np.abs(grid.luma[:, 9:] - 90).max() < 1e-3

    ramp = np.broadcast_to((np.arange(1280) // 6).astype(np.uint8), (720, 1280))
    grid = measure_detail(ramp)
    assert np.abs(grid.coarse[:, 1:-1] / grid.fine[:, 1:-1] - 8).max() < 0.5


def test_small_and_tall_pictures_have_the_same_grid() -> None:
    """Down to a picture of a few pixels; a picture of more lines is measured at a larger distance."""
    for shape in ((1, 1), (7, 5), (20, 300), (1920, 1080)):
        assert measure_detail(np.zeros(shape, np.uint8)).fine.shape == (9, 16)
    fine = np.random.default_rng(0).integers(0, 200, (1080, 1920)).astype(np.uint8)
    doubled = np.repeat(np.repeat(fine, 2, axis=0), 2, axis=1)
    assert np.abs(measure_detail(doubled).fine - measure_detail(fine).fine).max() < 4


def grid(*, seed: int = 0, fine_share: float = 0.35, is_observed: bool = True) -> DetailGrid:
    """A sharp frame; frames of one seed are of one scene."""
    random = np.random.default_rng(seed)
    coarse = random.uniform(6, 30, SHAPE).astype(np.float32)
    return DetailGrid(
        fine=(coarse * fine_share).astype(np.float32),
        coarse=coarse,
        luma=random.uniform(30, 220, SHAPE).astype(np.float32),
        lost=np.zeros(SHAPE, np.float32) if is_observed else None,
    )


def blurred(frame: DetailGrid, columns: slice) -> DetailGrid:
    """The same with a smooth ramp instead of detail in some columns."""
    fine = frame.fine.copy()
    fine[:, columns] = frame.coarse[:, columns] / 8 * 1.1
    return replace(frame, fine=fine)


def test_what_a_segment_lacks_from_its_first_frame_on_is_told_by_earlier_ones() -> None:
    """Without them nothing is known; a frame that has its detail ends it. The columns beside the border see both."""
    damaged = [blurred(grid(), slice(0, 8)) for _ in range(2)]
    assert all(loss.max() == 0 for loss in detail_losses(damaged))
    losses = detail_losses([*damaged, grid(), damaged[0]], earlier=[grid() for _ in range(8)])
    for loss in losses[:2]:
        assert loss[:, :7].min() > 0.8
        assert loss[:, 9:].max() == 0
    for loss in losses[2:]:
        assert loss.max() == 0


def test_without_frames_between_them_sampled_frames_are_compared_with_each_other() -> None:
    """A frame alone in its scene has no loss that could be found."""
    sharp = [grid(is_observed=False) for _ in range(5)]
    losses = detail_losses([*sharp[:3], blurred(sharp[3], slice(0, 8)), *sharp[4:], grid(seed=9, is_observed=False)])
    assert losses[3][:, :7].min() > 0.8
    assert losses[3][:, 9:].max() == 0
    assert all(losses[index].max() == 0 for index in (0, 1, 2, 4, 5))


def test_frames_of_another_scene_are_no_comparison() -> None:
    """A soft scene after a sharp one is no loss."""
    soft = [grid(seed=9, fine_share=0.14) for _ in range(2)]
    assert all(loss.max() == 0 for loss in detail_losses(soft, earlier=[grid(), grid()]))


def test_flat_cells_lose_nothing() -> None:
    """There is no detail in a sky or in black bars that could be lost."""
    frame = grid()
    coarse = frame.coarse.copy()
    coarse[:2] = 0.1
    flat = replace(frame, coarse=coarse, fine=np.zeros(SHAPE, np.float32))
    loss = detail_losses([flat], earlier=[frame, frame])[0]
    assert loss[:2].max() == 0
    assert loss[3:].min() > 0.8


def test_a_grid_survives_packing() -> None:
    """To a step of 1/256 level; another number of bytes is refused."""
    frame = replace(grid(), lost=np.full(SHAPE, 0.25, np.float32))
    packed = frame.pack()
    assert len(packed) == DETAIL_GRID_BYTES
    restored = DetailGrid.unpack(packed)
    unobserved = DetailGrid.unpack(replace(frame, lost=None).pack())
    assert unobserved.lost is None
    for name in ("fine", "coarse", "luma", "lost"):
        assert np.abs(getattr(restored, name) - getattr(frame, name)).max() <= 0.5 / 256 + 1e-4
    with pytest.raises(ValueError, match=r"reshape|cells"):
        DetailGrid.unpack(packed[:-2])
