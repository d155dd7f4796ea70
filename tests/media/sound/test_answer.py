"""Answers about the sound from a process that may be hostile."""

from dataclasses import asdict

import pytest

from tests import factories
from vqmon.media.sound.answer import parse_sound

FACTS = factories.audio()


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
