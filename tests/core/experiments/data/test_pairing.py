"""What keeps segments from pairing, in words."""

import pytest

from vqmon.core.experiments.data.pairing import PairingFacts

T0 = 1_795_132_800.0


def facts(*, old: list[tuple[str, float]], new: list[tuple[str, float]], paired: int = 0) -> PairingFacts:
    """Segments of both arms as (source, seconds), added in the order of their starts."""
    made = PairingFacts()
    segments = [("old", *segment) for segment in old] + [("new", *segment) for segment in new]
    for arm, source, seconds in sorted(segments, key=lambda segment: segment[2]):
        made.add(arm, (source,), T0 + seconds)
    made.paired["new"] = paired
    return made


CASES = [
    ([("film", n * 4.0) for n in range(9)], [], "the history has no segment of new"),
    (
        [(f"a{n}", 0.0) for n in range(5)],
        [("b", 0.0)],
        "0 of 5 segments of old and 1 of new pair: they have no stream in common: old has a0, a1, a2 and 2 more, "
        "new has b",
    ),
    (
        [("film", 0.0), ("film", 4.0)],
        [("film", 8.0)],
        "old runs from 20 Nov 2026 00:00:00 to 20 Nov 2026 00:00:04, new from 20 Nov 2026 00:00:08 to",
    ),
    (
        [("film", n * 4.0) for n in range(9)],
        [("film", n * 4.0 + 1.5) for n in range(9)],
        "segments of one source start 1.5 s apart or more, and `tolerance_seconds` is 0.1",
    ),
]


@pytest.mark.parametrize(("old", "new", "text"), CASES)
def test_the_reason_is_named(old: list[tuple[str, float]], new: list[tuple[str, float]], text: str) -> None:
    hindrance = facts(old=old, new=new).hindrance("new", "old", same=("stream",), tolerance_seconds=0.1)
    assert hindrance is not None
    assert text in hindrance.text


def test_nothing_hinders_what_pairs() -> None:
    """A tenth of the smaller arm is enough: an arm may come later, and without segments another sentence says so."""
    film = [("film", n * 4.0) for n in range(10)]
    assert facts(old=film, new=film, paired=1).hindrance("new", "old", same=("stream",), tolerance_seconds=0.1) is None
    assert facts(old=[], new=[]).hindrance("new", "old", same=("stream",), tolerance_seconds=0.1) is None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        # days that overlap by a moment; and thirty renditions of one moment
        ([("film", n * 4.0) for n in range(30)], [("film", n * 4.0) for n in range(29, 59)]),
        ([("film", 0.0)] * 30, [("film", 0.0)] * 30),
    ],
    ids=["overlap", "renditions"],
)
def test_segments_that_start_together_are_not_called_apart(
    old: list[tuple[str, float]], new: list[tuple[str, float]]
) -> None:
    hindrance = facts(old=old, new=new, paired=1).hindrance("new", "old", same=("stream",), tolerance_seconds=0.1)
    assert hindrance is not None
    assert "apart" not in hindrance.text
    assert "old has 1 source from 20 Nov 2026 00:00:00 to" in hindrance.text
    assert hindrance.text.endswith("1 in common")
