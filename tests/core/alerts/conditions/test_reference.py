"""A limit on a reference measure: its direction, hysteresis and worst frames, and segments without values."""

from dataclasses import replace

import pytest

from tests import factories
from tests.core.alerts.one_rule import alerts_of, turns
from vqmon.core.alerts.conditions.base import scorer_matches
from vqmon.core.alerts.conditions.reference import ReferenceLimit
from vqmon.core.types import QualityEvent, ReferencePairing, ReferenceScore

PSNR = ReferenceLimit(measure="psnr", worse_than=35, recover_at=38, for_seconds=8, recover_seconds=8)
GMSD = ReferenceLimit(measure="gmsd", worse_than=0.1, for_seconds=8, recover_seconds=8)
PAIRING = ReferencePairing(offset_seconds=0.0, confidence=1.0, paired_frames=4, canvas="1920x1080")


def event(sequence: int, value: float | None, *, measure: str = "psnr") -> QualityEvent:
    """A segment with one reference measure, or unscored against its reference."""
    plain = factories.event(sequence=sequence)
    if value is None:
        return replace(plain, unscored_reference="misaligned")
    reference = ReferenceScore(
        measure=measure,
        value=value,
        frame_values=(value, None, value * 0.9, value),
        unit="dB" if measure == "psnr" else "",
        higher_is_better=measure == "psnr",
    )
    return replace(plain, references=(reference,), reference_pairing=PAIRING)


def test_measures_of_the_segment_alone_alert_without_a_reference() -> None:
    """Beside a reference that cannot be paired; of those that are neither better nor worse, less is worse."""

    def alone(sequence: int, value: float) -> QualityEvent:
        niqe, si = (
            ReferenceScore(measure=name, value=value, frame_values=(value,), unit="", higher_is_better=better,
                           is_compared=False)
            for name, better in (("niqe", False), ("si", None))
        )  # fmt: skip
        return replace(event(sequence, None), references=(niqe, si))

    events = [alone(n, value) for n, value in enumerate([5.0, 9.0, 9.0, 5.0, 5.0])]
    above, below = (ReferenceLimit(measure=name, worse_than=7, for_seconds=8, recover_seconds=8) for name in
                    ("niqe", "si"))  # fmt: skip
    assert turns(alerts_of(above, events)) == [("open", 4, 12), ("resolved", 4, 20)]
    assert turns(alerts_of(below, events[2:])) == [("open", 12, 20)]
    assert (events[1].references[0].worst, events[1].references[1].level) == (9.0, 9.0)


@pytest.mark.parametrize(
    ("rule", "values", "expected"),
    [
        (PSNR, [40, 30, 40, 30], []),
        (PSNR, [40, 30, 30, 40, 40], [("open", 4, 12), ("resolved", 4, 20)]),
        # between 35 and 38 nothing recovers
        (PSNR, [30, 30, 36, 36, 36], [("open", 0, 8)]),
        # a segment that could not be compared says nothing
        (PSNR, [30, None, None, 40, None], []),
        # lower is better
        (GMSD, [0.05, 0.2, 0.2, 0.05, 0.05], [("open", 4, 12), ("resolved", 4, 20)]),
        # another measure
        (ReferenceLimit(measure="vif", worse_than=1), [0.1] * 6, []),
    ],
)
def test_a_limit_follows_the_direction_of_its_measure(
    rule: ReferenceLimit, values: list[float | None], expected: list[tuple[str, float, float]]
) -> None:
    """Four-second segments against a limit of 8 s."""
    measure = "gmsd" if rule is GMSD else "psnr"
    events = [event(n, value, measure=measure) for n, value in enumerate(values)]

    assert turns(alerts_of(rule, events)) == expected


def test_an_alert_names_value_unit_limit_and_worst_frames() -> None:
    """In its evidence; a frame without a partner is no worst frame."""
    (alert,) = alerts_of(PSNR, [event(n, 30.0) for n in range(3)])

    assert alert.series == "news-1/1080p/reference:psnr"
    assert alert.summary.startswith("psnr 30 dB, limit 35 for ")
    assert alert.evidence.worst_times_seconds[0] == 2.0


def test_the_worst_frame_can_be_watched() -> None:
    """A mean above the limit hides a frame below it."""
    rule = replace(PSNR, statistic="worst")

    assert not alerts_of(PSNR, [event(n, 38.5) for n in range(4)])
    assert alerts_of(rule, [event(n, 38.5) for n in range(4)])


def test_a_pattern_of_scorers_never_means_a_reference_measure() -> None:
    """Its values are on another scale; a regression names it as `reference:psnr`."""
    assert not scorer_matches("reference:psnr", "*")
    assert scorer_matches("reference:psnr", "reference:psnr")
    assert scorer_matches("reference:psnr", "reference:*")
    assert not scorer_matches("lite@1", "reference:*")
