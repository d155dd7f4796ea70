"""What an experiment reads from one outcome: its numbers, its cluster, its covariates."""

import math
from collections.abc import Mapping
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from vqmon.core.alerts.rules import NOT_SEGMENTS
from vqmon.core.experiments.definition import Experiment
from vqmon.core.types import Outcome, QualityEvent, Segment, SegmentFailure

Floats = NDArray[np.float64]

_LIBRARIES = ("av", "libavcodec", "libavformat", "libavutil", "libswscale")


class ExperimentMetrics:
    """The numbers that an experiment follows, in a fixed order: scorers, guardrails, signals that fool scorers."""

    def __init__(self, experiment: Experiment) -> None:
        self.scorers = tuple(f"score:{scorer}" for scorer in experiment.scorers)
        rails = tuple(rail.of for rail in experiment.guardrails)
        looks = tuple(f"signal:{name}" for name in experiment.look_limits)
        self.keys = tuple(dict.fromkeys((*self.scorers, *rails, *looks)))
        self.index = {key: place for place, key in enumerate(self.keys)}

    def of(self, outcome: Outcome) -> Floats:
        """(keys,) numbers; nan where this outcome has none."""
        return np.array([metric_value(key, outcome) for key in self.keys])


def metric_value(key: str, outcome: Outcome) -> float:
    """One number of an outcome, e.g. `p5:lite`; nan when it has none."""
    kind, _, name = key.partition(":")
    if kind == "unscored":
        return float(isinstance(outcome, SegmentFailure))
    if kind in ("label", "bitrate_kbps", "height"):
        return numeric_attribute(key, outcome.segment)
    if not isinstance(outcome, QualityEvent):
        return math.nan
    if kind == "signal":
        return outcome.signals[name].mean if name in outcome.signals else math.nan
    score = outcome.score_of(name)
    if score is None:
        return math.nan
    return {"score": score.value, "p5": score.p5, "min": score.min}[kind]


def numeric_attribute(key: str, segment: Segment) -> float:
    """A number known without looking at the picture: `bitrate_kbps`, `height`, `label:NAME`; nan when not known."""
    kind, _, name = key.partition(":")
    if kind == "bitrate_kbps":
        return segment_bitrate_kbps(segment)
    if kind == "height":
        return float(segment.rendition.height or math.nan)
    try:
        value = float(label_value(name, segment))
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan


def label_value(name: str, segment: Segment) -> str:
    """A label of the segment, else of its rendition, else ""."""
    return segment.labels.get(name, segment.rendition.labels.get(name, ""))


def text_attribute(key: str, segment: Segment) -> str:
    """What `stream`, `rendition`, `height` or `label:NAME` is for this segment, as text."""
    kind, _, name = key.partition(":")
    rendition = segment.rendition
    if kind == "label":
        return label_value(name, segment)
    return {"stream": rendition.stream_id, "rendition": rendition.name, "height": str(rendition.height or "")}[kind]


def segment_bitrate_kbps(segment: Segment) -> float:
    """kbit/s: from the label `bytes` and the duration, else as the rendition declares it; nan when not known."""
    size = numeric_attribute("label:bytes", segment)
    if math.isfinite(size) and segment.duration_seconds > 0:
        return size * 8e-3 / segment.duration_seconds
    return segment.rendition.bitrate_kbps or math.nan


def cluster_of_segment(experiment: Experiment, segment: Segment) -> str | None:
    """The unit of analysis that a segment belongs to; None in the gap between blocks and in the wash-in."""
    if experiment.cluster != "block":
        return text_attribute(experiment.cluster, segment) or segment.rendition.stream_id
    starts = segment.starts_at.timestamp()
    inside = starts % experiment.block_seconds
    wash_in = experiment.wash_in_seconds if experiment.design == "switchback" else 0.0
    if inside < wash_in or inside >= experiment.block_seconds - experiment.gap_seconds:
        return None
    begins = segment.starts_at - timedelta(seconds=inside)
    return f"{segment.rendition.stream_id} {begins:%Y-%m-%d %H:%M:%S}"


def is_about_segment(outcome: Outcome) -> bool:
    """Whether the outcome is about a segment; that a playlist went stale is about none."""
    return not (isinstance(outcome, SegmentFailure) and outcome.reason in NOT_SEGMENTS)


def is_in_period(experiment: Experiment, moment: datetime) -> bool:
    """Whether a segment that starts then is part of the experiment."""
    return (experiment.since is None or moment >= experiment.since) and (
        experiment.until is None or moment < experiment.until
    )


def scoring_versions(event: QualityEvent) -> Mapping[str, str]:
    """What a score depends on beside the picture: scorers with weights and preprocessing, sampling, decoder."""
    parts = {
        it.scorer.split("@")[0]: f"{it.scorer} {it.sha256[:12]} {it.preprocessing} calibration {it.calibration_version}"
        for it in event.provenance.scorers
    }
    libraries = " ".join(
        f"{key} {event.provenance.versions[key]}" for key in _LIBRARIES if key in event.provenance.versions
    )
    return {**parts, "sampling": event.provenance.sampling, "decoder": libraries}
