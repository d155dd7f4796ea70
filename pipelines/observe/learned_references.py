"""Adds the values of learned reference measures to a comparison, whose pictures the decoder has paired."""

import logging
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from typing import Protocol

from vqmon.core.scores import PicturePairs, ReferenceComparison, ReferenceScore
from vqmon.core.types import DecodedSegment, ScorerIdentity
from vqmon.errors import ScoreError
from vqmon.flow import run_concurrently
from vqmon.telemetry.logs import log_event

_log = logging.getLogger("vqmon.observe")


class LearnedMeasure(Protocol):
    """A reference measure that is a graph; see `scoring.scorers.reference_measures`."""

    @property
    def name(self) -> str: ...
    @property
    def short_side(self) -> int:
        """The size of the pictures that it takes: px of the short side, 0 = the canvas."""

    @property
    def identity(self) -> ScorerIdentity: ...
    def compare(self, pairs: PicturePairs, *, sample_count: int) -> Coroutine[None, None, ReferenceScore]: ...


async def with_learned_values(decoded: DecodedSegment, measures: Sequence[LearnedMeasure]) -> DecodedSegment:
    """The segment with the values of `measures` behind those of the decoder, and without the pictures.

    A measure that fails is left out and logged; when no value is left, the comparison says why.
    """
    comparison = decoded.reference
    if comparison is None or not comparison.pictures:
        return decoded
    count, pictures = len(decoded.times_seconds), comparison.pictures
    results = await run_concurrently(_value(measure, pictures.get(measure.short_side), count) for measure in measures)
    scores = (*comparison.scores, *(result for result in results if isinstance(result, ReferenceScore)))
    errors = [result for result in results if isinstance(result, ScoreError)]
    if scores:
        return replace(decoded, reference=replace(comparison, scores=scores, pictures={}))
    reason = "timeout" if all(error.reason == "timeout" for error in errors) else "failed"
    unscored = ReferenceComparison(unscored=reason, detail=str(errors[0]) if errors else "")
    return replace(decoded, reference=unscored)


async def _value(measure: LearnedMeasure, pairs: PicturePairs | None, sample_count: int) -> ReferenceScore | ScoreError:
    try:
        if pairs is None:
            raise ScoreError("scorer_failed", f"{measure.name}: there is no memory for pictures of this size")
        return await measure.compare(pairs, sample_count=sample_count)
    except ScoreError as error:
        _log.warning(**log_event("reference_measure.left_out", measure=measure.name, why=str(error)))
        return error
