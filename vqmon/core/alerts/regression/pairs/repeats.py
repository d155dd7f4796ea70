"""Finds content that a series has scored before: ads, loops, schedules, titles of a catalogue.

Every `repeat_seconds` of new content one passage is remembered with its score. A segment whose pictures match it later
is a repeat: the difference of both scores has nothing of the content in it. What is remembered lies in blocks in the
state store, `ENTRY.itemsize` bytes per passage; when `repeat_entries` are there, the one not seen for longest goes.
"""

import math
from base64 import b64decode, b64encode
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vqmon.core.alerts.conditions.regression import REPEAT_BLOCK_ENTRIES, Regression, RegressionState
from vqmon.core.alerts.regression.pairs.picture_hash import MAX_DIFFERENT_BITS, PASSAGE_PICTURES, Passage
from vqmon.core.alerts.state import PairSeries, RepeatBlock, RepeatBlockKey, StateStore

ENTRY = np.dtype([("passage", "<u8", PASSAGE_PICTURES), ("seen_at", "<u4"), ("count", "<u4"), ("score", "<f4")])
"""One passage: its hashes; when it was last shown, in seconds since the epoch, 0 = no passage; how often; its score."""

_MIN_LAG_SECONDS = 300.0
"""Content that returns sooner is the same scene."""

_EXPIRE_SECONDS = 14 * 86_400.0
"""A passage that was not shown for so long is forgotten."""

_MAX_COUNT = 8.0
"""The score of a passage is the mean of about so many showings; older ones fade."""

_FIRST_ENTRIES = 4
"""Places that a series begins with; most renditions of a fleet of short streams need no more."""

_FEW_CANDIDATES = 8
"""So many entries are compared one by one; numpy takes longer for them."""

_Key = tuple[str, PairSeries]
"""Rule and series."""


class Repeat(NamedTuple):
    """What content scored when it was shown before."""

    score: float
    # when it was shown last, in seconds since the epoch
    seen_at: float

    def describe(self, score: float) -> str:
        """Both scores in words."""
        seen_at = datetime.fromtimestamp(self.seen_at, UTC)
        return f"same content scored {self.score:.1f} on {seen_at:%Y-%m-%d %H:%M} and {score:.1f} now"


