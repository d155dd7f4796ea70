"""Subtitles that are lost, and subtitles that have no cue."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from tests import factories
from tests.core.alerts.one_rule import alerts_of, turns
from vqmon.core.alerts.conditions.subtitles import Subtitles
from vqmon.core.types import QualityEvent, SubtitleFacts

EN, DE, EMPTY = (SubtitleFacts(name=name, cues=cues) for name, cues in (("en", 3), ("de", 1), ("en", 0)))
FORCED = SubtitleFacts(name="en forced", is_forced=True)
MISSING = SubtitleFacts(name="de", problem="missing")


def events(*subtitles: tuple[SubtitleFacts, ...]) -> Sequence[QualityEvent]:
    return [replace(factories.event(sequence=number), subtitles=each) for number, each in enumerate(subtitles)]


@pytest.mark.parametrize(
    ("rule", "subtitles", "expected"),
    [
        ({}, [(EN, DE)] * 4, []),
        ({}, [(EN, DE), (EN, MISSING), (EN, MISSING), (EN, DE)], [("open", 4, 12), ("resolved", 4, 16)]),
        # nothing to watch neither opens nor resolves
        ({}, [(EN, MISSING), (EN, MISSING), (), ()], [("open", 0, 8)]),
        ({"name": "en*"}, [(EN, MISSING)] * 4, []),
        # a rendition that is there and silent is not lost, and the other way round
        ({}, [(EMPTY,)] * 4, []),
        ({"lost": "cues"}, [(EN,), (EMPTY, DE), (EMPTY, DE), (EN,)], [("open", 4, 12), ("resolved", 4, 16)]),
        ({"lost": "cues"}, [(EN, FORCED)] * 4, []),
        ({"lost": "cues"}, [(EN, MISSING)] * 4, []),
    ],
)
def test_lost_subtitles(
    rule: dict[str, str], subtitles: list[tuple[SubtitleFacts, ...]], expected: list[tuple[str, float, float]]
) -> None:
    condition = Subtitles(for_seconds=8, recover_seconds=4, **rule)  # type: ignore[arg-type]
    assert turns(alerts_of(condition, events(*subtitles))) == expected


def test_the_alert_names_what_is_lost() -> None:
    alert = alerts_of(Subtitles(for_seconds=4), events((EN, MISSING), (EN, MISSING)))[0]
    assert alert.summary.startswith("subtitles missing (its playlist lists no segment of this time")
    assert ": de for 4 s" in alert.summary
    empty = alerts_of(Subtitles(lost="cues", for_seconds=4), events((EMPTY,), (EMPTY,)))[0]
    assert empty.summary.startswith("subtitles without a cue: en")
