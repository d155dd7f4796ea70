"""Reads the rules file: TOML text becomes checked alert rules, and an error names the file, the rule and the key."""

import difflib
import json
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from datetime import UTC, time
from fnmatch import fnmatchcase
from typing import Annotated, Any, TypeVar, get_origin, get_type_hints

from pydantic import AwareDatetime, BaseModel, BeforeValidator, Field, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from vqmon.core.alerts.annotations import Mask
from vqmon.core.alerts.conditions.base import Condition
from vqmon.core.alerts.conditions.group import Group
from vqmon.core.alerts.conditions.regression import Regression
from vqmon.core.alerts.rules import CONDITIONS, AlertRule, Match
from vqmon.core.scores import reference_subject
from vqmon.core.types import SIGNALS, Severity
from vqmon.errors import SettingsError
from vqmon.media.reference.measures.offered import ALONE_MEASURES, REFERENCE_MEASURES
from vqmon.settings.problems import collect_problems, parse_each


class _RuleKeys(BaseModel):
    """The keys that rules of every kind have."""

    severity: Severity = "ticket"
    enabled: bool = True
    min_open_seconds: float = 0.0
    mask_ad_breaks: bool = False


class _MaskKeys(BaseModel):
    """One table [masks.NAME]."""

    excuses: tuple[str, ...] = Field(default=("*",), min_length=1)
    stream: tuple[str, ...] = Field(default=("*",), min_length=1)
    rendition: tuple[str, ...] = Field(default=("*",), min_length=1)
    begins_at: AwareDatetime | None = Field(default=None, alias="from")
    ends_at: AwareDatetime | None = Field(default=None, alias="until")
    daily_from: Annotated[time, BeforeValidator(lambda value: _time_of_day(value))] | None = None
    daily_until: Annotated[time, BeforeValidator(lambda value: _time_of_day(value))] | None = None


_FILE_KEYS = ("rules", "masks")
_COMMON_KEYS = ("kind", "match", *_RuleKeys.model_fields)
_MASK_KEYS = tuple(field.alias or name for name, field in _MaskKeys.model_fields.items())
_CONDITIONS: Mapping[str, TypeAdapter[Condition]] = {
    kind: TypeAdapter(condition) for kind, condition in CONDITIONS.items()
}
_MATCH = TypeAdapter(Match)
_RULE = TypeAdapter(_RuleKeys)
_MASK = TypeAdapter(_MaskKeys)

_Parsed = TypeVar("_Parsed")


