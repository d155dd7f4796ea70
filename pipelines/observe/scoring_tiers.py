"""The heavy scorers: which segments they look at, within which budget, and what is said when they do not."""

import logging
from collections import OrderedDict, deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from vqmon.core.cascade import (
    MEDIAN_WINDOW_SEGMENTS,
    DeviceTimeBudget,
    PromotionPolicy,
    reasons_before_decoding,
    reasons_from_score,
)
from vqmon.core.types import DecodedSegment, Promotion, Score, ScorerIdentity, Segment, View
from vqmon.errors import ScoreError
from vqmon.flow import together
from vqmon.telemetry.logs import event

MOST_RENDITIONS = 10_000

What = Literal["vqmon.scorer.promoted", "vqmon.scorer.left_out"]
Count = Callable[[What, str], None]
"""Told the metric and the reason."""

log = logging.getLogger("vqmon.heavy")


class Scorer(Protocol):
    """Maps the frames of one segment to a verdict."""

    @property
    def id(self) -> str: ...
    @property
    def views(self) -> tuple[View, ...]:
        """The pictures that it needs of each frame."""

    @property
    def needs_prompt(self) -> bool:
        """Whether it can say nothing of a segment that has no prompt."""

    @property
    def identity(self) -> ScorerIdentity: ...
    def score(self, decoded: DecodedSegment) -> Coroutine[None, None, Score]: ...


class Purse:
    """Device-seconds: what may begin is decided before, what it took is heard after."""

    def __init__(self, per_hour: float, *, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._allowance = DeviceTimeBudget.full(per_hour, clock())
        self._reserved = 0.0
        self._under_way = 0
        self._taken, self._done = 0.0, 0

    @property
    def left_seconds(self) -> float:
        return self._allowance.refilled_at(self._clock()).remaining_seconds

    def hear(self, seconds: float) -> None:
        """A run of a heavy graph held its device so long."""
        self._allowance = self._allowance.refilled_at(self._clock()).after_spending(seconds)
        self._taken += seconds

    @contextmanager
    def ask(self) -> Iterator[bool]:
        """Whether a segment may be looked at now; what it usually takes is reserved until it is done.

        Until one is done nobody knows what it takes, and they go one by one. One that takes more than ever fits begins
        when all of it is there, and what is missing is paid back before the next.
        """
        usual = self._taken / self._done if self._done else 0.0
        room = self.left_seconds - self._reserved
        if room <= 0 or room < min(usual, self._allowance.capacity_seconds) or (not self._done and self._under_way):
            yield False
            return
        self._reserved += usual
        self._under_way += 1
        try:
            yield True
        finally:
            self._reserved -= usual
            self._under_way -= 1
            self._done += 1


class Suspicion:
    """The cheap scores of each rendition's latest segments; a segment is compared with those before it."""

    def __init__(self) -> None:
        self._seen: OrderedDict[tuple[str, str], deque[tuple[datetime, float]]] = OrderedDict()

    def look(self, segment: Segment, score: Score, policy: PromotionPolicy) -> tuple[str, ...]:
        """The reasons that this score gives; it is remembered, and compared with the same scorer's alone."""
        key, value = (segment.rendition.key, score.scorer), score.value
        seen = self._seen.setdefault(key, deque(maxlen=MEDIAN_WINDOW_SEGMENTS))
        self._seen.move_to_end(key)
        if len(self._seen) > MOST_RENDITIONS:
            self._seen.popitem(last=False)
        before = [earlier for starts_at, earlier in seen if starts_at < segment.starts_at]
        seen.append((segment.starts_at, value))
        return reasons_from_score(value, before, policy)


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One segment at the heavy scorers: why, and whether there is room for it."""

    reasons: tuple[str, ...]
    scorers: Sequence[Scorer]

    @property
    def left_out(self) -> str:
        """`budget` when there was a reason and no room."""
        return "budget" if self.reasons and not self.scorers else ""


class HeavyTier:
    """Scorers that look at some segments only; they never spoil a verdict, nor spend more than they may."""

    def __init__(
        self,
        scorers: Sequence[Scorer],
        *,
        policy: PromotionPolicy,
        purse: Purse,
        count: Count = lambda what, why: None,
    ) -> None:
        self.scorers = tuple(scorers)
        self._policy, self._purse, self._count = policy, purse, count
        self._suspicion = Suspicion()

    @contextmanager
    def look(self, segment: Segment, reasons: tuple[str, ...]) -> Iterator[Look]:
        """What may be done for these reasons, reserved until the end of the context."""
        if not reasons:
            yield Look(reasons=(), scorers=())
            return
        with self._purse.ask() as has_room:
            yield Look(reasons=reasons, scorers=able(self.scorers, segment) if has_room else ())

    def planned(self, segment: Segment) -> tuple[str, ...]:
        """The reasons that are known before the segment is decoded; none where no heavy scorer can look."""
        return reasons_before_decoding(segment, self._policy) if able(self.scorers, segment) else ()

    def suspects(self, segment: Segment, scores: Sequence[Score]) -> tuple[str, ...]:
        """The reasons that the first cheap score gives; none where no heavy scorer can look."""
        found = self._suspicion.look(segment, scores[0], self._policy)
        return found if able(self.scorers, segment) else ()

    def say(self, reasons: tuple[str, ...], left_out: str) -> Promotion:
        """What the event says of it; counted."""
        if left_out:
            self._count("vqmon.scorer.left_out", left_out)
        elif reasons:
            self._count("vqmon.scorer.promoted", reasons[0])
        return Promotion(reasons=reasons, left_out=left_out)


def able(scorers: Sequence[Scorer], segment: Segment) -> Sequence[Scorer]:
    """Those that can say something of a segment: without a prompt, all that need none."""
    return [scorer for scorer in scorers if segment.prompt or not scorer.needs_prompt]


async def tried(scorers: Sequence[Scorer], decoded: DecodedSegment) -> tuple[list[Score], str]:
    """The verdicts of scorers that must all succeed, and else none with what they are left out for."""
    try:
        return await together(scorer.score(decoded) for scorer in scorers), ""
    except ScoreError as error:
        log.warning(**event("scorer.left_out", scorers=[scorer.id for scorer in scorers], why=str(error)))
        return [], "timeout" if error.reason == "timeout" else "failed"