class RepeatMemory:
    """The passages of all series; remembers nothing but what is in the store, and indexes of it."""

    def __init__(self, store: StateStore) -> None:
        self._store = store
        # stream/rendition -> its series -> basis of the scores, and the passages
        self._entries: dict[str, dict[_Key, tuple[str, NDArray[np.void]]]] = {}
        # the same -> when a passage was learned or shown last, in seconds
        self._seen_at: dict[str, dict[_Key, int]] = {}

    def compare(
        self, state: RegressionState, condition: Regression, *, basis: str, passage: Passage, score: float, at: float
    ) -> Repeat | None:
        """The earlier score of a passage that a series shows at a moment (seconds); None when there is none.

        The score is learned, unless an alert is open: then the scores before it remain what content is compared with.
        Another basis forgets what was learned on the one before.
        """
        if not 1 <= at < 2**32:
            return None  # `seen_at` holds no such moment
        key = _key_of(state)
        entries = self._load(key, basis)
        nearest = _nearest(entries, passage, at)
        learns = state.alert is None
        if nearest is None:
            # Most segments come soon after the last passage; then the ages of the others do not matter.
            seen_at = self._seen_at.get(key[1].rendition_key, {}).get(key, -math.inf)
            is_soon = abs(at - seen_at) < condition.repeat_seconds
            if learns and not is_soon and _least_age(entries, at) >= condition.repeat_seconds:
                self._add(key, basis, entries, (tuple(passage), int(at), 1, score), condition.repeat_entries)
            return None
        entry = entries[nearest]
        if abs(at - float(entry["seen_at"])) < _MIN_LAG_SECONDS:
            return None
        repeat = Repeat(score=float(entry["score"]), seen_at=float(entry["seen_at"]))
        if learns:
            count = min(float(entry["count"]) + 1.0, _MAX_COUNT)
            entry["score"] += (score - repeat.score) / count
            entry["count"], entry["seen_at"] = int(count), int(at)
            self._save(key, basis, entries, nearest)
        return repeat

    def clear(self, state: RegressionState) -> None:
        """Forget all passages of a series."""
        self._clear(_key_of(state))

    def forget(self, rendition_key: str) -> None:
        """Drop the indexes of a rendition (stream/rendition) whose states are removed."""
        self._entries.pop(rendition_key, None)
        self._seen_at.pop(rendition_key, None)

    def _clear(self, key: _Key) -> None:
        self._entries.get(key[1].rendition_key, {}).pop(key, None)
        self._seen_at.get(key[1].rendition_key, {}).pop(key, None)
        number = 0
        while (block := RepeatBlockKey(rule=key[0], series=key[1], number=number)) in self._store.states:
            self._store.delete(block)
            number += 1

    def _load(self, key: _Key, basis: str) -> NDArray[np.void]:
        of_rendition = self._entries.setdefault(key[1].rendition_key, {})
        loaded = of_rendition.get(key)
        if loaded is None:
            blocks: list[RepeatBlock] = []
            while isinstance(
                block := self._store.states.get(RepeatBlockKey(rule=key[0], series=key[1], number=len(blocks))),
                RepeatBlock,
            ):
                blocks.append(block)
            packed = b"".join(b64decode(block.entries) for block in blocks)
            loaded = (blocks[0].basis if blocks else basis, np.frombuffer(bytearray(packed), ENTRY))
        if loaded[0] != basis:
            self._clear(key)
            loaded = (basis, np.empty(0, ENTRY))
        of_rendition[key] = loaded
        return loaded[1]

    def _add(
        self,
        key: _Key,
        basis: str,
        entries: NDArray[np.void],
        entry: tuple[Passage, int, int, float],
        max_entries: int,
    ) -> None:
        """Put a passage into a free place, or into that of the one which was not shown for longest."""
        is_full = not len(entries) or entries["seen_at"].min() > 0
        if is_full and len(entries) < max_entries:
            free = min(max(len(entries), _FIRST_ENTRIES), REPEAT_BLOCK_ENTRIES, max_entries - len(entries))
            entries = np.concatenate([entries, np.zeros(free, ENTRY)])
            self._entries[key[1].rendition_key][key] = (basis, entries)
        place = int(np.argmin(entries["seen_at"]))
        entries[place] = entry
        self._save(key, basis, entries, place)

    def _save(self, key: _Key, basis: str, entries: NDArray[np.void], place: int) -> None:
        self._seen_at.setdefault(key[1].rendition_key, {})[key] = int(entries["seen_at"][place])
        number = place // REPEAT_BLOCK_ENTRIES
        chosen = entries[number * REPEAT_BLOCK_ENTRIES : (number + 1) * REPEAT_BLOCK_ENTRIES]
        # Free places are the last ones of the last block.
        packed = b64encode(chosen[chosen["seen_at"] > 0].tobytes()).decode()
        self._store.save(RepeatBlock(rule=key[0], series=key[1], number=number, basis=basis, entries=packed))


def _nearest(entries: NDArray[np.void], passage: Passage, at: float) -> int | None:
    """Index of the entry that shows the same content as a passage; None when there is none."""
    hashes = entries["passage"]
    # One picture rules out nearly all of them, a second one nearly all of the others.
    candidates = (np.bitwise_count(hashes[:, 0] ^ np.uint64(passage[0])) <= MAX_DIFFERENT_BITS).nonzero()[0]
    if len(candidates) > _FEW_CANDIDATES:
        second_bits = np.bitwise_count(hashes[candidates, 1] ^ np.uint64(passage[1]))
        candidates = candidates[second_bits <= MAX_DIFFERENT_BITS]
    nearest, least_bits = None, MAX_DIFFERENT_BITS + 1
    for index in candidates.tolist():
        bits = sum((one ^ other).bit_count() for one, other in zip(hashes[index].tolist(), passage, strict=True))
        seen_at = int(entries["seen_at"][index])
        if bits < least_bits and seen_at and abs(int(at) - seen_at) <= _EXPIRE_SECONDS:
            nearest, least_bits = index, bits
    return nearest


def _least_age(entries: NDArray[np.void], at: float) -> float:
    """Seconds from the moment nearest to this one at which an entry was shown; infinite without entries."""
    return float(np.abs(at - entries["seen_at"]).min(initial=np.inf))


def _key_of(state: RegressionState) -> _Key:
    assert isinstance(state.series, PairSeries)
    return state.rule, state.series
