"""Every operational metric of the daemon: its name, kind, unit and description, and the meters that record it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from opentelemetry.metrics import CallbackOptions, Counter, Histogram, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.sdk.resources import Resource

MetricName = Literal[
    "vqmon.segment.count",
    "vqmon.segment.score",
    "vqmon.stream.score",
    "vqmon.stream.unscored",
    "vqmon.stream.ends_at",
    "vqmon.stream.left_out",
    "vqmon.partial.delay",
    "vqmon.stage.duration",
    "vqmon.lag",
    "vqmon.in_flight",
    "vqmon.overloaded",
    "vqmon.queue.waiting",
    "vqmon.queue.age",
    "vqmon.alert.transition",
    "vqmon.notify.sent",
    "vqmon.notify.failed",
    "vqmon.notify.waiting",
    "vqmon.notify.oldest",
    "vqmon.notify.given_up",
    "vqmon.notify.gone",
    "vqmon.input.decision",
    "vqmon.input.delivery",
    "vqmon.input.waiting",
    "vqmon.slo.good",
    "vqmon.slo.total",
    "vqmon.decoder.replaced",
    "vqmon.decoder.isolation",
    "vqmon.scorer.promoted",
    "vqmon.scorer.left_out",
    "vqmon.scorer.failed",
    "vqmon.scorer.run.duration",
    "vqmon.scorer.batch.fill",
    "vqmon.scorer.batch.waiting",
    "vqmon.gpu.busy",
    "vqmon.gpu.memory.used",
    "vqmon.gpu.memory.size",
    "vqmon.publish.duration",
    "vqmon.history.degraded",
    "vqmon.history.waiting",
    "vqmon.history.spool",
    "vqmon.kafka.lag",
    "vqmon.kafka.lag_time",
    "vqmon.kafka.oldest",
    "vqmon.kafka.partition",
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
    "vqmon.record.deleted",
    "vqmon.origin.closed",
    "vqmon.watchdog.breach",
    "vqmon.web.request.count",
    "vqmon.web.request.duration",
    "vqmon.web.live",
    "vqmon.web.vote",
    "vqmon.web.connection.dropped",
    "vqmon.web.history.readable",
    "vqmon.web.history.number",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """The definition of one metric."""

    kind: Literal["counter", "gauge", "histogram"]
    unit: str
    description: str
    # names of its labels
    labels: tuple[str, ...] = ()
    # upper bounds of the buckets of a histogram, in its unit
    bucket_bounds: tuple[float, ...] = ()


_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_SHARES = (0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0)
_ROWS = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)

METRICS: Mapping[MetricName, Metric] = {
    "vqmon.segment.count": Metric(
        kind="counter",
        unit="{segment}",
        description="segments with an outcome, by `outcome` (scored, unscored) and `reason`",
        labels=("outcome", "reason"),
    ),
    "vqmon.segment.score": Metric(
        kind="histogram",
        unit="1",
        description="pooled score 0..100, by `scorer`",
        bucket_bounds=tuple(range(5, 100, 5)),
        labels=("scorer",),
    ),
    "vqmon.stream.score": Metric(
        kind="gauge",
        unit="1",
        description="score 0..100 of the newest segment, none while it is unscored, by `stream`, `rendition` and "
        "`scorer`; for the streams of `metrics.streams`",
        labels=("stream", "rendition", "scorer"),
    ),
    "vqmon.stream.unscored": Metric(
        kind="gauge",
        unit="1",
        description="share of the newest 30 segments that is unscored, 0..1; for the streams of `metrics.streams`",
        labels=("stream", "rendition"),
    ),
    "vqmon.stream.ends_at": Metric(
        kind="gauge",
        unit="s",
        description="end of the newest segment on the stream's timeline, as Unix time; for the streams of "
        "`metrics.streams`",
        labels=("stream", "rendition"),
    ),
    "vqmon.stream.left_out": Metric(
        kind="gauge",
        unit="{rendition}",
        description="renditions of `metrics.streams` without series, as `metrics.max_renditions` others have them",
    ),
    "vqmon.partial.delay": Metric(
        kind="histogram",
        unit="s",
        description="from the end of the newest picture of a segment that is being made, by the dates of its playlist, "
        "to the verdict on it, by `outcome` (scored, unscored); with source.partial_verdicts",
        bucket_bounds=(0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 10),
        labels=("outcome",),
    ),
    "vqmon.stage.duration": Metric(
        kind="histogram",
        unit="s",
        description="time of one segment in a `stage` (fetch, decode, score, score_heavy, decode_again, score_again)",
        bucket_bounds=_SECONDS,
        labels=("stage",),
    ),
    "vqmon.lag": Metric(kind="gauge", unit="s", description="now minus the end of the newest finished segment"),
    "vqmon.overloaded": Metric(
        kind="gauge",
        unit="1",
        description="1 while the daemon cannot keep up with its streams and this is `short` (fetch, decode, score, "
        "history), else 0",
        labels=("short",),
    ),
    "vqmon.queue.waiting": Metric(
        kind="gauge", unit="{segment}", description="segments that were announced and wait to be observed, on one host"
    ),
    "vqmon.queue.age": Metric(
        kind="gauge", unit="s", description="how long the oldest of them at the live edge has waited"
    ),
    "vqmon.in_flight": Metric(kind="gauge", unit="{segment}", description="segments being observed"),
    "vqmon.alert.transition": Metric(
        kind="counter",
        unit="{alert}",
        description="alerts opened or resolved, by `state` and `severity`",
        labels=("state", "severity"),
    ),
    "vqmon.notify.sent": Metric(
        kind="counter",
        unit="{message}",
        description="alerts delivered to a `target`, by `state`; repeats included",
        labels=("target", "state"),
    ),
    "vqmon.notify.failed": Metric(
        kind="counter",
        unit="{message}",
        description="failed delivery attempts to a `target`, by `reason` (unreachable, timeout, busy, refused, gone)",
        labels=("target", "reason"),
    ),
    "vqmon.notify.waiting": Metric(
        kind="gauge",
        unit="{alert}",
        description="alerts that are queued for a `target`",
        labels=("target",),
    ),
    "vqmon.notify.oldest": Metric(
        kind="gauge",
        unit="s",
        description="how long the oldest queued alert has waited, by `target`",
        labels=("target",),
    ),
    "vqmon.notify.given_up": Metric(
        kind="counter",
        unit="{alert}",
        description="alerts dropped because a `target` accepted nothing for days",
        labels=("target",),
    ),
    "vqmon.notify.gone": Metric(
        kind="gauge",
        unit="1",
        description="1 when a `target` answered 410 Gone: nothing more is sent to it",
        labels=("target",),
    ),
    "vqmon.input.decision": Metric(
        kind="counter",
        unit="{decision}",
        description="decisions about inputs of streams, by `hook` and `kind` (switch, hold, return); dry runs too",
        labels=("hook", "kind"),
    ),
    "vqmon.input.delivery": Metric(
        kind="counter",
        unit="{decision}",
        description="decisions about inputs whose delivery ended, by `hook` and `result` (delivered, dry_run, refused, "
        "expired, superseded); each of them is 0 from the start",
        labels=("hook", "result"),
    ),
    "vqmon.input.waiting": Metric(
        kind="gauge",
        unit="{decision}",
        description="decisions about inputs that wait to be delivered, by `hook`",
        labels=("hook",),
    ),
    "vqmon.slo.good": Metric(
        kind="counter",
        unit="{segment}",
        description="segments whose first score is not below what is usual for the rendition, or `daemon.slo_floor`",
    ),
    "vqmon.slo.total": Metric(
        kind="counter", unit="{segment}", description="segments that count for the service level objective"
    ),
    "vqmon.decoder.replaced": Metric(
        kind="counter",
        unit="{process}",
        description="decoder processes killed or replaced, by `reason`",
        labels=("reason",),
    ),
    "vqmon.decoder.isolation": Metric(
        kind="gauge",
        unit="1",
        description="1 while a `protection` of the decoder processes is in force (limits, no_new_privileges, "
        "namespaces, capabilities, landlock, seccomp), else 0",
        labels=("protection",),
    ),
    "vqmon.scorer.promoted": Metric(
        kind="counter",
        unit="{segment}",
        description="segments that the heavy scorers scored too, by the first `reason` (sample, label, low, drop)",
        labels=("reason",),
    ),
    "vqmon.scorer.left_out": Metric(
        kind="counter",
        unit="{segment}",
        description="promoted segments without heavy scores, by `reason` (budget, timeout, failed)",
        labels=("reason",),
    ),
    "vqmon.scorer.failed": Metric(
        kind="counter",
        unit="{segment}",
        description="segments for which a `scorer` of any tier gave no score, by `reason`; those with a score are "
        "counted by vqmon.segment.score",
        labels=("scorer", "reason"),
    ),
    "vqmon.scorer.run.duration": Metric(
        kind="histogram",
        unit="s",
        description="how long one run of a graph held its device, by `tier` (first, heavy: within the budget)",
        bucket_bounds=_SECONDS,
        labels=("tier",),
    ),
    "vqmon.scorer.batch.fill": Metric(
        kind="histogram",
        unit="1",
        description="rows of each batch that a graph runs, as a share of those that fit into one",
        bucket_bounds=_SHARES,
    ),
    "vqmon.scorer.batch.waiting": Metric(
        kind="histogram",
        unit="{row}",
        description="rows that wait for their graph when a batch starts: the queue behind the device",
        bucket_bounds=_ROWS,
    ),
    "vqmon.gpu.busy": Metric(
        kind="gauge",
        unit="1",
        description="share of the time in which each `gpu` of `scoring.devices` computed, by NVML; none of MIG slices",
        labels=("gpu",),
    ),
    "vqmon.gpu.memory.used": Metric(
        kind="gauge",
        unit="By",
        description="memory of each `gpu` that is in use, by all processes, by NVML",
        labels=("gpu",),
    ),
    "vqmon.gpu.memory.size": Metric(
        kind="gauge", unit="By", description="memory that each `gpu` has, by NVML", labels=("gpu",)
    ),
    "vqmon.publish.duration": Metric(
        kind="histogram",
        unit="s",
        description="duration of one transaction that writes to the history",
        bucket_bounds=_SECONDS,
    ),
    "vqmon.history.degraded": Metric(
        kind="gauge", unit="1", description="1 while the history cannot be written and outcomes wait in memory, else 0"
    ),
    "vqmon.history.waiting": Metric(
        kind="gauge", unit="{segment}", description="outcomes that wait for a history which cannot be written"
    ),
    "vqmon.history.spool": Metric(
        kind="gauge", unit="By", description="size of the file in which they wait, too; 0 when none wait"
    ),
    "vqmon.kafka.lag": Metric(
        kind="gauge",
        unit="{record}",
        description="end offset minus committed offset of each assigned partition, by `topic` and `partition`",
        labels=("topic", "partition"),
    ),
    "vqmon.kafka.lag_time": Metric(
        kind="gauge",
        unit="s",
        description="age of the oldest record that is not committed, by its timestamp, by `topic` and `partition`",
        labels=("topic", "partition"),
    ),
    "vqmon.kafka.oldest": Metric(
        kind="gauge",
        unit="s",
        description="how long the worker has held its oldest unfinished record, by `topic` and `partition`",
        labels=("topic", "partition"),
    ),
    "vqmon.kafka.partition": Metric(
        kind="gauge",
        unit="{partition}",
        description="1 for the `state` of each assigned partition (opening, ready, stalled, halted)",
        labels=("topic", "partition", "state"),
    ),
    "vqmon.kafka.connected": Metric(kind="gauge", unit="1", description="1 while the brokers answer, else 0"),
    "vqmon.kafka.rebalance": Metric(
        kind="counter", unit="{rebalance}", description="times that partitions were assigned"
    ),
    "vqmon.kafka.bring_up.duration": Metric(
        kind="histogram",
        unit="s",
        description="time from a partition's fence to its first poll, restoring its states included",
        bucket_bounds=_SECONDS,
    ),
    "vqmon.kafka.transaction.duration": Metric(
        kind="histogram",
        unit="s",
        description="time until a batch was committed to Kafka, retries included",
        bucket_bounds=_SECONDS,
    ),
    "vqmon.kafka.rejected": Metric(
        kind="counter", unit="{record}", description="records that are not valid segment messages"
    ),
    "vqmon.kafka.broken": Metric(
        kind="counter",
        unit="{producer}",
        description="producers replaced because the result of a transaction was unknown",
    ),
    "vqmon.kafka.membership_lost": Metric(
        kind="counter",
        unit="{membership}",
        description="times that the consumer group was joined again, by `reason` (fenced, lost)",
        labels=("reason",),
    ),
    "vqmon.kafka.halted": Metric(
        kind="gauge", unit="{partition}", description="partitions that are stopped until somebody acts"
    ),
    "vqmon.record.lag": Metric(
        kind="gauge",
        unit="{record}",
        description="records that are not yet in the history, by `topic` and `partition`",
        labels=("topic", "partition"),
    ),
    "vqmon.record.count": Metric(
        kind="counter",
        unit="{record}",
        description="records read, by `kind` (outcome, end, marker, alert, unreadable)",
        labels=("kind",),
    ),
    "vqmon.record.again": Metric(
        kind="counter",
        unit="{try}",
        description="times that the recorder restarted, by `reason` (fenced, unreachable)",
        labels=("reason",),
    ),
    "vqmon.record.deleted": Metric(
        kind="counter",
        unit="{offset}",
        description="offsets that were deleted before the recorder had read them, by `topic`",
        labels=("topic",),
    ),
    "vqmon.origin.closed": Metric(
        kind="gauge",
        unit="{origin}",
        description="origins that serve no segments, wholly or of a stream: these wait, and then are `origin_away`",
    ),
    "vqmon.watchdog.breach": Metric(
        kind="counter",
        unit="{breach}",
        description="time limits exceeded, as seen by the watchdog, by `what`",
        labels=("what",),
    ),
    "vqmon.web.request.count": Metric(
        kind="counter",
        unit="{request}",
        description="requests of the pages, by `route`, `method` and `status`",
        labels=("route", "method", "status"),
    ),
    "vqmon.web.request.duration": Metric(
        kind="histogram",
        unit="s",
        description="time until a response was handed to the network, by `route`; without live events",
        labels=("route",),
        bucket_bounds=_SECONDS,
    ),
    "vqmon.web.live": Metric(kind="gauge", unit="{page}", description="open pages that receive live events"),
    "vqmon.web.vote": Metric(kind="counter", unit="{vote}", description="votes of blind reviews that were stored"),
    "vqmon.web.connection.dropped": Metric(
        kind="counter",
        unit="{connection}",
        description="connections dropped or refused at a limit, by `reason` (total, client, slow_request, slow_reader)",
        labels=("reason",),
    ),
    "vqmon.web.history.readable": Metric(
        kind="gauge", unit="1", description="1 when the history could be read at the last probe or scrape, else 0"
    ),
    "vqmon.web.history.number": Metric(
        kind="gauge", unit="{write}", description="number of the newest write that the pages see"
    ),
}
"""Labels have low cardinality: never a segment or address; streams only in `vqmon.stream`, for a bounded list."""


_Labels = tuple[tuple[str, str], ...]


class Meters:
    """Records the metrics of `METRICS`; without a reader nothing is stored."""

    def __init__(self, *readers: MetricReader, resource: Resource | None = None) -> None:
        self._provider = MeterProvider(metric_readers=readers, resource=resource or Resource({}))
        meter = self._provider.get_meter("vqmon")
        self._counters: dict[str, Counter] = {}
        # gauge -> labels -> value; a gauge is read when it is collected, so that a series can also end
        self._gauges: dict[str, dict[_Labels, float]] = {}
        self._histograms: dict[str, Histogram] = {}
        # gauge -> what reads its series
        self._suppliers: dict[str, Callable[[], Iterable[tuple[float, Mapping[str, str]]]]] = {}
        for name, metric in METRICS.items():
            if metric.kind == "counter":
                self._counters[name] = meter.create_counter(name, metric.unit, metric.description)
            elif metric.kind == "gauge":
                self._gauges[name] = {}
                meter.create_observable_gauge(name, [self._observer(name)], metric.unit, metric.description)
            else:
                # Explicit bounds: an exponential histogram breaks the pull exporter's whole scrape.
                self._histograms[name] = meter.create_histogram(
                    name,
                    metric.unit,
                    metric.description,
                    explicit_bucket_boundaries_advisory=list(metric.bucket_bounds),
                )

    def count(self, name: MetricName, amount: int = 1, **labels: str) -> None:
        """Add to a counter."""
        self._counters[name].add(amount, labels)

    def set(self, name: MetricName, value: float, **labels: str) -> None:
        """Set one series of a gauge."""
        self._gauges[name][tuple(labels.items())] = value

    def replace(self, name: MetricName, series: Iterable[tuple[float, Mapping[str, str]]]) -> None:
        """Set all series of a gauge, as (value, labels); those that are not given end."""
        self._gauges[name] = {tuple(labels.items()): value for value, labels in series}

    def supply(self, name: MetricName, read: Callable[[], Iterable[tuple[float, Mapping[str, str]]]]) -> None:
        """Read all series of a gauge, as (value, labels), whenever it is collected, in the thread that collects."""
        self._suppliers[name] = read

    def _observer(self, name: str) -> Callable[[CallbackOptions], Sequence[Observation]]:
        def observe(options: CallbackOptions) -> Sequence[Observation]:
            if supplier := self._suppliers.get(name):
                return [Observation(value, dict(labels)) for value, labels in supplier()]
            # A copy, as the collecting thread reads while others set.
            return [Observation(value, dict(labels)) for labels, value in self._gauges[name].copy().items()]

        return observe

    def record(self, name: MetricName, value: float, **labels: str) -> None:
        """Record one value of a histogram."""
        self._histograms[name].record(value, labels)

    def close(self) -> None:
        """Flush and shut down the readers."""
        self._provider.shutdown()
