"""Which pairs are worth a look: the worst, the best, and one per cluster that was chosen without looking at scores."""

import heapq
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Literal

from vqmon.core.experiments.human_review import PairExample

EXTREMES = 12
"""Worst and best pairs that are shown."""

EACH = 3
"""Of one cluster at most so many of them."""

REVIEWED = 200
"""Clusters that have a review pair: the first so many, so that votes stay valid whatever comes later."""

_HEAP = 120
_CHOICE = 8
"""The review pair is one of the first so many of its cluster: the choice soon stands, and votes stay valid."""


class Examples:
    """Sees every pair once and keeps a few."""

    def __init__(self) -> None:
        self._worst: list[tuple[float, str, PairExample]] = []
        self._best: list[tuple[float, str, PairExample]] = []
        self._review: dict[str, tuple[int, bytes, PairExample]] = {}

    def take(self, pair: PairExample) -> None:
        for heap, sign in ((self._worst, -1), (self._best, 1)):
            entry = (sign * pair.difference, pair.id, pair)
            if len(heap) < _HEAP:
                heapq.heappush(heap, entry)
            elif entry > heap[0]:
                heapq.heapreplace(heap, entry)
        seen, lot, kept = self._review.get(pair.cluster, (0, b"", pair))
        if seen < _CHOICE and (seen or len(self._review) < REVIEWED):
            mine = sha256(pair.id.encode()).digest()
            if not lot or mine < lot:
                lot, kept = mine, pair
            self._review[pair.cluster] = (seen + 1, lot, kept)

    def shown(self) -> tuple[PairExample, ...]:
        """Worst, best and review pairs, each the most telling first; a pair may have two roles."""
        review = sorted(self._review.values(), key=lambda it: it[1])
        return (
            *_spread(sorted(self._worst, reverse=True), "worst"),
            *_spread(sorted(self._best, reverse=True), "best"),
            *(pair for _, _, pair in review),
        )


def _spread(entries: Iterable[tuple[float, str, PairExample]], role: Literal["worst", "best"]) -> Sequence[PairExample]:
    kept: list[PairExample] = []
    each: Counter[str] = Counter()
    for _, _, pair in entries:
        if each[pair.cluster] < EACH and len(kept) < EXTREMES:
            each[pair.cluster] += 1
            kept.append(replace(pair, role=role))
    return kept
