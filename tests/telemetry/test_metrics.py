"""The operational metrics of the daemon."""

from pathlib import Path

from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from vqmon.telemetry.metrics import METRICS, Meters


def test_every_metric_arrives_at_a_reader_with_its_unit() -> None:
    """Each by the method of its kind."""
    reader = InMemoryMetricReader()
    meters = Meters(reader)
    for name, metric in METRICS.items():
        {"counter": meters.count, "gauge": meters.set, "histogram": meters.record}[metric.kind](name, 1)
    data = reader.get_metrics_data()
    assert data is not None
    read = {m.name: m.unit for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics}
    meters.close()

    assert read == {name: metric.unit for name, metric in METRICS.items()}


def test_the_docs_list_every_metric() -> None:
    """In any of the documents."""
    text = "".join(file.read_text(encoding="utf-8") for file in (Path(__file__).parents[2] / "docs").glob("*.md"))

    assert [name for name in METRICS if f"`{name}`" not in text] == []


def test_a_series_that_is_not_given_any_more_ends() -> None:
    """A partition that went to another worker is not counted twice."""
    reader = InMemoryMetricReader()
    meters = Meters(reader)

    def lags() -> dict[str, float]:
        data = reader.get_metrics_data()
        assert data is not None
        metrics = [m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics]
        points = [point for metric in metrics if metric.name == "vqmon.kafka.lag" for point in metric.data.data_points]
        return {str(point.attributes["partition"]): point.value for point in points}

    meters.replace("vqmon.kafka.lag", [(5, {"partition": "0"}), (7, {"partition": "1"})])
    assert lags() == lags() == {"0": 5, "1": 7}
    meters.replace("vqmon.kafka.lag", [(6, {"partition": "1"})])
    assert lags() == {"1": 6}
    meters.close()
