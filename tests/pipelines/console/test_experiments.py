"""The terminal's page of an experiment: its verdict, the numbers behind it, and the plan of its size."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, get_args

import pytest

from pipelines.console.experiments import comparison_lines, plan_lines
from tests import factories
from tests.factories import START
from vqmon.core.experiments.human_review import VoteTally
from vqmon.core.experiments.results import (
    ArmResult,
    ArmSummary,
    ClusterDifference,
    Comparison,
    ConfidenceInterval,
    Effect,
    GuardrailResult,
    HealthCheck,
    SignalDifference,
    Verdict,
    VerdictKind,
)
from vqmon.core.experiments.stats.power import MAX_CLUSTERS, PowerAssumptions, SampleSizePlan
from vqmon.terminal import PLAIN_WIDTH, Table, render

VERDICT = Verdict(kind="undecided", sentence="v2 against v1 is undecided.")
ANYTIME = ConfidenceInterval(mean=1.9, low=-0.25, high=4.05, level=0.95, kind="any-time")
FINAL = ConfidenceInterval(mean=1.9, low=1.1, high=2.7, level=0.95, kind="final")
EFFECT = Effect(scorer="lite@1", clusters=12, segments=360, reading=ANYTIME, anytime=ANYTIME, final=FINAL, p_t=0.0123)
CONTROL = ArmSummary(arm="v1", role="control", scored=360, unscored=2, clusters=12, mean={"lite@1": 61.25})
ASSUMPTIONS = PowerAssumptions(difference=1.25, sd=5.0, segments_per_cluster=30)
PLAN = SampleSizePlan(cluster_sd=2.836, design_effect=9.66, clusters_final=43, clusters_anytime=1234, power=0.8)


def printed(lines: Iterable[str | Table]) -> str:
    """What a file gets."""
    texts = (
        line.lines(PLAIN_WIDTH, styled=False) if isinstance(line, Table) else [render(line, styled=False)]
        for line in lines
    )
    return "".join(f"{line}\n" for text in texts for line in text)


def arm_result(**changes: Any) -> ArmResult:
    return replace(ArmResult(arm="v2", control="v1", verdict=VERDICT, effects=()), **changes)


def comparison(*results: ArmResult, **changes: Any) -> Comparison:
    base = Comparison(
        experiment=factories.experiment(),
        begins_at=None,
        ends_at=None,
        outcomes=0,
        arms=(CONTROL,),
        checks=(),
        answers=results,
    )
    return replace(base, **changes)


def row(text: str, name: str) -> list[str]:
    """The cells of the only row that starts with `name`."""
    (line,) = (line for line in text.splitlines() if line.startswith(name + " "))
    return line.removeprefix(name).split()


def cluster(number: int, *, low: float | None = -1.0, high: float | None = 1.0) -> ClusterDifference:
    return ClusterDifference(
        cluster=f"film-{number:03}",
        segments=30,
        control_mean=60.0,
        arm_mean=60.0 + number,
        difference=float(number),
        low=low,
        high=high,
    )


def rail(**changes: Any) -> GuardrailResult:
    base = GuardrailResult(
        name="bitrate",
        of="bitrate_kbps",
        margin=5.0,
        worse="higher",
        state="open",
        control_mean=4000.0,
        arm_mean=None,
        difference=None,
        bound=None,
    )
    return replace(base, **changes)


def test_the_question_and_the_span_of_the_media_come_first() -> None:
    lines = list(
        comparison_lines(
            comparison(
                arm_result(),
                experiment=factories.experiment(question="Is v2 [new] better?"),
                begins_at=START,
                ends_at=START.replace(hour=22, minute=5),
                outcomes=12345,
            )
        )
    )
    text = printed(lines).splitlines()
    assert text[0] == "Is v2 [new] better?"
    assert text[1] == "12,345 outcomes, 2026-11-20 20:00 to 2026-11-20 22:05 UTC on the media timeline"


@pytest.mark.parametrize("ends", [{"begins_at": START}, {"ends_at": START}, {}])
def test_without_question_and_span_the_verdict_comes_first(ends: dict[str, Any]) -> None:
    text = printed(comparison_lines(comparison(arm_result(), **ends)))
    assert text.splitlines()[:2] == ["", VERDICT.sentence]
    assert "timeline" not in text


@pytest.mark.parametrize("kind", get_args(VerdictKind))
def test_every_kind_of_verdict_has_a_colour(kind: VerdictKind) -> None:
    lines = comparison_lines(comparison(arm_result(verdict=replace(VERDICT, kind=kind))))
    line = [line for line in lines if isinstance(line, str)][1]
    assert line.startswith("[bold ")
    assert printed([line]) == VERDICT.sentence + "\n"


def test_better_and_worse_verdicts_differ_in_colour() -> None:
    colours = {
        kind: list(comparison_lines(comparison(arm_result(verdict=replace(VERDICT, kind=kind)))))[1]
        for kind in ("better", "worse")
    }
    assert str(colours["better"]).startswith("[bold green]")
    assert str(colours["worse"]).startswith("[bold red]")


def test_reasons_and_the_next_step_follow_the_verdict_and_their_brackets_stay() -> None:
    verdict = replace(VERDICT, reasons=("too few [red] clusters", "one guardrail is open"), next_step="Wait for [12].")
    text = printed(comparison_lines(comparison(arm_result(verdict=verdict)))).splitlines()
    assert text[2:5] == ["  · too few [red] clusters", "  · one guardrail is open", "  → Wait for [12]."]
    assert "→" not in printed(comparison_lines(comparison(arm_result())))


def test_the_interval_that_decides_is_marked() -> None:
    text = printed(comparison_lines(comparison(arm_result(effects=(EFFECT,)))))
    assert "by lite@1" in text
    assert row(text, "any-time") == ["+1.90", "-0.25", "+4.05", "←", "read"]
    assert row(text, "final (t)") == ["+1.90", "+1.10", "+2.70"]
    assert "bootstrap" not in text
    assert "with covariates" not in text


def test_only_the_tests_that_were_made_have_a_p_value() -> None:
    text = printed(comparison_lines(comparison(arm_result(effects=(EFFECT,)))))
    assert row(text, "p") == ["t", "0.012"]
    all_tests = replace(EFFECT, p_anytime=0.2, p_sign_flip=0.0, p_wilcoxon=1e-7)
    text = printed(comparison_lines(comparison(arm_result(effects=(all_tests,)))))
    assert " ".join(row(text, "p")) == "any-time 0.2, t 0.012, sign-flip 0, Wilcoxon 1e-07"


def test_an_effect_with_too_few_clusters_for_a_test_has_no_table() -> None:
    text = printed(comparison_lines(comparison(arm_result(effects=(replace(EFFECT, p_t=None),)))))
    assert "by lite@1" not in text


def test_the_share_of_clusters_ahead_is_in_percent() -> None:
    effect = replace(EFFECT, win_rate=0.75, win_low=0.468, win_high=0.911)
    text = printed(comparison_lines(comparison(arm_result(effects=(effect,)))))
    assert " ".join(row(text, "ahead in")) == "75% of clusters (47% to 91%)"


def test_a_short_list_of_clusters_is_shown_whole() -> None:
    clusters = tuple(cluster(number) for number in range(-6, 6))
    text = printed(comparison_lines(comparison(arm_result(effects=(replace(EFFECT, by_cluster=clusters),)))))
    assert text.count("film-") == 12
    assert "--html and --json" not in text


def test_a_long_list_of_clusters_shows_the_worst_and_the_best() -> None:
    clusters = tuple(cluster(number) for number in range(100, 113))
    effect = replace(EFFECT, clusters=13, by_cluster=clusters)
    text = printed(comparison_lines(comparison(arm_result(effects=(effect,)))))
    names = [line.split()[0] for line in text.splitlines() if line.startswith("film-")]
    assert names == [f"film-{number}" for number in (*range(100, 106), *range(107, 113))]
    assert "the worst and the best of 13;" in text


@pytest.mark.parametrize("bounds", [{"low": None}, {"high": None}, {"low": None, "high": None}])
def test_a_cluster_without_an_interval_has_a_difference_only(bounds: dict[str, None]) -> None:
    effect = replace(EFFECT, by_cluster=(cluster(2), cluster(3, **bounds)))
    text = printed(comparison_lines(comparison(arm_result(effects=(effect,)))))
    assert row(text, "film-002") == ["30", "+2.00", "-1.00", "+1.00"]
    assert row(text, "film-003") == ["30", "+3.00"]


def test_only_the_first_scorer_lists_its_clusters() -> None:
    second = replace(EFFECT, scorer="owl@1", by_cluster=(cluster(1),))
    text = printed(comparison_lines(comparison(arm_result(effects=(EFFECT, second)))))
    assert "by owl@1" in text
    assert "film-001" not in text


def test_a_guardrail_without_means_shows_dashes() -> None:
    held = rail(name="noise", state="held", control_mean=0.1, arm_mean=0.1234, difference=0.0234, margin=0.05)
    text = printed(comparison_lines(comparison(arm_result(guardrails=(rail(), held)))))
    assert row(text, "bitrate") == ["4e+03", "–", "–", "5", "open"]
    assert row(text, "noise") == ["0.1", "0.123", "0.0234", "0.05", "held"]


def test_a_signal_differs_only_above_its_limit_in_either_direction() -> None:
    signals = (
        SignalDifference(signal="over_sharpened", control_mean=0.5, arm_mean=0.25, limit=0.2),
        SignalDifference(signal="grain", control_mean=0.25, arm_mean=0.5, limit=0.25),
    )
    text = printed(comparison_lines(comparison(arm_result(looks=signals))))
    assert row(text, "over sharpened") == ["0.5", "0.25", "-0.25", "0.2", "differs:", "look", "at", "the", "pictures"]
    assert "must hold" not in text
    assert row(text, "grain") == ["0.25", "0.5", "0.25", "0.25", "similar"]


def test_neither_guardrails_nor_signals_mean_no_table_of_them() -> None:
    assert "must hold" not in printed(comparison_lines(comparison(arm_result())))


def test_votes_of_people_name_both_arms() -> None:
    people = VoteTally(
        votes=31,
        voters=4,
        left_out=2,
        clusters_for_arm=9,
        clusters_for_control=1,
        clusters_tied=2,
        p=0.0214,
        share=0.83,
        low=0.5,
        high=0.95,
        says="arm",
    )
    text = printed(comparison_lines(comparison(arm_result(people=people))))
    assert "people: 31 votes by 4; 9 clusters for v2, 1 for v1, 2 tied, p 0.021" in text


def test_an_arm_that_costs_nothing_known_shows_dashes() -> None:
    paid = replace(
        CONTROL,
        arm="v2",
        role="arm",
        bitrate_kbps=2500.0,
        points_per_mbps=24.5,
        gpu_seconds_per_second=0.125,
        points_per_gpu_second=490.0,
    )
    empty = replace(CONTROL, arm="v3", role="arm", scored=0, unscored=9, mean={})
    text = printed(comparison_lines(comparison(arm_result(), arms=(CONTROL, paid, empty))))
    assert row(text, "v1 control") == ["61.2", "360", "2", "–", "–", "–", "–"]
    assert row(text, "v2 arm") == ["61.2", "360", "2", "2.5", "24.5", "0.125", "490"]
    assert row(text, "v3 arm") == ["–", "0", "9", "–", "–", "–", "–"]


def test_checks_of_the_experiment_come_before_those_of_its_arms() -> None:
    good = HealthCheck(name="sample ratio", is_good=True, weight="blocks", text="12 [of] 12")
    bad = HealthCheck(name="missing pairs", is_good=False, weight="look", text="9 % are missing", remedy="See [why].")
    text = printed(comparison_lines(comparison(arm_result(checks=(bad,)), checks=(good,)))).splitlines()
    assert text[-2:] == ["✓ sample ratio: 12 [of] 12", "✗ missing pairs: 9 % are missing → See [why]."]


def test_an_analysed_trial_shows_its_verdict_scorer_and_both_arms() -> None:
    result = factories.comparison(
        experiment=factories.experiment(), outcomes=factories.paired_events(streams=8, segments=3, gain=8.0)
    )
    text = printed(comparison_lines(result))
    assert factories.first_result(result).verdict.sentence in text
    assert "48 outcomes, 2026-11-20 20:00 to 2026-11-20 20:00 UTC" in text
    assert row(text, "v2 arm")[1:3] == ["24", "0"]
    assert sum(line.startswith("film-") for line in text.splitlines()) == 8


def test_a_plan_counts_clusters_and_segments() -> None:
    text = printed(plan_lines(ASSUMPTIONS, PLAN)).splitlines()
    assert text[0] == "To detect 1.25 points with 80% power at alpha 0.05:"
    assert text[1].startswith("  1,234 clusters of 30 segments when you look at any time")
    assert text[1].endswith(": 37,020 segments")
    assert text[2] == "  43 clusters of 30 segments when you look once, at the end: 1,290 segments"
    assert text[3].startswith("A cluster's mean has s.d. 2.84; the design effect is 9.7:")


def test_a_plan_of_several_hypotheses_and_guardrails_says_the_power_of_each_test() -> None:
    text = printed(plan_lines(replace(ASSUMPTIONS, hypotheses=3, guardrails=2), replace(PLAN, power=0.9)))
    assert text.startswith("To detect 1.25 points with 90% power at alpha 0.05 for each of 3 hypotheses:\n")


@pytest.mark.parametrize(("clusters", "shown"), [(MAX_CLUSTERS - 1, "999,999"), (MAX_CLUSTERS, "more than a million")])
def test_a_plan_out_of_reach_is_more_than_a_million_clusters(clusters: int, shown: str) -> None:
    text = printed(plan_lines(ASSUMPTIONS, replace(PLAN, clusters_anytime=clusters)))
    assert f"\n  {shown} clusters of 30 segments when you look at any time" in text
