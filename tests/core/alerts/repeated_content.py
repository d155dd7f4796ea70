"""Content that is shown again: pictures by content and number, and segments that show it."""

from collections.abc import Iterable
from functools import cache

import numpy as np

from tests import factories
from vqmon.core.types import QualityEvent


def picture(content: int, number: int) -> np.ndarray:
    """(18, 32) levels of one picture of some content; pictures of one content are as different as others."""
    coarse = np.random.default_rng([content, number]).uniform(20, 235, (9, 16))
    return np.repeat(np.repeat(coarse, 2, axis=0), 2, axis=1)


def fingerprint(cells: np.ndarray) -> str:
    return np.clip(np.rint(cells), 0, 255).astype(np.uint8).tobytes().hex()


@cache
def _edges(content: int) -> tuple[str, str]:
    return fingerprint(picture(content, 0)), fingerprint(picture(content, 1))


def shown(scores: Iterable[tuple[int, float]], *, first: int = 0, **more: object) -> list[QualityEvent]:
    """A segment per number of its content and score."""
    return [
        factories.event(sequence=first + n, score=float(score), edges=_edges(content), **more)
        for n, (content, score) in enumerate(scores)
    ]
