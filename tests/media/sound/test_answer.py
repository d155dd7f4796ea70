"""Answers about the sound from a process that may be hostile."""

from dataclasses import asdict

import pytest

from vqmon.core.types import AudioFacts
from vqmon.media.sound.answer import parse_sound

FACTS = AudioFacts(
    codec="aac",
    sample_rate_hz=48000,
    channels=2,
    duration_seconds=4.0,
    loudness_lufs=-23.1,
    momentary_max_lufs=-18.0,
    true_peak_dbtp=-1.5,
    silent_share=0.0,
    clipped_share=0.0,
    lost_channels=0,
    is_mono=False,
    phase_correlation=0.5,
    offset_seconds=0.02,
    end_offset_seconds=None,
    gap_seconds=0.0,
)


def test_facts_and_reasons_are_parsed() -> None:
    """What the worker sends is what the event has."""
    assert parse_sound(asdict(FACTS)) == {"audio": FACTS}
    assert parse_sound("no_audio") == {"unmeasured_audio": "no_audio"}


@pytest.mark.parametrize(
    "change",
    [
        {"codec": "a" * 41},
        {"codec": 1},
        {"sample_rate_hz": 48000.5},
        {"channels": True},
        {"silent_share": 1.5},
        {"silent_share": None},
        {"loudness_lufs": float("nan")},
        {"gap_seconds": 1e12},
        {"is_mono": 1},
        {"more": 1},
    ],
)
def test_anything_else_is_refused(change: dict[str, object]) -> None:
    """Wrong kinds, ranges and names."""
    with pytest.raises(ValueError, match=r"codec|number|range|boolean|facts"):
        parse_sound({**asdict(FACTS), **change})


@pytest.mark.parametrize("content", [None, "other", [], {}])
def test_an_answer_without_facts_is_refused(content: object) -> None:
    """A reason must be one of those documented."""
    with pytest.raises(ValueError, match="sound"):
        parse_sound(content)
