"""The service level objective: which segments count as good, by a set floor or by what is usual for their rendition."""

from array import array
from collections import OrderedDict

from vqmon.core.scores import pool
from vqmon.core.types import Outcome, QualityEvent

_WINDOW_SEGMENTS = 1000
"""Scored segments of a rendition that make up what is usual."""

_MIN_SEGMENTS = 100
"""With fewer, every scored segment is good: nothing is known yet of what is usual."""

_REFRESH_SEGMENTS = 50
"""The usual low is computed anew after so many segments."""

_MAX_RENDITIONS = 20_000
"""The renditions that are remembered; the one without a segment for the longest is forgotten first."""


class _RecentScores:
    """The last scores of one rendition, and the fifth percentile of them."""

    __slots__ = ("_count", "_scores", "usual_low")

    def __init__(self) -> None:
        self._scores = array("f")
        self._count = 0
        # None = too few scores
        self.usual_low: float | None = None

    def add(self, score: float) -> None:
        if len(self._scores) < _WINDOW_SEGMENTS:
            self._scores.append(score)
        else:
            self._scores[self._count % _WINDOW_SEGMENTS] = score
        self._count += 1
        if self._count >= _MIN_SEGMENTS and self._count % _REFRESH_SEGMENTS == 0:
            self.usual_low = pool("p5", self._scores)


class Objective:
    """Judges outcomes by the score of the first scorer; remembers scores per rendition, in memory.

    With a floor (0..100), a segment is good when it is scored at the floor or above. Without one, it is good when its
    score is at most `drop` points below the fifth percentile of the last 1,000 scored segments of its rendition; the
    first 100 only have to be scored.
    """

    def __init__(self, *, floor: float | None, drop: float) -> None:
        self._floor = floor
        self._drop = drop
        self._recent: OrderedDict[str, _RecentScores] = OrderedDict()

    def is_good(self, outcome: Outcome) -> bool:
        """Whether viewers had the picture that they usually have; a segment without this score is bad."""
        if not isinstance(outcome, QualityEvent) or outcome.main_score is None:
            return False
        score = outcome.main_score.value
        if self._floor is not None:
            return score >= self._floor
        # another version of a scorer has another scale
        key = f"{outcome.segment.rendition.key}/{outcome.main_score.scorer}"
        recent = self._recent.setdefault(key, _RecentScores())
        self._recent.move_to_end(key)
        if len(self._recent) > _MAX_RENDITIONS:
            self._recent.popitem(last=False)
        usual_low = recent.usual_low
        recent.add(score)
        return usual_low is None or score >= usual_low - self._drop
