"""The pages of numbers: metrics, signals and measures, and the columns of views and exports."""

from collections.abc import Mapping

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from prometheus_client import REGISTRY

from docs.generate.markdown import definition, page, sentence, table
from docs.generate.source_comments import field_comments
from vqmon.core.alerts.reactions.input_switching import DecisionRecord, InputDecision
from vqmon.core.frames import AudioFacts
from vqmon.core.types import AUDIO_MEASUREMENTS, SIGNALS, Alert
from vqmon.media.reference.measures.offered import ALONE_MEASURES, REFERENCE_MEASURES
from vqmon.telemetry.metrics import METRICS, Meters
from vqmon.transport.export.tables import COLUMNS
from vqmon.transport.history.backends.views import VIEW_COLUMNS

_METRICS = """\
Every metric of the long-running commands: its type, unit and labels, and its name in Prometheus. They are
served at `/metrics` of `daemon.health_port`, and sent over OTLP when OpenTelemetry's variables ask for it
([](../operations.md#opentelemetry)). No metric has a label for segment or address, and
only those of `vqmon.stream` have one for stream and rendition: for the streams that `metrics.streams` names,
and at most `metrics.max_renditions` renditions. All others are in the events and in the history."""

_SIGNALS = """\
Every number that is measured besides scores: signals of the picture, measurements of the sound, and reference
measures. Formulas and sources are in [](../measures.md) and [](../sound.md), the hit rates of the shipped
rules in [](../alerts.md)."""

_COLUMNS = """\
Every column of the public SQL views, the exports and ClickHouse, with its meaning. Which views there are, and
questions to ask them, is in [](../sql.md). Columns are only ever added; should one change its meaning,
`v_version` rises."""

_VIEW_ROWS = {
    "v_scores": "One row per outcome and scorer; an unscored outcome is one row. As `vqmon export`, and `number`.",
    "v_outcomes": "One row per outcome; of the scores only `value`, that of the first scorer.",
    "v_experiments": "The rows of `v_scores` whose segment has the label `arm`.",
    "v_signals": "One row per outcome and signal.",
    "v_scorer_failures": "One row per outcome and scorer that gave no score for it; `reason` and `detail` say why.",
    "v_references": "One row per outcome and reference measure.",
    "v_frames": "One row per sampled frame and scorer.",
    "v_alerts": "One row per alert.",
    "v_decisions": "One row per decision about the input of a stream ([](../how-to/input-switching.md)).",
    "v_version": "One row.",
}

_ONLY_IN_VIEWS: Mapping[str, str] = {
    "number": "position among the writes of the history; not in exports",
    "signal": "name of the signal",
    "mean": "mean of the signal over the frames, 0..1",
    "max": "highest frame value of the signal, 0..1",
    "tier": "`main` (the first scorer, whose score stands for the segment), `first`, `heavy` or `shadow`",
    "measure": "name of the reference measure",
    "position": "number of the frame among those sampled, from 0 on",
    "time_seconds": "presentation time of the frame, seconds after the segment's first frame",
    "version": "version of the meaning of the columns: 1",
}

_OF_ALERTS: Mapping[str, str] = {
    "alert_id": "id of the alert; the same from open to resolved",
    "rule": "name of the rule",
    "severity": "`page` or `ticket`",
    "state": "`open` or `resolved`",
    "stream_id": "the stream",
    "rendition": "name of the rendition",
    "resolved_at": "when the rule ceased to hold, in the segments' time; NULL while open",
    "summary": "what happened, in a sentence",
    "cause": "where the drop comes from: `source`, `encoder`, `packaging`, `scorer` or empty",
    "event_id": "the outcome that triggered it",
    "value": "what was measured there",
    "threshold": "what it was compared with",
    "arm": "the label `arm`",
    "labels": "labels of segment and rendition when the alert opened",
    "number": "position among the writes of the history",
}


def metrics_page() -> str:
    """The page of `METRICS`, with the names that the Prometheus exporter gives them."""
    names = _prometheus_names()
    parts = []
    for name, metric in METRICS.items():
        labels = f"; labels {', '.join(f'`{label}`' for label in metric.labels)}" if metric.labels else "; no labels"
        unit = {"1": "no unit", "s": "seconds"}.get(metric.unit, f"{metric.unit.strip('{}')}s")
        buckets = (
            f" Buckets up to {', '.join(f'{bound:g}' for bound in metric.bucket_bounds)}."
            if metric.bucket_bounds
            else ""
        )
        parts.append(
            definition(
                name,
                f"{metric.kind}, {unit}{labels}",
                f"{sentence(metric.description)}{buckets} In Prometheus `{names[name]}`.",
                anchor=name,
            )
        )
    return page("Metrics", _METRICS, *parts, source="vqmon/telemetry/metrics.py")