def parse_rules(
    text: str,
    *,
    origin: str = "rules.toml",
    scorers: Collection[str] | None = None,
    learned_measures: Collection[str] = (),
    noise: Mapping[str, float] | None = None,
) -> tuple[AlertRule, ...]:
    """Parse rules from TOML: one table `[rules.NAME]` each, whose `kind` decides its other keys.

    With `scorers` (name@version) a rule about a scorer that is none of them is refused. `learned_measures` are the
    names, or name@version, of reference measures besides those that come with vqmon. `noise` is the standard deviation
    of the noise of scorers (name@version) in points, from which regression rules that state no `delta_min` take theirs;
    groups take that of their rule. Raises SettingsError naming file, wrong rules and keys, and the nearest valid one.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{origin}: {error}") from error
    problems = _unknown_keys(document, _FILE_KEYS, origin)
    tables = document.get("rules", {})
    if not isinstance(tables, dict):
        problems.append(f"{origin}: rules: must be tables like [rules.low-score], got {tables!r}")
        tables = {}
    measures = (*{**REFERENCE_MEASURES, **ALONE_MEASURES}, *(name.partition("@")[0] for name in learned_measures))
    rules: list[AlertRule] = []
    wrong: list[str] = []
    for name, table in tables.items():
        where = f"{origin}: rule {name!r}"
        known = len(problems)
        with collect_problems(problems):
            rule, is_enabled = _parse_rule(name, table, where)
            rules += [rule] if is_enabled else []
        problems += _unknown_subjects(table, scorers, measures, where)
        wrong += [name] if len(problems) > known else []
    problems += _groups_without_rule(rules, tables, origin)
    rules = _with_noise(rules, tables, noise or {})
    masks: tuple[Mask, ...] = ()
    with collect_problems(problems):
        # masks may excuse what a rule that is wrong will be
        names = {name for rule in rules for name in (rule.name, *rule.condition.mask_names)}
        names |= {text for name in wrong for text in (name, str(_key_of(tables[name], "kind")))}
        masks = _parse_masks(document.get("masks", {}), names | set(SIGNALS), origin)
    if problems:
        raise SettingsError("\n".join(problems))
    return tuple(replace(rule, masks=_masks_of(rule, masks)) for rule in rules)


def _key_of(table: object, key: str) -> object:
    """The value of a key of what should be a table; "" when there is none."""
    return table.get(key, "") if isinstance(table, dict) else ""


def _parse_rule(name: str, table: Any, where: str) -> tuple[AlertRule, bool]:
    """A rule, and whether it is enabled. With a wrong `kind` its other keys are read as those of the nearest kind."""
    if not isinstance(table, dict):
        raise SettingsError(f"{where}: must be a table, got {table!r}")
    problems: list[str] = []
    kind = str(table.get("kind", ""))
    if kind not in CONDITIONS:
        problems.append(f"{where}: kind: {_suggestion(kind, CONDITIONS)}")
        kind = _nearest(kind, CONDITIONS)
    with collect_problems(problems):
        condition = _parse_condition(kind, table, where) if kind else None
    with collect_problems(problems):
        match = _parse_match(table.get("match", {}), where)
    with collect_problems(problems):
        common_table = {key: value for key, value in table.items() if key in _RuleKeys.model_fields}
        common = _validate(_RULE, common_table, _RuleKeys, f"{where}: ")
    if problems or condition is None:
        raise SettingsError("\n".join(problems))
    try:
        rule = AlertRule(
            name=name,
            severity=common.severity,
            condition=condition,
            match=match,
            min_open_seconds=common.min_open_seconds,
            mask_ad_breaks=common.mask_ad_breaks,
        )
    except ValueError as error:
        raise SettingsError(f"{where}: {error}") from error
    return rule, common.enabled


def _parse_condition(kind: str, table: Mapping[str, Any], where: str) -> Condition:
    """The condition of a rule, from the keys that rules of its kind alone have."""
    condition_type = CONDITIONS[kind]
    keys = _field_names(condition_type)
    own = {key: value for key, value in table.items() if key not in _COMMON_KEYS}
    removed = [key for key in own if key in condition_type.removed_keys and key not in keys]
    problems = [f"{where}: {key}: there is no such key any more; {condition_type.removed_keys[key]}" for key in removed]
    problems += _unknown_keys([key for key in own if key not in removed], (*keys, *_COMMON_KEYS), where)
    # a key that is there, misspelled, is not missing as well
    misspelled = {_nearest(key, keys) for key in own if key not in keys}
    known = {key: value for key, value in own.items() if key in keys}
    return _validate(_CONDITIONS[kind], known, condition_type, f"{where}: ", problems=problems, misspelled=misspelled)


def _parse_match(table: Any, where: str) -> Match:
    """The streams that a rule is about."""
    if not isinstance(table, dict):
        raise SettingsError(f"{where}: match: {table!r} is not a table")
    names = _field_names(Match)
    problems = _unknown_keys(table, names, f"{where}: match")
    known = {key: value for key, value in table.items() if key in names}
    return _validate(_MATCH, known, Match, f"{where}: match.", problems=problems)


def _unknown_subjects(
    table: object, scorers: Collection[str] | None, measures: Collection[str], where: str
) -> Iterator[str]:
    """What is wrong with the scorer or the measure that a rule names; with None any scorer may be."""
    scorer, measure = _key_of(table, "scorer"), _key_of(table, "measure")
    if scorers is not None and scorer and isinstance(scorer, str):
        yield from _unknown_scorer(scorer, scorers, measures, where)
    if measure and isinstance(measure, str) and measure not in measures:
        yield f"{where}: measure: {_suggestion(measure, measures)}"


def _groups_without_rule(rules: Iterable[AlertRule], tables: Collection[str], origin: str) -> Iterator[str]:
    """A group needs a rule whose series it takes together; if that rule is disabled the group stays without series."""
    enabled = [rule.name for rule in rules]
    candidates = [rule.name for rule in rules if rule.condition.has_groups]
    for rule in rules:
        member_rule = rule.condition.member_rule
        # or what is wrong with it is said already
        is_disabled = member_rule in tables and member_rule not in enabled
        if member_rule and member_rule not in candidates and not is_disabled:
            problem = _suggestion(member_rule, candidates)
            yield f"{origin}: rule {rule.name!r}: of: no regression rule {problem}"


def _with_noise(rules: Iterable[AlertRule], tables: Mapping[str, Any], noise: Mapping[str, float]) -> list[AlertRule]:
    """The rules, with `delta_min` of the noisiest scorer that each is about where its table has none."""
    by_name = {rule.name: rule for rule in rules}
    for name, rule in by_name.items():
        if isinstance(rule.condition, Regression) and "delta_min" not in tables[name]:
            deviations = [deviation for scorer, deviation in noise.items() if _is_about(rule.condition, scorer)]
            if deviations:
                by_name[name] = replace(rule, condition=rule.condition.with_noise(max(deviations)))
    for name, rule in by_name.items():
        members = by_name.get(rule.condition.member_rule)
        if isinstance(rule.condition, Group) and "delta_min" not in tables[name] and members is not None:
            assert isinstance(members.condition, Regression)
            by_name[name] = replace(rule, condition=replace(rule.condition, delta_min=members.condition.delta_min))
    return list(by_name.values())


def _is_about(condition: Regression, scorer: str) -> bool:
    return any(fnmatchcase(name, condition.scorer) for name in (scorer, scorer.split("@")[0]))


def _parse_masks(tables: Any, names: Collection[str], origin: str) -> tuple[Mask, ...]:
    """The tables [masks.NAME]; each glob of `excuses` must match a name of a rule, a kind of rule, or a signal."""
    if not isinstance(tables, dict):
        raise SettingsError(f"{origin}: masks: must be tables like [masks.night], got {tables!r}")
    return tuple(parse_each(tables, lambda name, table: _parse_mask(name, table, names, f"{origin}: mask {name!r}")))


def _parse_mask(name: str, table: Any, names: Collection[str], where: str) -> Mask:
    if not isinstance(table, dict):
        raise SettingsError(f"{where}: must be a table, got {table!r}")
    problems = _unknown_keys(table, _MASK_KEYS, where)
    globs = table.get("excuses", ())
    for glob in [globs] if isinstance(globs, str) else globs if isinstance(globs, list) else ():
        if isinstance(glob, str) and not any(fnmatchcase(candidate, glob) for candidate in names):
            problems.append(f"{where}: excuses: no rule, kind of rule or signal {_suggestion(glob, names)}")
    known = {key: value for key, value in table.items() if key in _MASK_KEYS}
    keys = _validate(_MASK, known, _MaskKeys, f"{where}: ", problems=problems)
    try:
        return Mask(
            name=name,
            excuses=keys.excuses,
            stream=keys.stream,
            rendition=keys.rendition,
            begins_at=keys.begins_at.astimezone(UTC) if keys.begins_at else None,
            ends_at=keys.ends_at.astimezone(UTC) if keys.ends_at else None,
            daily_from=keys.daily_from,
            daily_until=keys.daily_until,
        )
    except ValueError as error:
        raise SettingsError(f"{where}: {error}") from error


def _masks_of(rule: AlertRule, masks: Iterable[Mask]) -> tuple[Mask, ...]:
    return tuple(mask for mask in masks if mask.excuses_any(rule.name, *rule.condition.mask_names))


def _time_of_day(value: object) -> object:
    """TOML has times of day of its own; a text like "02:30" is taken too."""
    return time.fromisoformat(value) if isinstance(value, str) else value


def _field_names(owner: type) -> tuple[str, ...]:
    return tuple(field.name for field in fields(owner)) if is_dataclass(owner) else ()


def _validate(
    adapter: TypeAdapter[_Parsed],
    table: Mapping[str, Any],
    owner: type,
    where: str,
    *,
    problems: Sequence[str] = (),
    misspelled: Collection[str] = (),
) -> _Parsed:
    """The table as an `owner`, whose fields that are tuples take a single text too.

    Strict, as TOML has types of its own: a text is no number. By way of JSON, as strict validation takes a dataclass
    from Python objects only when it is one already. Raises SettingsError, also for `problems` that were found before;
    `where` leads to the table, and keys that are `misspelled` are not said to be missing.
    """
    hints = get_type_hints(owner)
    table = {
        key: [value] if isinstance(value, str) and get_origin(hints.get(key)) is tuple else value
        for key, value in table.items()
    }
    try:
        parsed = adapter.validate_json(json.dumps(table, default=str), strict=True)
    except ValidationError as error:
        found = [
            f"{where}{_explanation(problem)}"
            for problem in error.errors(include_url=False)
            if not (problem["type"] == "missing" and problem["loc"][0] in misspelled)
        ]
        raise SettingsError("\n".join(dict.fromkeys([*problems, *found]))) from error
    if problems:
        raise SettingsError("\n".join(problems))
    return parsed


_EXPECTED = {
    "bool": "true or false",
    "dataclass": "table",
    "dict": "table",
    "float": "number",
    "int": "whole number",
    "mapping": "table",
    "string": "text",
}
"""First word of a pydantic error -> the type that was expected, in the words of TOML."""


def _explanation(problem: ErrorDetails) -> str:
    """Key, and what is wrong with its value."""
    kind, value = problem["type"], problem["input"]
    key = str(problem["loc"][0]) if problem["loc"] else ""
    first = kind.partition("_")[0]
    if kind == "missing":
        return f"{key}: is missing; this kind of rule needs it"
    if kind == "literal_error":
        choices = str(problem["ctx"]["expected"]).replace(" or ", ", ").replace("''", "(none)").replace("'", "")
        return f"{key}: unknown {value!r}; known: {choices}"
    if key.startswith("daily_"):
        return f'{key}: must be a time of day (UTC), like "02:30", got {value!r}'
    if first in ("datetime", "timezone", "date"):
        return f"{key}: must be a moment with its zone, like 2026-11-20T20:00:00Z, got {value!r}"
    if first in ("tuple", "too"):
        return f"{key}: must be a text or a list of texts, got {value!r}"
    if kind == "value_error":
        message = str(problem["ctx"]["error"])
        return f"{key}: {message}" if key else message
    return f"{key}: {value!r} is not {_article(_EXPECTED.get(first, 'value of the right type'))}"


def _article(noun: str) -> str:
    return noun if noun == "true or false" else f"a {noun}"


def _unknown_keys(table: Iterable[str], keys: Collection[str], where: str) -> list[str]:
    return [f"{where}: unknown key {_suggestion(key, keys)}" for key in table if key not in keys]


def _unknown_scorer(pattern: str, scorers: Collection[str], measures: Collection[str], where: str) -> Iterator[str]:
    names = [name for scorer in scorers for name in (scorer, scorer.split("@")[0])]
    names += [reference_subject(measure) for measure in measures]
    if not any(fnmatchcase(name, pattern) for name in names):
        meant = reference_subject(pattern)
        suggestion = f"{pattern!r}; did you mean {meant!r}?" if meant in names else _suggestion(pattern, names)
        yield f"{where}: scorer: {suggestion}"


def _nearest(text: str, candidates: Iterable[str]) -> str:
    """The candidate that was probably meant; "" when none is near."""
    return next(iter(difflib.get_close_matches(text, sorted(set(candidates)), n=1, cutoff=0.6)), "")


def _suggestion(text: str, candidates: Iterable[str]) -> str:
    """The text, and the candidate that was probably meant, else all of them."""
    candidates = sorted(set(candidates))
    near = _nearest(text, candidates)
    return f"{text!r}; did you mean {near!r}?" if near else f"{text!r}; known: {', '.join(candidates)}"
