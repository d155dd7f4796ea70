"""Effects and guardrails: which interval decides, at which level, and when a guardrail holds or breaks."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from tests import factories
from vqmon.core.experiments.definition import Arm, Guardrail
from vqmon.core.types import Outcome


def test_two_arms_share_alpha_by_holm_and_each_has_its_result() -> None:
    """Two against the control: the surer is read at 97.5 %, the other at 95 % once the first is decided (Holm)."""
    arms = tuple(Arm(name=name, label=name) for name in ("v1", "v2", "v3"))
    comparison = factories.comparison(
        experiment=factories.experiment(arms=arms), outcomes=factories.paired_events(gain=1.2, arms=("v1", "v2", "v3"))
    )
    levels = [event.effects[0].reading.level for event in comparison.answers if event.effects[0].reading]

    assert [event.arm for event in comparison.answers] == ["v2", "v3"]
    assert [event.verdict.kind for event in comparison.answers] == ["better", "better"]
    assert sorted(levels) == [0.95, 0.975]
    nothing = factories.comparison(
        experiment=factories.experiment(arms=arms), outcomes=factories.paired_events(gain=0, arms=("v1", "v2", "v3"))
    )
    assert {event.effects[0].reading.level for event in nothing.answers if event.effects[0].reading} == {0.975}


@pytest.mark.parametrize(
    ("flicker", "margin", "state", "kind"),
    [(0.0, 0.02, "held", "better"), (0.1, 0.02, "broken", "needs human look"), (0.005, 0.0051, "open", "undecided")],
)
def test_guardrails_hold_break_or_stay_open(flicker: float, margin: float, state: str, kind: str) -> None:
    """A winner is taken only when every guardrail is shown to hold; a broken one is for people to weigh."""
    rng = np.random.default_rng(5)
    guardrail = Guardrail(name="flicker", of="signal:flicker", margin=margin)
    outcomes = []
    for event in factories.paired_events(gain=2):
        extra = flicker * (event.segment.rendition.name == "v2") + 0.01 * float(rng.random())
        signal = event.signals["flicker"]
        outcomes.append(replace(event, signals={**event.signals, "flicker": replace(signal, mean=extra, max=extra)}))
    experiment = factories.experiment(guardrails=(guardrail,), look_limits={"noise": 0.01})
    result = factories.first_result(factories.comparison(experiment=experiment, outcomes=outcomes))

    assert result.guardrails[0].state == state
    assert result.verdict.kind == kind


def test_the_share_of_unscored_segments_can_be_a_guardrail() -> None:
    """The share of segments that one arm cannot be scored on."""
    guardrail = Guardrail(name="failures", of="unscored", margin=0.05)
    outcomes: list[Outcome] = []
    for event in factories.paired_events(gain=0, streams=24):
        fails = event.segment.sequence == 3
        outcomes.append(
            factories.arm_failure(
                stream=event.segment.rendition.stream_id, arm=event.segment.rendition.name, sequence=3
            )
            if fails
            else event
        )
    result = factories.first_result(
        factories.comparison(experiment=factories.experiment(guardrails=(guardrail,)), outcomes=outcomes)
    )

    assert result.guardrails[0].control_mean == pytest.approx(1 / 12)
    assert (result.guardrails[0].state, result.guardrails[0].difference) == ("held", 0.0)


def test_a_fixed_horizon_experiment_ignores_clusters_after_the_planned_ones() -> None:
    """With 10 planned clusters the first 10 that are complete count; five more, all bad, do not."""
    experiment = factories.experiment(planned_clusters=10, segments_per_cluster=12)
    good = list(factories.paired_events(gain=2, streams=10))
    bad = [
        replace(event, segment=replace(event.segment, starts_at=event.segment.starts_at + timedelta(days=1)))
        for event in factories.paired_events(gain=-30, streams=15)
        if event.segment.rendition.stream_id >= "film-010"
    ]
    alone, later = (
        factories.first_result(factories.comparison(experiment=experiment, outcomes=outcomes))
        for outcomes in (good, good + bad)
    )

    assert alone.verdict.kind == "better"
    assert later.effects[0].reading == alone.effects[0].reading
    assert later.effects[0].p_sign_flip is not None
    fewer = factories.first_result(
        factories.comparison(
            experiment=experiment, outcomes=[event for event in good if event.segment.rendition.stream_id != "film-003"]
        )
    )
    assert (fewer.verdict.kind, fewer.effects[0].reading) == ("undecided", None)
