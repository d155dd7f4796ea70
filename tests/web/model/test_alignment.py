"""Pairing of two renditions by media time."""

from dataclasses import dataclass, field
from datetime import timedelta

from tests.web import seed
from vqmon.web.model.alignment import align_buckets, align_segments, summarize_differences

SECOND = timedelta(seconds=1)


@dataclass
class At:
    """An outcome at a second, as a chart has it."""

    second: float
    score: float | None
    stream_id: str = "s"
    rendition: str = "r"
    reason: str | None = None
    signals: dict[str, float] = field(default_factory=dict)

    @property
    def event_id(self) -> str:
        return f"{self.rendition}-{self.second:g}"

    @property
    def starts_at(self):  # type: ignore[no-untyped-def]
        return seed.NOW + self.second * SECOND

    @property
    def scores(self) -> dict[str, float]:
        return {} if self.score is None else {"lite@1": self.score}


def aligned(a: list[At], b: list[At], *, shift: float = 0.0):  # type: ignore[no-untyped-def]
    return align_segments(a, b, "lite@1", shift=shift * SECOND, tolerance=2 * SECOND)


@dataclass
class Part:
    """A stretch of time with its mean."""

    starts_at: object
    mean: float | None
    seconds: float = 60.0
    scored: int = 10
    unscored: int = 1
    rendition: str = "r"
    lowest: float | None = 0.0


def test_segments_are_paired_by_media_time() -> None:
    """The nearest start within the tolerance; nothing is used twice, and what is alone is counted."""
    alignment = aligned([At(0, 50), At(4, 60), At(8, 70)], [At(0.1, 55), At(3.9, 66), At(4.5, 1), At(20, 9)])
    assert [(pair.a, pair.b) for pair in alignment.pairs] == [(50, 55), (60, 66)]
    assert (alignment.unpaired_a, alignment.unpaired_b) == (1, 2)


def test_pairs_with_an_unscored_side_are_counted() -> None:
    """A moment with one score only is no pair."""
    alignment = aligned([At(0, None), At(4, 60)], [At(0, 50), At(4, None)])
    assert (len(alignment.pairs), alignment.unscored_a, alignment.unscored_b) == (0, 1, 1)


def test_a_shift_aligns_timelines_of_different_times() -> None:
    """Another stream with the same content at another time is moved by what lies between."""
    alignment = aligned([At(0, 50), At(4, 60)], [At(-100, 51), At(-96, 62)], shift=100)
    assert [pair.difference for pair in alignment.pairs] == [1, 2]


def test_the_summary_has_mean_median_percentiles_and_share_ahead() -> None:
    """Mean, median, the middle nine of ten, and the share ahead with ties half."""
    pairs = aligned([At(4 * n, 50) for n in range(4)], [At(4 * n, 50 + n) for n in range(4)]).pairs
    summary = summarize_differences(pairs)
    assert summary is not None
    assert (summary.mean, summary.median, summary.low, summary.high, summary.ahead) == (1.5, 1.5, 0, 3, 0.875)
    assert summarize_differences([]) is None


def test_buckets_are_paired_by_their_index() -> None:
    """Parts count from the beginning of each side; a part without a score has no partner."""
    a = [Part(seed.NOW + n * 60 * SECOND, 50.0 + n) for n in range(3)]
    b = [Part(seed.NOW - timedelta(days=1) + n * 60 * SECOND, mean) for n, mean in enumerate((60.0, None, 70.0))]
    alignment = align_buckets(a, b, begins_a=seed.NOW, begins_b=seed.NOW - timedelta(days=1))  # type: ignore[arg-type]
    assert [pair.difference for pair in alignment.pairs] == [10.0, 18.0]
    assert (alignment.unpaired_a, alignment.unscored_b) == (10, 3)
