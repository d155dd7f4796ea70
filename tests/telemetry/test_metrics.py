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
