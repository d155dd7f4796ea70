"""Experiments for tests: outcomes of several arms over several streams, seeded."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from tests.core.alerts.outcomes import failed, scored
from vqmon.core.experiments.analysis.analysis import Comparing
from vqmon.core.experiments.definition import Arm, Experiment
from vqmon.core.experiments.human_review import Vote
from vqmon.core.experiments.results import Comparison
from vqmon.core.types import Outcome, QualityEvent, Rendition, Score

ARMS = (Arm(name="v1", label="v1"), Arm(name="v2", label="v2"))


def experiment(**changes: object) -> Experiment:
    """v1 against v2 by label, paired, clusters by stream."""
    base = Experiment(name="trial", arms=ARMS, control="v1", scorers=("lite",), delta_min=0.5)
    return replace(base, **changes)  # type: ignore[arg-type]


def rendition(stream: int | str, arm: str, **labels: str) -> Rendition:
    name = stream if isinstance(stream, str) else f"film-{stream:03}"
    return Rendition(
        stream_id=name, name=arm, width=1920, height=1080, bitrate_kbps=4000.0, labels={"arm": arm, **labels}
    )


def event(
    stream: int | str,
    arm: str,
    number: int,
    value: float,
    *,
    at: float | None = None,
    signals: Mapping[str, float] | None = None,
    other: float | None = None,
    **labels: str,
) -> QualityEvent:
    """A scored segment of an arm; `other` is the score of a second scorer."""
    given = {name: [value] * 4 for name, value in (signals or {}).items()}
    found = scored(
        number, float(np.clip(value, 0, 100)), at=at, rendition=rendition(stream, arm, **labels), signals=given
    )
    if other is None:
        return found
    first = found.scores[0]
    second = Score(
        scorer="owl@1",
        value=other,
        native_value=other / 20,
        p5=other,
        min=other,
        pooling="mean",
        frame_values=first.frame_values,
    )
    return replace(found, scores=(first, second))


def lost(stream: int | str, arm: str, number: int, *, reason: str = "not_found", at: float | None = None) -> Outcome:
    return failed(number, reason, at=at, rendition=rendition(stream, arm))


def paired(
    *,
    streams: int = 30,
    segments: int = 12,
    gain: float = 0.0,
    arms: Sequence[str] = ("v1", "v2"),
    seed: int = 1,
    signals: Mapping[str, Mapping[str, float]] | None = None,
    second: float | None = None,
) -> Iterator[QualityEvent]:
    """Every segment in every arm: contents of very different quality, each arm a `gain` above the one before.

    `second` is the gain that a second scorer sees.
    """
    rng = np.random.default_rng(seed)
    for stream in range(streams):
        base, likes = rng.uniform(30, 80), rng.normal(0, 0.8)
        for number in range(segments):
            content = base + rng.normal(0, 4)
            for place, arm in enumerate(arms):
                value = content + place * (gain + likes) + rng.normal(0, 0.7)
                other = None if second is None else content + place * (second + likes / 4) + rng.normal(0, 0.7)
                yield event(stream, arm, number, value, signals=(signals or {}).get(arm), other=other)


def answer(it: Experiment, outcomes: Iterator[Outcome] | Sequence[Outcome], votes: Sequence[Vote] = ()) -> Comparison:
    """The comparison of these outcomes, brought into the order of their starts."""
    comparing = Comparing(it)
    for outcome in sorted(outcomes, key=lambda one: one.segment.starts_at):
        comparing.take(outcome)
    return comparing.finish(votes=votes, rng=np.random.default_rng(0))
