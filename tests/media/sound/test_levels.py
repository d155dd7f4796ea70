"""Levels of sound samples, on tones and noise."""

import numpy as np
import pytest

from vqmon.media.sound.levels import LevelMeter

RATE = 8000


def tone(level: float, *, seconds: float = 1.0) -> np.ndarray:
    return (level * np.sin(2 * np.pi * 440 * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, RATE).astype(np.float32)


def levels_of(*channels: np.ndarray, part: int = 1024) -> dict[str, float | int | bool | None]:
    """Passed in parts, as frames arrive."""
    meter, samples = LevelMeter(rate_hz=RATE), np.stack(channels)
    for start in range(0, samples.shape[1], part):
        meter.add(samples[:, start : start + part])
    return meter.finish()


def test_silence_is_a_share_of_the_time() -> None:
    """Half of it; a tone of -66 dBFS is silent too, one of -54 is not."""
    assert levels_of(np.concatenate([tone(0.5), tone(0)]))["silent_share"] == pytest.approx(0.5, abs=0.01)
    assert levels_of(tone(0.0007))["silent_share"] == 1.0
    assert levels_of(tone(0.0028))["silent_share"] == 0.0


def test_clipping_needs_a_run_at_full_scale() -> None:
    """A tone of twice full scale that was cut off; a tone that touches full scale is not clipped."""
    assert levels_of(np.clip(tone(2), -1, 1))["clipped_share"] == pytest.approx(2 / 3, abs=0.03)
    assert levels_of(tone(0.98))["clipped_share"] == 0.0
    single = np.zeros(RATE, np.float32)
    single[::10] = 1
    assert levels_of(single)["clipped_share"] == 0.0


@pytest.mark.parametrize(
    ("channels", "lost", "is_mono", "phase"),
    [
        ((tone(0.5), tone(0.5)), 0, True, 1.0),
        ((tone(0.5), -tone(0.5)), 0, False, -1.0),
        ((noise(1), noise(2)), 0, False, 0.0),
        ((tone(0.5), tone(0)), 1, False, None),
        # both silent: no channel is lost
        ((tone(0), tone(0)), 0, False, None),
        ((tone(0.5),), 0, False, None),
        ((tone(0.5), tone(0), tone(0.5)), 0, False, None),
    ],
)
def test_the_two_channels_of_stereo(
    channels: tuple[np.ndarray, ...], lost: int, is_mono: bool, phase: float | None
) -> None:
    """Mono, inverted, independent, one lost; other numbers of channels are not compared."""
    levels = levels_of(*channels)
    assert (levels["lost_channels"], levels["is_mono"]) == (lost, is_mono)
    assert levels["phase_correlation"] == (None if phase is None else pytest.approx(phase, abs=0.05))


def test_less_than_a_window_is_measured_as_it_is() -> None:
    """And no sample at all is silence."""
    assert levels_of(tone(0.5)[:100])["silent_share"] == 0.0
    assert LevelMeter(rate_hz=RATE).finish()["silent_share"] == 1.0
