"""Sums by stream and by each label, whatever the clusters are: whether one content makes the difference of the arms."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vqmon.core.experiments.data.clusters import Floats
from vqmon.core.types import Segment

_MAX_VALUES = 200
"""An attribute with more values than this, such as the bytes of each segment, is not followed."""

_MAX_SHARE = 0.2
"""A value with more of the segments than this is no single content."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One stream, or one value of a label, and the difference of the arms with and without it."""

    # "stream" or the name of the label, and its value
    attribute: str
    value: str
    # of the segments, 0..1
    share: float
    # arm - control over all segments, and over those of other units
    difference: float
    difference_without: float


class UnitTotals:
    """Numbers and sums of the scorers' values, for each arm, by stream and by every label but that of the arms."""

    def __init__(self, *, arm_label: str) -> None:
        self._arm_label = arm_label
        # attribute -> value -> arm -> (scorer: number and sum of the values); empty once there are too many values
        self._totals: dict[str, dict[str, dict[str, list[list[float]]]]] = {}

    def add(self, arm: str, segment: Segment, scores: Floats) -> None:
        """Add the scores (scorers,) of a segment in an arm; nan counts for nothing."""
        values = [float(score) for score in scores]
        for attribute, value in (("stream", segment.rendition.stream_id), *segment.all_labels.items()):
            if attribute == self._arm_label:
                continue
            by_value = self._totals.setdefault(attribute, {"": {}})
            if not by_value:
                continue
            if value not in by_value and len(by_value) > _MAX_VALUES:
                by_value.clear()
                continue
            totals = by_value.setdefault(value, {}).setdefault(arm, [[0.0, 0.0] for _ in values])
            for total, score in zip(totals, values, strict=True):
                if math.isfinite(score):
                    total[0] += 1.0
                    total[1] += score

    def units(self, control: str, arm: str, *, scorer: int) -> Iterator[Unit]:
        """The units with at most a fifth of the segments each, by the scorer of this index."""
        for attribute, by_value in self._totals.items():
            sides = {
                value: np.array([by_arm[name][scorer] if name in by_arm else (0.0, 0.0) for name in (control, arm)])
                for value, by_arm in by_value.items()
            }
            # (control and arm, number and sum)
            both = sum(sides.values(), np.zeros((2, 2)))
            for value, side in sides.items():
                rest = both - side
                share = side[:, 0].sum() / max(1.0, both[:, 0].sum())
                if 0 < share <= _MAX_SHARE and rest[:, 0].all():
                    yield Unit(
                        attribute=attribute,
                        value=value,
                        share=float(share),
                        difference=_difference(both),
                        difference_without=_difference(rest),
                    )


def _difference(sides: Floats) -> float:
    """Arm - control of the means, from (control and arm, number and sum)."""
    control_mean, arm_mean = sides[:, 1] / sides[:, 0]
    return float(arm_mean - control_mean)
