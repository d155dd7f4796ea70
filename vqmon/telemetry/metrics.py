"""Every metric of the daemon itself: name, kind, unit and meaning."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from opentelemetry.metrics import Counter, Histogram, _Gauge
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.sdk.resources import Resource

Name = Literal[
    "vqmon.segment.count",
    "vqmon.segment.score",
    "vqmon.stage.duration",
    "vqmon.lag",
    "vqmon.in_flight",
    "vqmon.alert.transition",
    "vqmon.notify.sent",
    "vqmon.notify.failed",
    "vqmon.notify.waiting",
    "vqmon.notify.oldest",
    "vqmon.notify.given_up",
    "vqmon.notify.gone",
    "vqmon.slo.good",
    "vqmon.slo.total",
    "vqmon.decoder.replaced",
    "vqmon.scorer.promoted",
    "vqmon.scorer.left_out",
    "vqmon.scorer.run.duration",
    "vqmon.publish.duration",
    "vqmon.kafka.lag",
    "vqmon.kafka.connected",
    "vqmon.kafka.rebalance",
    "vqmon.kafka.bring_up.duration",
    "vqmon.kafka.transaction.duration",
    "vqmon.kafka.rejected",
    "vqmon.kafka.broken",
    "vqmon.kafka.membership_lost",
    "vqmon.kafka.halted",
    "vqmon.record.lag",
    "vqmon.record.count",
    "vqmon.record.again",
    "vqmon.origin.closed",
    "vqmon.watchdog.breach",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One metric as data."""

    kind: Literal["counter", "gauge", "histogram"]
    unit: str
    meaning: str
    # upper bounds of the histogram's buckets
    bounds: tuple[float, ...] = ()


_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

