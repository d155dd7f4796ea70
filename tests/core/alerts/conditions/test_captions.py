"""Lost captions of streams that must have them."""

from dataclasses import replace

import pytest

from tests import factories
from tests.core.alerts.one_rule import alerts_of, turns
from vqmon.core.alerts.conditions.captions import Captions

RULE = Captions(for_seconds=8, recover_seconds=4)


@pytest.mark.parametrize(
    ("captions", "expected"),
    [
        ([True, True, True], []),
        ([True, False, True, False], []),
        ([True, False, False, True], [("open", 4, 12), ("resolved", 4, 16)]),
    ],
)
def test_segments_without_captions_for_the_time(captions: list[bool], expected: list[tuple[str, float, float]]) -> None:
    """One segment without caption data is no loss."""
    plain = factories.event()
    events = [
        factories.event(sequence=number, media=replace(plain.media, has_captions=has_captions))
        for number, has_captions in enumerate(captions)
    ]
    assert turns(alerts_of(RULE, events)) == expected
