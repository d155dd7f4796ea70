"""The offset between two tracks of thumbnails, and when it is believed."""

import numpy as np
import pytest
from numpy.typing import NDArray

from vqmon.media.reference.alignment import (
    THUMBNAIL_HEIGHT,
    THUMBNAIL_WIDTH,
    Alignment,
    BorderShares,
    ThumbnailTrack,
    choose_partner,
    find_alignment,
)

WHOLE = BorderShares()


def scene(time: float, *, seed: int = 1) -> NDArray[np.uint8]:
    """A thumbnail of a scene in which three soft blobs wander; the same seed and time give the same picture."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:THUMBNAIL_HEIGHT, 0:THUMBNAIL_WIDTH].astype(np.float64)
    picture = np.full(rows.shape, 60.0)
    for _ in range(3):
        phase, speed, radius = rng.uniform(0, 6), rng.uniform(0.5, 1.5), rng.uniform(5, 12)
        row, column = 27 + 18 * np.sin(phase + speed * time), 48 + 38 * np.cos(1.7 * phase + speed * time)
        picture += 150 * np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / radius**2)
    return picture.clip(0, 255).astype(np.uint8)


def track(
    *, starts: float = 0.0, seconds: float = 4.0, fps: float = 25.0, seed: int = 1, noise: float = 0.0
) -> ThumbnailTrack:
    """Thumbnails of the scene from `starts` on; times count from the first one."""
    rng = np.random.default_rng(9)
    times = [index / fps for index in range(int(seconds * fps))]
    pictures = [scene(starts + time, seed=seed) for time in times]
    noisy = [(picture + rng.normal(0, noise, picture.shape)).clip(0, 255).astype(np.uint8) for picture in pictures]
    return ThumbnailTrack(times, noisy)


def align(segment: ThumbnailTrack, reference: ThumbnailTrack) -> Alignment:
    return find_alignment(segment, reference, areas=(WHOLE, WHOLE))


@pytest.mark.parametrize("shift", [-0.48, 0.0, 0.2, 1.0, 2.0, 3.0])
@pytest.mark.parametrize("rates", [(25.0, 25.0), (50.0, 25.0), (25.0, 50.0)], ids=["25", "50 on 25", "25 on 50"])
def test_a_shift_is_found_to_the_frame(shift: float, rates: tuple[float, float]) -> None:
    """With coding noise, and at two frame rates."""
    found = align(track(starts=5 + shift, fps=rates[0], noise=3), track(starts=5.0, fps=rates[1]))

    assert found.is_reliable
    assert found.offset_seconds == pytest.approx(shift, abs=1e-6)
    assert found.confidence > 0.9


@pytest.mark.parametrize(
    "reference",
    [track(seed=2), track(starts=40.0), ThumbnailTrack(track().times_seconds, track().thumbnails[::-1])],
    ids=["another scene", "another time", "backwards"],
)
def test_what_does_not_belong_together_is_refused(reference: ThumbnailTrack) -> None:
    """Another content, a time outside the search range, and the same frames in another order."""
    assert not align(track(), reference).is_reliable


def test_two_moments_before_one_background_are_told_apart() -> None:
    """The pictures correlate by their background; what moves before it does not."""
    background = scene(0.0, seed=3).astype(np.int64)

    def before_background(seed: int) -> ThumbnailTrack:
        moving = track(seed=seed)
        mixed = [(0.8 * background + 0.2 * picture).astype(np.uint8) for picture in moving.thumbnails]
        return ThumbnailTrack(moving.times_seconds, mixed)

    assert align(before_background(4), before_background(4)).is_reliable
    assert not align(before_background(4), before_background(5)).is_reliable


def test_a_still_picture_keeps_its_own_time() -> None:
    """Nothing tells one time from another, so the clocks are believed."""
    rng = np.random.default_rng(0)
    still = [(scene(0.0) + rng.normal(0, 0.4, (54, 96))).clip(0, 255).astype(np.uint8) for _ in range(100)]
    times = [index / 25 for index in range(100)]
    found = align(ThumbnailTrack(times, still[:50] + still[:50]), ThumbnailTrack(times, still))

    assert found.is_reliable
    assert found.offset_seconds == 0


def test_pictures_without_contrast_pair_with_nothing() -> None:
    """Black on black has nothing to be aligned by."""
    black = ThumbnailTrack([index / 25 for index in range(100)], [np.full((54, 96), 16, np.uint8)] * 100)

    assert not align(black, black).is_reliable


def test_borders_are_cut_before_thumbnails_are_compared() -> None:
    """A picture between black bars has the thumbnails of the picture without them."""
    plain, squeezed = track(), []
    for picture in plain.thumbnails:
        barred = np.full((54, 96), 16, np.uint8)
        barred[9:45] = picture[np.linspace(0, 53, 36).round().astype(int)]
        squeezed.append(barred)
    bars = BorderShares(top=9 / 54, bottom=9 / 54)
    with_bars = ThumbnailTrack(plain.times_seconds, squeezed)

    assert not align(with_bars, plain).is_reliable
    assert find_alignment(with_bars, plain, areas=(bars, WHOLE)).is_reliable


def test_a_partner_is_the_expected_one_unless_another_is_clearly_nearer() -> None:
    """Noise does not move a pairing; a picture that moved on does."""
    rng = np.random.default_rng(0)
    pictures = [scene(time) for time in (0.0, 0.04, 0.08)]
    still = [(pictures[0] + rng.normal(0, 2, (54, 96))).clip(0, 255).astype(np.uint8) for _ in range(3)]

    assert choose_partner(pictures[2], pictures, expected=1) == 2
    assert choose_partner(pictures[0], still, expected=1) == 1


def poor_track(*, starts: float, speed: float = 0.25, key_interval: int = 1000) -> ThumbnailTrack:
    """As a poor encode shows slow content: mostly what was there two frames before, and a fixed pattern over it.

    Key frames show what is there.
    """
    times = [index / 25 for index in range(100)]
    keys = list(range(key_interval, 100, key_interval))
    pattern = np.random.default_rng(4).normal(0, 25, (THUMBNAIL_HEIGHT, THUMBNAIL_WIDTH))
    pictures = []
    for index, time in enumerate(times):
        share = 0.0 if index in keys else 0.6
        lagging, current = scene(starts + speed * (time - 0.08)), scene(starts + speed * time)
        pictures.append((share * lagging + (1 - share) * current + pattern).clip(0, 255).astype(np.uint8))
    return ThumbnailTrack(times, pictures, keys)


def slow_track(*, starts: float, speed: float = 0.25) -> ThumbnailTrack:
    """The slow scene undamaged, for six seconds."""
    times = [index / 25 for index in range(150)]
    return ThumbnailTrack(times, [scene(starts + speed * time) for time in times])


def test_a_poor_encode_that_lags_is_paired_by_the_clocks() -> None:
    """It resembles the frame before its own a little more."""
    found = align(poor_track(starts=5.0), slow_track(starts=5.0))

    assert found.is_reliable
    assert found.offset_seconds == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("shift", [0.0, 0.04, 0.12, 0.52, 1.0])
def test_the_key_frames_of_a_poor_encode_tell_its_offset(shift: float) -> None:
    """All frames together lead to an earlier one."""
    segment, reference = poor_track(starts=5.0 + 0.25 * shift, key_interval=24), slow_track(starts=5.0)
    without_keys = ThumbnailTrack(segment.times_seconds, segment.thumbnails)

    assert align(segment, reference).is_reliable
    assert align(segment, reference).offset_seconds == pytest.approx(shift, abs=1e-6)
    if shift > 0.25:
        assert align(without_keys, reference).offset_seconds < shift - 0.01


@pytest.mark.parametrize("shift", [-0.52, -0.24])
def test_key_frames_from_before_the_reference_do_not_decide(shift: float) -> None:
    """They resemble its first frame most, although the reference begins later."""
    segment, reference = slow_track(starts=5.0 + shift, speed=1.0), slow_track(starts=5.0, speed=1.0)

    found = align(ThumbnailTrack(segment.times_seconds[:100], segment.thumbnails[:100], [0]), reference)

    assert found.is_reliable
    assert found.offset_seconds == pytest.approx(shift, abs=1e-6)


@pytest.mark.parametrize("shift", [0.52, 1.0])
def test_a_key_frame_in_a_still_beginning_does_not_decide(shift: float) -> None:
    """It fits every offset that puts it onto the still, that of the clocks too; the frames that move tell."""

    def starts_still(starts: float) -> ThumbnailTrack:
        times = [index / 25 for index in range(125)]
        noise = np.random.default_rng(4).normal(0, 2, (THUMBNAIL_HEIGHT, THUMBNAIL_WIDTH))
        pictures = [scene(max(2.0, starts + time)) + noise for time in times]
        return ThumbnailTrack(times, [picture.clip(0, 255).astype(np.uint8) for picture in pictures], [0])

    found = align(starts_still(0.6 + shift), starts_still(0.6))

    assert found.is_reliable
    assert found.offset_seconds == pytest.approx(shift, abs=1e-6)


def test_a_frame_that_is_missing_behind_the_key_frame_moves_the_offset_by_one() -> None:
    """Where most frames are one frame later than the key frame says, they decide."""
    reference = track()
    pictures = [*reference.thumbnails[:10], *reference.thumbnails[11:]]

    found = align(ThumbnailTrack(reference.times_seconds[: len(pictures)], pictures, [0]), reference)

    assert found.is_reliable
    assert found.offset_seconds == pytest.approx(0.04, abs=1e-6)


def test_a_poor_encode_whose_key_frames_lie_before_the_reference_is_not_believed() -> None:
    """All frames together lead to several earlier offsets, and no key frame tells the right one."""
    segment, reference = poor_track(starts=5.0 - 0.25 * 0.52, key_interval=1000), slow_track(starts=5.0)

    found = align(ThumbnailTrack(segment.times_seconds, segment.thumbnails, [0]), reference)

    assert not found.is_reliable
    assert found.is_ambiguous


def test_key_frames_between_two_frames_do_not_decide_alone() -> None:
    """Where two neighbours fit them alike, all frames must name the same one; here they lag."""
    segment, later = (poor_track(starts=5.0 + 0.25 * shift, key_interval=24) for shift in (1.0, 1.02))
    for key in segment.keys:
        segment.thumbnails[key] = later.thumbnails[key]

    assert not align(segment, slow_track(starts=5.0)).is_reliable


def test_an_offset_with_rivals_farther_away_than_its_neighbours_is_not_believed() -> None:
    """Without the clocks nothing tells which of them is right."""
    found = align(poor_track(starts=5.08, speed=0.08), slow_track(starts=5.0, speed=0.08))

    assert not found.is_reliable
