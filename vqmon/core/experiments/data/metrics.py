"""Reads the metrics, attributes and cluster of an outcome, as an experiment names them."""

import math
from collections.abc import Mapping
from datetime import datetime, timedelta

import numpy as np

from vqmon.core.alerts.media_timeline import NOT_JUDGED, NOT_SEGMENTS
from vqmon.core.experiments.data.clusters import Floats
from vqmon.core.experiments.definition import Experiment
from vqmon.core.scores import REFERENCE_PREFIX
from vqmon.core.types import Outcome, QualityEvent, Segment, SegmentFailure

_LIBRARIES = ("av", "libavcodec", "libavformat", "libavutil", "libswscale")


class ExperimentMetrics:
    """The metrics of an experiment in a fixed order: scorers, guardrails, signals that fool scorers."""

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment
        self.scorers = tuple(main_metric(scorer) for scorer in experiment.scorers)
        guardrails = tuple(guardrail.of for guardrail in experiment.guardrails)
        signals = tuple(f"signal:{name}" for name in experiment.look_limits)
        # metric names like "p5:lite"
        self.keys = tuple(dict.fromkeys((*self.scorers, *guardrails, *signals)))
        self.index = {key: index for index, key in enumerate(self.keys)}

    def values(self, outcome: Outcome) -> Floats:
        """(keys,) values of the metrics; nan where the outcome has none."""
        return np.array([_metric_value(key, outcome, self._experiment) for key in self.keys])

    def loss_reason(self, outcome: Outcome) -> str:
        """Why the outcome lacks the score of a scorer of the experiment, a key of errors.REASONS; "" when it has all.

        A segment that was never scored by one of them, without an error, is no loss.
        """
        return _loss_reason(outcome, self._experiment)


def _loss_reason(outcome: Outcome, experiment: Experiment) -> str:
    if isinstance(outcome, SegmentFailure):
        return outcome.reason
    names = experiment.scorers
    failures = (failure for failure in outcome.scorer_failures if failure.tier != "shadow")
    return next(
        (failure.reason for failure in failures if {failure.scorer, failure.scorer.split("@")[0]} & set(names)), ""
    )


def main_metric(scorer: str) -> str:
    """The metric of a scorer or, with `reference:` before its name, of a reference measure; higher is better."""
    measure = scorer.removeprefix(REFERENCE_PREFIX)
    return f"score:{scorer}" if measure == scorer else f"level:{measure}"


def _metric_value(key: str, outcome: Outcome, experiment: Experiment) -> float:
    """The value of a metric such as `p5:lite`; nan when the outcome has none."""
    kind, _, name = key.partition(":")
    if kind == "unscored":
        return float(bool(_loss_reason(outcome, experiment)))
    if kind in ("label", "bitrate_kbps", "height"):
        return numeric_attribute(key, outcome.segment)
    if not isinstance(outcome, QualityEvent):
        return math.nan
    if kind in ("reference", "level"):
        reference = outcome.reference_of(name)
        if reference is None:
            return math.nan
        return reference.level if kind == "level" else reference.value
    if kind == "signal":
        return outcome.signals[name].mean if name in outcome.signals else math.nan
    score = outcome.score_of(name)
    if score is None:
        return math.nan
    return {"score": score.value, "p5": score.p5, "min": score.min}[kind]


def numeric_attribute(key: str, segment: Segment) -> float:
    """The number `bitrate_kbps`, `height` or `label:NAME` of a segment, known without its frames; nan when unknown."""
    kind, _, name = key.partition(":")
    if kind == "bitrate_kbps":
        return segment_bitrate_kbps(segment)
    if kind == "height":
        return float(segment.rendition.height or math.nan)
    try:
        value = float(_label_value(name, segment))
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan


def _label_value(name: str, segment: Segment) -> str:
    """The label of the segment, else of its rendition, else ""."""
    return segment.all_labels.get(name, "")


def text_attribute(key: str, segment: Segment) -> str:
    """The text of `stream`, `rendition`, `height` or `label:NAME` of a segment; "" when unknown."""
    kind, _, name = key.partition(":")
    rendition = segment.rendition
    if kind == "label":
        return _label_value(name, segment)
    return {"stream": rendition.stream_id, "rendition": rendition.name, "height": str(rendition.height or "")}[kind]


def segment_bitrate_kbps(segment: Segment) -> float:
    """From the label `bytes` and the duration, else the declared bitrate of the rendition; nan when unknown."""
    size_bytes = numeric_attribute("label:bytes", segment)
    if math.isfinite(size_bytes) and segment.duration_seconds > 0:
        return size_bytes * 8e-3 / segment.duration_seconds
    return segment.rendition.bitrate_kbps or math.nan


def cluster_of_segment(experiment: Experiment, segment: Segment) -> str | None:
    """The name of the cluster that a segment belongs to; None in the gap between blocks and in the wash-in."""
    if experiment.cluster != "block":
        return text_attribute(experiment.cluster, segment) or segment.rendition.stream_id
    seconds_into_block = segment.starts_at.timestamp() % experiment.block_seconds
    wash_in_seconds = experiment.wash_in_seconds if experiment.design == "switchback" else 0.0
    if not wash_in_seconds <= seconds_into_block < experiment.block_seconds - experiment.gap_seconds:
        return None
    block_starts_at = segment.starts_at - timedelta(seconds=seconds_into_block)
    return f"{segment.rendition.stream_id} {block_starts_at:%Y-%m-%d %H:%M:%S}"


def stream_of_block(cluster: str) -> str:
    """The stream of a block that `cluster_of_segment` named."""
    return cluster.rsplit(" ", 2)[0]


def is_about_segment(outcome: Outcome) -> bool:
    """Whether the outcome is about a segment; that of a stale playlist is not, nor one that is about vqmon."""
    return not (isinstance(outcome, SegmentFailure) and outcome.reason in (*NOT_SEGMENTS, *NOT_JUDGED))


def is_in_period(experiment: Experiment, starts_at: datetime) -> bool:
    """Whether a segment with this start is part of the experiment: since <= starts_at < until."""
    return (experiment.since is None or starts_at >= experiment.since) and (
        experiment.until is None or starts_at < experiment.until
    )


def scoring_versions(event: QualityEvent) -> Mapping[str, str]:
    """What a score depends on apart from the picture: the version of each scorer, of sampling and of the decoder."""
    scorers = {
        scorer.scorer.split("@")[0]: f"{scorer.scorer} {scorer.sha256[:12]} {scorer.preprocessing} "
        f"calibration {scorer.calibration_version}"
        for scorer in event.provenance.scorers
    }
    versions = event.provenance.versions
    libraries = " ".join(f"{name} {versions[name]}" for name in _LIBRARIES if name in versions)
    return {**scorers, "sampling": event.provenance.sampling, "decoder": libraries}
