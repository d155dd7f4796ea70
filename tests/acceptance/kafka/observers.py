"""A look at a segment that costs nothing: the verdict follows from the segment alone."""

import asyncio
import os
import signal
from dataclasses import replace
from hashlib import sha256
from random import Random

from pipelines.observe.observer import Observation
from tests import factories
from vqmon.core.types import Outcome, Segment
from vqmon.errors import FetchError

EDGE = "00" * 576


def outcome_of_segment(segment: Segment) -> Outcome:
    """Good pictures, with bad stretches of a dozen segments here and there.

    A url that contains `gone` is not found, and the origin of one that contains `dead` cannot be reached.
    """
    if "dead" in segment.url:
        return factories.failure(segment=segment, error=FetchError("unreachable"), observed_after_seconds=0)
    if "gone" in segment.url:
        return factories.failure(segment=segment, error=FetchError("not_found"), observed_after_seconds=0)
    score = 20.0 if segment.sequence % 40 >= 28 else 70.0 + _dither(segment)
    return outcome_of_score(segment, score)


def outcome_of_score(segment: Segment, score: float) -> Outcome:
    """Pictures of a score."""
    return factories.event(segment=segment, score=score, edges=(EDGE, EDGE), observed_after_seconds=0)


def good_score(segment: Segment) -> float:
    """A good score that differs a little from segment to segment, and repeats every 28 of them."""
    return 70.0 + _dither(replace(segment, sequence=segment.sequence % 28))


async def observe_at_once(segment: Segment) -> Observation:
    """The verdict, now."""
    return Observation(outcome=outcome_of_segment(segment))


class SlowObserver:
    """The verdict after a while that differs from segment to segment, so that results come out of order.

    A url that contains `deadly` kills the process, as a fault of native code does.
    """

    def __init__(self, *, most_seconds: float, seed: int) -> None:
        self._most_seconds = most_seconds
        self._random = Random(seed)

    async def __call__(self, segment: Segment) -> Observation:
        await asyncio.sleep(self._random.random() * self._most_seconds)
        if "deadly" in segment.url:
            os.kill(os.getpid(), signal.SIGKILL)
        return Observation(outcome=outcome_of_segment(segment))


def _dither(segment: Segment) -> float:
    return sha256(segment.key.encode()).digest()[0] / 64
