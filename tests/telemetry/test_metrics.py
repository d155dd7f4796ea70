"""The operational metrics of the daemon."""

import ast
from pathlib import Path

from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from vqmon.telemetry.metrics import METRICS, Meters

ROOT = Path(__file__).parents[2]


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


def test_every_call_gives_the_labels_of_its_metric() -> None:
    """Of those that name metric and labels where they record."""
    calls = [
        (node.args[0].value, {keyword.arg for keyword in node.keywords} - {"amount"})
        for folder in ("vqmon", "pipelines")
        for file in sorted((ROOT / folder).rglob("*.py"))
        if '"vqmon.' in (text := file.read_text(encoding="utf-8"))
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("count", "set", "record")
        and node.args
        and isinstance(node.args[0], ast.Constant)
        and node.args[0].value in METRICS
    ]

    assert len(calls) > 30
    assert [(name, labels) for name, labels in calls if labels != set(METRICS[name].labels)] == []


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
