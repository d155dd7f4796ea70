"""Metrics of single streams: a bounded list, the newest figures of each, and series that end."""

from collections.abc import Mapping

from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from tests import factories
from vqmon.core.types import Outcome
from vqmon.telemetry.metrics import Meters
from vqmon.telemetry.stream_metrics import StreamMetrics, StreamSelection

Labels = tuple[str, ...]


class Collected:
    """Records outcomes, and collects as an exporter does."""

    def __init__(self, selection: StreamSelection) -> None:
        self.seconds = 0.0
        self.reader = InMemoryMetricReader()
        self.meters = Meters(self.reader)
        self.metrics = StreamMetrics(self.meters, selection, monotonic=lambda: self.seconds)

    def publish(self, stream: str, *scores: float | None, name: str = "1080p") -> None:
        segments = [
            factories.segment(sequence=number, rendition=factories.rendition(stream=stream, name=name))
            for number in range(len(scores))
        ]
        outcomes: list[Outcome] = [
            factories.failure(segment=segment) if score is None else factories.event(segment=segment, score=score)
            for segment, score in zip(segments, scores, strict=True)
        ]
        self.metrics.record(outcomes)

    def series(self, name: str) -> Mapping[Labels, float]:
        data = self.reader.get_metrics_data()
        metrics = [m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics] if data else []
        points = [point for metric in metrics if metric.name == name for point in metric.data.data_points]
        return {tuple(str(value) for value in point.attributes.values()): point.value for point in points}


def test_nothing_by_default() -> None:
    """No stream has series of its own."""
    collected = Collected(StreamSelection())
    collected.publish("news-1", 70.0)
    for name in ("score", "unscored", "ends_at", "left_out"):
        assert collected.series(f"vqmon.stream.{name}") == {}


def test_the_newest_figures_of_the_streams_that_are_named() -> None:
    """An unscored segment has no score, and raises the share of the last 30."""
    collected = Collected(StreamSelection(streams=("news-*",), renditions=("1080p",)))
    collected.publish("news-1", 70.0, 40.0, 55.0)
    collected.publish("news-1", 10.0, name="360p")
    collected.publish("sports", 10.0)
    collected.publish("news-2", *[None] * 15, *[80.0] * 29, None)
    assert collected.series("vqmon.stream.score") == {("news-1", "1080p", factories.SCORER): 55.0}
    assert collected.series("vqmon.stream.unscored") == {("news-1", "1080p"): 0.0, ("news-2", "1080p"): 1 / 30}
    ends_at = factories.segment(sequence=2).ends_at.timestamp()
    assert collected.series("vqmon.stream.ends_at")["news-1", "1080p"] == ends_at
    assert collected.series("vqmon.stream.left_out") == {(): 0}


def test_a_playlist_that_stands_still_has_no_newer_segment() -> None:
    """Its failures raise the unscored share, and move no time; a segment that is announced again changes nothing."""
    collected = Collected(StreamSelection(streams=("*",)))
    collected.publish("news-1", 70.0, 40.0)
    events = [factories.failure(sequence=0, reason="duplicate"), factories.failure(sequence=9, reason="stale")]
    for event, share in zip(events, (0.0, 1 / 3), strict=True):
        collected.metrics.record([event])
        stream = event.segment.rendition.stream_id
        assert collected.series("vqmon.stream.unscored")[stream, "1080p"] == share
        assert collected.series("vqmon.stream.ends_at")[stream, "1080p"] == (
            factories.segment(sequence=1).ends_at.timestamp()
        )
    unlisted = factories.failure(
        segment=factories.segment(rendition=factories.rendition(stream="news-2", name="playlist")), reason="playlist"
    )
    collected.metrics.record([unlisted])
    assert ("news-2", "playlist") not in collected.series("vqmon.stream.ends_at")


def test_no_more_renditions_than_the_limit_have_series() -> None:
    """The others are counted, and come in when one has been silent for five minutes."""
    collected = Collected(StreamSelection(streams=("*",), max_renditions=2))
    for number in range(5):
        collected.publish(f"s{number}", 50.0)
    assert {stream for stream, *_ in collected.series("vqmon.stream.score")} == {"s0", "s1"}
    assert collected.series("vqmon.stream.left_out") == {(): 3}
    collected.seconds = 200.0
    collected.publish("s1", 60.0)
    collected.publish("s4", 60.0)
    collected.seconds = 301.0
    assert {stream for stream, *_ in collected.series("vqmon.stream.score")} == {"s1"}
    assert collected.series("vqmon.stream.left_out") == {(): 1}
    collected.publish("s4", 65.0)
    assert {stream for stream, *_ in collected.series("vqmon.stream.score")} == {"s1", "s4"}
    assert collected.series("vqmon.stream.left_out") == {(): 0}