METRICS: Mapping[Name, Metric] = {
    "vqmon.segment.count": Metric(
        kind="counter",
        unit="{segment}",
        meaning="segments with an outcome, by `outcome` (scored, unscored) and `reason`",
    ),
    "vqmon.segment.score": Metric(
        kind="histogram", unit="1", meaning="pooled score 0..100, by `scorer`", bounds=tuple(range(5, 100, 5))
    ),
    "vqmon.stage.duration": Metric(
        kind="histogram",
        unit="s",
        meaning="time of one segment in a `stage` (fetch, decode, score, score_heavy, decode_again)",
        bounds=_SECONDS,
    ),
    "vqmon.lag": Metric(kind="gauge", unit="s", meaning="now minus the end of the newest finished segment"),
    "vqmon.in_flight": Metric(kind="gauge", unit="{segment}", meaning="segments being observed"),
    "vqmon.alert.transition": Metric(
        kind="counter", unit="{alert}", meaning="alerts opened or resolved, by `state` and `severity`"
    ),
    "vqmon.notify.sent": Metric(
        kind="counter", unit="{message}", meaning="times that a `target` took an alert, by `state`; repeats included"
    ),
    "vqmon.notify.failed": Metric(
        kind="counter", unit="{message}", meaning="tries that a `target` did not take, by `reason`"
    ),
    "vqmon.notify.waiting": Metric(
        kind="gauge", unit="{alert}", meaning="alerts that a `target` has yet to be told of"
    ),
    "vqmon.notify.oldest": Metric(
        kind="gauge", unit="s", meaning="how long the first of those has waited, by `target`"
    ),
    "vqmon.notify.given_up": Metric(
        kind="counter", unit="{alert}", meaning="alerts that a `target` was never told of: it took nothing for days"
    ),
    "vqmon.notify.gone": Metric(
        kind="gauge", unit="1", meaning="1 when a `target` answered that it is gone: nothing more is sent there"
    ),
    "vqmon.slo.good": Metric(
        kind="counter", unit="{segment}", meaning="segments scored at `daemon.slo_floor` or above by the first scorer"
    ),
    "vqmon.slo.total": Metric(kind="counter", unit="{segment}", meaning="segments that count for the objective"),
    "vqmon.decoder.replaced": Metric(
        kind="counter", unit="{process}", meaning="decoder processes killed or replaced, by `reason`"
    ),
    "vqmon.scorer.promoted": Metric(
        kind="counter",
        unit="{segment}",
        meaning="segments at which the heavy scorers looked too, by the first `reason`",
    ),
    "vqmon.scorer.left_out": Metric(
        kind="counter",
        unit="{segment}",
        meaning="segments at which they should have looked and did not, by `reason` (budget, timeout, failed)",
    ),
    "vqmon.scorer.run.duration": Metric(
        kind="histogram",
        unit="s",
        meaning="how long one run held its device, by `tier` (first, heavy)",
        bounds=_SECONDS,
    ),
    "vqmon.publish.duration": Metric(
        kind="histogram", unit="s", meaning="time of one transaction into the history", bounds=_SECONDS
    ),
    "vqmon.kafka.lag": Metric(
        kind="gauge", unit="{record}", meaning="records that wait in our partitions, by `topic` and `partition`"
    ),
    "vqmon.kafka.connected": Metric(kind="gauge", unit="1", meaning="1 while the brokers answer, else 0"),
    "vqmon.kafka.rebalance": Metric(kind="counter", unit="{rebalance}", meaning="times that partitions were assigned"),
    "vqmon.kafka.bring_up.duration": Metric(
        kind="histogram", unit="s", meaning="time from a partition's fence to its first poll", bounds=_SECONDS
    ),
    "vqmon.kafka.transaction.duration": Metric(
        kind="histogram", unit="s", meaning="time until a batch was safely in Kafka, repairs included", bounds=_SECONDS
    ),
    "vqmon.kafka.rejected": Metric(kind="counter", unit="{record}", meaning="records that are no segment message"),
    "vqmon.kafka.broken": Metric(
        kind="counter", unit="{producer}", meaning="producers thrown away because it was not known what happened"
    ),
    "vqmon.kafka.membership_lost": Metric(
        kind="counter", unit="{membership}", meaning="memberships of the group begun anew, by `reason` (fenced, lost)"
    ),
    "vqmon.kafka.halted": Metric(
        kind="gauge", unit="{partition}", meaning="partitions stopped because nearly every record is rejected"
    ),
    "vqmon.record.lag": Metric(
        kind="gauge", unit="{record}", meaning="records that wait to be recorded, by `topic` and `partition`"
    ),
    "vqmon.record.count": Metric(
        kind="counter", unit="{record}", meaning="records read, by `kind` (outcome, end, marker, alert, unreadable)"
    ),
    "vqmon.record.again": Metric(
        kind="counter", unit="{try}", meaning="times that recording began anew, by `reason` (fenced, unreachable)"
    ),
    "vqmon.origin.closed": Metric(
        kind="gauge", unit="{origin}", meaning="origins that are down: their segments wait and are not given up"
    ),
    "vqmon.watchdog.breach": Metric(kind="counter", unit="{breach}", meaning="standstills that the watchdog saw"),
}
"""Names are low in cardinality: never labelled by stream, rendition, segment or address."""


class Meters:
    """Counts and records by the names of `METRICS`; without a reader nothing is kept."""

    def __init__(self, *readers: MetricReader, version: str = "0") -> None:
        resource = Resource({"service.name": "vqmon", "service.version": version})
        self._provider = MeterProvider(metric_readers=readers, resource=resource)
        meter = self._provider.get_meter("vqmon")
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, _Gauge] = {}
        self._histograms: dict[str, Histogram] = {}
        for name, metric in METRICS.items():
            if metric.kind == "counter":
                self._counters[name] = meter.create_counter(name, metric.unit, metric.meaning)
            elif metric.kind == "gauge":
                self._gauges[name] = meter.create_gauge(name, metric.unit, metric.meaning)
            else:
                # Explicit bounds: an exponential histogram breaks the pull exporter's whole scrape.
                self._histograms[name] = meter.create_histogram(
                    name, metric.unit, metric.meaning, explicit_bucket_boundaries_advisory=list(metric.bounds)
                )

    def count(self, name: Name, amount: int = 1, **labels: str) -> None:
        """Add to a counter."""
        self._counters[name].add(amount, labels)

    def set(self, name: Name, value: float, **labels: str) -> None:
        """Set a gauge."""
        self._gauges[name].set(value, labels)

    def record(self, name: Name, value: float, **labels: str) -> None:
        """Record one value of a histogram."""
        self._histograms[name].record(value, labels)

    def close(self) -> None:
        """Flush and end the readers."""
        self._provider.shutdown()
