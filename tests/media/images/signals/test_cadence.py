"""Judder, repeated frames and jumps, from the differences of consecutive frames."""

import pytest

from vqmon.media.images.signals.cadence import Cadence, measure_cadence


def cadence_of(*differences: float) -> Cadence:
    cadence = measure_cadence(differences)
    assert cadence is not None
    return cadence


def test_even_movement_has_no_judder() -> None:
    """Coding makes small differences of the steps."""
    assert cadence_of(4, 4, 4, 4, 4, 4) == Cadence(judder=0, repeated_frames=0, jumps=0)
    assert cadence_of(4, 4.5, 3.8, 4.2, 4.1, 3.9).judder < 0.1


@pytest.mark.parametrize(
    ("differences", "repeated", "judder"),
    [
        # 24 frames as 30, 30 as 60
        ((4, 4, 4, 4, 0, 4, 4, 4, 4, 0), 0.2, 0.25),
        ((4, 0, 4, 0, 4, 0, 4, 0), 0.5, 1.0),
        ((4, 0.1, 4, 0.1, 4, 0.1, 4, 0.1), 0.5, 0.95),
    ],
)
def test_repeated_frames_and_judder_of_a_pulldown(
    differences: tuple[float, ...], repeated: float, judder: float
) -> None:
    """A repeat may have a little coding noise."""
    cadence = cadence_of(*differences)
    assert cadence.repeated_frames == repeated
    assert cadence.judder == pytest.approx(judder, abs=0.05)


def test_a_jump_is_a_step_far_above_the_others() -> None:
    """As when frames were lost before encoding."""
    assert cadence_of(3, 3, 3, 12, 3, 3).jumps == 1.0
    assert 0 < cadence_of(3, 3, 3, 7, 3, 3).jumps < 1
    assert cadence_of(3, 3, 3, 5, 3, 3).jumps == 0.0


@pytest.mark.parametrize("differences", [(0, 0, 0, 0, 0, 0, 0), (0.4, 0.6, 0.5, 0.7, 0.4, 0.5), (4, 0, 4, 4), ()])
def test_stills_slow_movement_and_short_stretches_have_none(differences: tuple[float, ...]) -> None:
    """A still picture does not repeat frames: it is frozen."""
    assert measure_cadence(differences) is None
