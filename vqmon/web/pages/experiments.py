"""The experiments: all of them with their verdicts, and one with everything that its verdict rests on."""

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from vqmon.core.experiments.definition import Experiment
from vqmon.core.experiments.human_review import PairExample
from vqmon.core.experiments.results import ArmResult, Comparison, Effect, HealthCheck
from vqmon.web.addresses import experiment_path, pair_path, unquote_stream, with_query
from vqmon.web.charts.experiments import distribution_plot, forest, interval_plot, interval_sentence, scorers_in
from vqmon.web.pages.frame_pairs import Shot, pictures_of, shots_of, side_of
from vqmon.web.site import Site

SHAPES = {
    "better": "good",
    "worse": "failing",
    "not worse": "good",
    "equivalent": "equal",
    "undecided": "stale",
    "needs human look": "look",
}
"""Verdict -> the shape and colour that it is shown with."""

RAILS = {"held": "good", "broken": "failing", "open": "stale"}
TOLD_PAIRS = 6
TOLD_MISSING = 12
TABLE_LINES = 100


def experiments(site: Site, request: Request) -> Response:
    """Answer `/experiments`."""
    items = [
        {"it": it, "answer": site.answers.answer(it.name), "url": experiment_path(it.name)}
        for it in site.answers.experiments()
    ]
    return site.page("experiments.html", request, items=items, problem=site.answers.problem, shapes=SHAPES)


def experiment(site: Site, request: Request) -> Response:
    """Answer `/experiments/{name}`."""
    it = experiment_asked(site, request)
    answer = site.answers.answer(it.name)
    page = experiment_path(it.name)
    about: dict[str, Any] = {"told": None, "comparison": None}
    if answer.comparison:
        about |= _about(site, answer.comparison, it, request.query_params)
    return site.page(
        "experiment.html",
        request,
        it=it,
        answer=answer,
        page=page,
        shapes=SHAPES,
        api=f"/api{page}",
        settings=settings_of(it),
        **about,
    )


def experiment_asked(site: Site, request: Request) -> Experiment:
    """The experiment that the path names; raises 404."""
    name = unquote_stream(request.path_params["name"])
    for it in site.answers.experiments():
        if it.name == name:
            return it
    raise HTTPException(404, "There is no experiment of that name; `experiments.path` names the file they stand in.")


def chosen(comparison: Comparison, arm: str | None) -> ArmResult | None:
    """The answer about the arm asked for, else about the first one."""
    return comparison.result_of(arm or "") or next(iter(comparison.answers), None)


def _about(site: Site, comparison: Comparison, it: Experiment, query: Mapping[str, str]) -> dict[str, object]:
    told = chosen(comparison, query.get("arm"))
    if told is None:
        return {"comparison": comparison}
    effect = effect_asked(told, query.get("scorer"))
    names = (told.arm, told.control)
    url = experiment_path(it.name)
    arms = [arm for arm in comparison.arms if arm.arm in (*names, it.input_arm)]
    scorers = scorers_in(arms)
    scorer = effect.scorer if effect and effect.scorer in scorers else next(iter(scorers), "")
    return {
        "comparison": comparison,
        "told": told,
        "effect": effect,
        "scorers": [
            {
                "label": one.scorer,
                "url": with_query(url, arm=told.arm, scorer=one.scorer),
                "is_current": one is effect,
            }
            for one in told.effects
        ],
        "arm_urls": {one.arm: with_query(url, arm=one.arm) for one in comparison.answers},
        "interval": interval_plot(effect, it, names) if effect else None,
        "interval_words": interval_sentence(effect, it, names) if effect else "",
        "forest": forest(effect) if effect else None,
        "distribution": distribution_plot(arms, scorer),
        "distribution_arms": [arm.arm for arm in arms],
        "checks": all_checks(comparison.checks, told.checks),
        "rails": RAILS,
        "groups": _groups(told, url),
        "first": _first(site, told),
        "missing": told.missing[:TOLD_MISSING],
        "review_url": experiment_path(it.name, told.arm, "review"),
        "review_count": len(told.pairs_with_role("review")),
        "table_lines": TABLE_LINES,
    }


def effect_asked(told: ArmResult, scorer: str | None) -> Effect | None:
    """The effect by the scorer asked for, else by the first one."""
    return next((one for one in told.effects if one.scorer == scorer), next(iter(told.effects), None))


def all_checks(*groups: Sequence[HealthCheck]) -> list[HealthCheck]:
    """What is wrong first, and of that what weighs most."""
    weights = ("blocks", "look", "notes")
    return sorted((check for group in groups for check in group), key=lambda it: (it.is_good, weights.index(it.weight)))


def _groups(told: ArmResult, url: str) -> list[dict[str, object]]:
    back = with_query(url, arm=told.arm)
    named = (("worst", f"Where {told.arm} loses most"), ("best", f"Where {told.arm} gains most"))
    return [
        {"title": title, "pairs": [_pair(it, back) for it in told.pairs if it.role == role][:TOLD_PAIRS]}
        for role, title in named
    ]


def _pair(it: PairExample, back: str) -> dict[str, object]:
    return {"it": it, "url": with_query(pair_path(it.control_event_id, it.arm_event_id), **{"from": back})}


def _first(site: Site, told: ArmResult) -> dict[str, object] | None:
    """The worst pair that has pictures, to be looked at right here."""
    for it in told.pairs_with_role("worst")[:TOLD_PAIRS]:
        pair_id = f"{it.control_event_id}:{it.arm_event_id}"
        found = [site.history.outcome(event_id) for event_id in pair_id.split(":")]
        if found[0] is None or found[1] is None or not pictures_of(site, it.control_event_id, found[0]):
            continue
        shots: list[Shot] = shots_of(pair_id, side_of(site, found[0]), side_of(site, found[1]))
        if shots:
            return {"it": it, "shots": shots}
    return None


def settings_of(it: Experiment) -> list[tuple[str, str]]:
    """What was decided before the first look."""
    facts = [
        ("Design", {"paired": "paired on the same source segment"}.get(it.design, it.design)),
        ("Unit of analysis", it.cluster if it.cluster != "block" else f"blocks of {it.block_seconds / 60:g} min"),
        ("Planned clusters", str(it.planned_clusters)),
        ("Wrong winners accepted", f"{100 * it.alpha:g} %"),
        ("A loss that does not matter", f"up to {it.margin:g} points"),
        ("Smallest gain worth anything", f"{it.delta_min:g} points"),
        ("Scorers", ", ".join(it.scorers)),
        ("Streams", ", ".join(it.streams)),
    ]
    if it.since or it.until:
        span = [f"{at:%d %b %Y %H:%M}" if at else "…" for at in (it.since, it.until)]
        facts.append(("Time", " to ".join(span)))
    return facts
