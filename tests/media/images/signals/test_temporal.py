"""Which frames count as consecutive, and what is measured of them between two samples."""

import numpy as np

from tests.media.images.pictures import Picture, photo
from vqmon.media.images.signals.meter import SignalMeter
from vqmon.media.images.signals.temporal import TEMPORAL_SIGNALS, TemporalMeter

PICTURE = photo("coffee")[:, :480]
OTHER = photo("astronaut")[: PICTURE.shape[0], :480]


def add(meter: TemporalMeter, picture: Picture, index: int | None = None) -> None:
    luma = np.clip(picture, 0, 255).astype(np.uint8)
    meter.add_frame(luma[::8, ::8].astype(np.float32), index=index, read_luma=lambda: luma)


def shaken(number: int) -> Picture:
    return PICTURE + 18 * np.random.default_rng(number).choice([-1, 1], PICTURE.shape)


def moved(pixels: int) -> Picture:
    return np.roll(PICTURE, pixels, axis=1)


def test_shimmer_needs_frames_that_follow_one_another() -> None:
    """With every second frame left out, or a gap after each, nothing is measured."""
    meter = TemporalMeter()
    for number in range(8):
        add(meter, shaken(number), 2 * number)
    assert meter.pop() == dict.fromkeys(TEMPORAL_SIGNALS)
    for number in range(8):
        meter.mark_gap()
        add(meter, shaken(number))
    assert meter.pop()["shimmer"] is None
    for number in range(8):
        add(meter, shaken(number), number)
    assert (meter.pop()["shimmer"] or 0) > 0.4


def test_shimmer_is_measured_at_every_second_sample() -> None:
    """Which bounds what it costs; the value before holds in between."""
    meter, measured = TemporalMeter(), []
    for _ in range(4):
        for number in range(8):
            add(meter, shaken(number))
        measured.append(meter.pop()["shimmer"] is not None)
    assert measured == [True, False, True, False]


def test_frames_after_the_last_sample_count_for_it() -> None:
    """A burst may begin with it."""
    meter = SignalMeter(("shimmer",))
    for number in range(8):
        luma = np.clip(shaken(number), 0, 255).astype(np.uint8)
        meter.add_native(luma[::8, ::8].astype(np.float32), index=number, read_luma=luma.copy)
    assert (meter.finish()["shimmer"] or 0) > 0.4
    assert SignalMeter(("black",)).finish() == {}


def test_strong_flicker_of_a_picture_without_contrast_is_no_change_of_scene() -> None:
    """Cells that alternate, each brighter and darker than its neighbours in turn."""
    meter = TemporalMeter()
    row, column = np.mgrid[:360, :480]
    for number in range(9):
        add(meter, 100 + 18 * np.where((row // 32 + column // 32 + number) % 2, 1.0, -1.0), number)
    assert (meter.pop()["shimmer"] or 0) > 0.5


def test_a_still_picture_has_neither_shimmer_nor_judder() -> None:
    """All its frames are repeats; a cadence is not measured."""
    meter = TemporalMeter()
    for _ in range(10):
        add(meter, PICTURE)
    assert meter.pop() == {"shimmer": 0.0, "judder": None, "repeated_frames": None, "jumps": None}


def test_repeats_are_counted_and_are_no_shimmer() -> None:
    """Every second frame is repeated."""
    meter = TemporalMeter()
    for number in range(16):
        add(meter, moved(4 * (number // 2)))
    values = meter.pop()
    assert values["repeated_frames"] is not None
    assert abs(values["repeated_frames"] - 0.5) < 0.05
    assert (values["shimmer"] or 0) < 0.15


def test_a_cut_is_no_jump() -> None:
    """Steps are compared within a scene."""
    meter = TemporalMeter()
    for number in range(16):
        add(meter, moved(3 * number) if number < 8 else np.roll(OTHER, 3 * number, axis=1))
    assert meter.pop()["jumps"] == 0.0