def _prometheus_names() -> dict[str, str]:
    reader = PrometheusMetricReader()
    meters = Meters(reader)
    for name, metric in METRICS.items():
        {"counter": meters.count, "gauge": meters.set, "histogram": meters.record}[metric.kind](name, 1)
    by_description = {family.documentation: family for family in REGISTRY.collect()}
    meters.close()
    return {
        name: by_description[metric.description].name + ("_total" if metric.kind == "counter" else "")
        for name, metric in METRICS.items()
    }


def signals_page() -> str:
    """The page of signals, sound and reference measures."""
    signals = [definition(name, "0..1", sentence(meaning), anchor=name) for name, meaning in SIGNALS.items()]
    comments = {
        **field_comments(AudioFacts),
        "drift_seconds": "how far the sound runs away from the pictures within the segment",
    }
    sound = [
        (f"`{name}`", unit or "1", sentence(comments[name]).replace("None", "null"))
        for name, unit in AUDIO_MEASUREMENTS.items()
    ]
    references, alone = (
        [
            (
                f"`{name}`",
                measure.unit or "1",
                _range(measure.low, measure.high),
                _better(measure),
                sentence(measure.description),
            )
            for name, measure in measures.items()
        ]
        for measures in (REFERENCE_MEASURES, ALONE_MEASURES)
    )
    return page(
        "Signals and measures",
        _SIGNALS,
        "## Signals",
        "Measured on every sampled frame of the coded picture at native size; 0..1, higher means more of it.",
        *signals,
        "## Sound",
        "With `[audio]` enabled; a rule of the kind `audio` names one in `measurement`.",
        table(("measurement", "unit", "meaning"), sound),
        "## Reference measures",
        "For segments that have a reference; `scoring.references` lists which are computed. `cambi`, `niqe` "
        "and `il_niqe` are of the segment's picture alone, on the canvas of the comparison.",
        table(("measure", "unit", "range", "better", "meaning"), references),
        "## Measures without a reference",
        "For every segment; `scoring.measures` lists which are computed.",
        table(("measure", "unit", "range", "better", "meaning"), alone),
        source="vqmon/core/frames.py and vqmon/media",
    )


def _range(low: float | None, high: float | None) -> str:
    if low is None and high is None:
        return "unbounded"
    if high is None:
        return f"{low:g} or more"
    return f"up to {high:g}" if low is None else f"{low:g}..{high:g}"


def _better(measure: object) -> str:
    return {True: "higher", False: "lower", None: "-"}[getattr(measure, "higher_is_better", None)]


def columns_page() -> str:
    """The page of columns; raises KeyError for one without a meaning."""
    exported = [(f"`{name}`", sentence(meaning)) for name, meaning in COLUMNS.items()]
    parts = []
    for view, columns in VIEW_COLUMNS.items():
        parts.append(f"## `{view}`\n\n{_VIEW_ROWS[view]}")
        if view == "v_version" or not set(columns) <= {*COLUMNS, "number"}:
            meanings = _MEANINGS.get(view, {**COLUMNS, **_ONLY_IN_VIEWS})
            parts.append(table(("column", "meaning"), [(f"`{name}`", sentence(meanings[name])) for name in columns]))
    return page(
        "SQL columns",
        _COLUMNS,
        "## Columns of `v_scores` and of the exports",
        table(("column", "meaning"), [*exported, ("`number`", sentence(_ONLY_IN_VIEWS["number"]))]),
        *parts,
        source="vqmon/transport/export/tables.py and vqmon/transport/history/backends/views.py",
    )


_MEANINGS: Mapping[str, Mapping[str, str]] = {
    "v_alerts": {**field_comments(Alert), **_OF_ALERTS},
    "v_decisions": {**field_comments(InputDecision), **field_comments(DecisionRecord), "decision_id": "its id"},
}
"""View -> its columns whose meaning is not that of an outcome."""
