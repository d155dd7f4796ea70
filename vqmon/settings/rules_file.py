"""Reads the rules file: TOML text becomes checked alert rules, and an error names the file, the rule and the key."""

import difflib
import json
import tomllib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import fields, is_dataclass, replace
from datetime import UTC, time
from fnmatch import fnmatchcase
from typing import Annotated, Any, TypeVar, get_origin, get_type_hints

from pydantic import AwareDatetime, BaseModel, BeforeValidator, Field, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from vqmon.core.alerts.annotations import Mask
from vqmon.core.alerts.conditions.base import Condition
from vqmon.core.alerts.conditions.group import Group
from vqmon.core.alerts.conditions.reference import ReferenceLimit
from vqmon.core.alerts.conditions.regression import Regression
from vqmon.core.alerts.rules import CONDITIONS, AlertRule, Match
from vqmon.core.scores import reference_subject
from vqmon.core.types import SIGNALS, Severity
from vqmon.errors import SettingsError
from vqmon.media.reference.measures.offered import ALONE_MEASURES, REFERENCE_MEASURES
from vqmon.settings.problems import parse_each


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
    _refuse_unknown(document, _FILE_KEYS, origin)
    tables = document.get("rules", {})
    if not isinstance(tables, dict):
        raise SettingsError(f"{origin}: rules: must be tables like [rules.low-score], got {tables!r}")
    measures = (*{**REFERENCE_MEASURES, **ALONE_MEASURES}, *(name.partition("@")[0] for name in learned_measures))

    def parse(name: str, table: object) -> tuple[AlertRule, bool]:
        where = f"{origin}: rule {name!r}"
        rule, is_enabled = _parse_rule(name, table, where)
        if scorers is not None and rule.condition.scorer_pattern:
            _refuse_unknown_scorer(rule.condition.scorer_pattern, scorers, measures, where)
        if isinstance(rule.condition, ReferenceLimit) and rule.condition.measure not in measures:
            raise SettingsError(f"{where}: measure: {_suggestion(rule.condition.measure, measures)}")
        return rule, is_enabled

    rules = [rule for rule, is_enabled in parse_each(tables, parse) if is_enabled]
    _refuse_groups_without_rule(rules, tables, origin)
    rules = _with_noise(rules, tables, noise or {})
    masks = _parse_masks(document.get("masks", {}), rules, origin)
    return tuple(replace(rule, masks=_masks_of(rule, masks)) for rule in rules)


def _parse_rule(name: str, table: Any, where: str) -> tuple[AlertRule, bool]:
    """A rule, and whether it is enabled."""
    if not isinstance(table, dict):
        raise SettingsError(f"{where}: must be a table, got {table!r}")
    kind = str(table.get("kind", ""))
    if kind not in CONDITIONS:
        raise SettingsError(f"{where}: kind: {_suggestion(kind, CONDITIONS)}")
    condition_type = CONDITIONS[kind]
    condition_keys = _field_names(condition_type)
    condition_table = {key: value for key, value in table.items() if key not in _COMMON_KEYS}
    for key in condition_table:
        if key in condition_type.removed_keys and key not in condition_keys:
            raise SettingsError(f"{where}: {key}: there is no such key any more; {condition_type.removed_keys[key]}")
    _refuse_unknown(condition_table, (*condition_keys, *_COMMON_KEYS), where)
    match_table = table.get("match", {})
    if not isinstance(match_table, dict):
        raise SettingsError(f"{where}: match: {match_table!r} is not a table")
    _refuse_unknown(match_table, _field_names(Match), f"{where}: match")
    condition = _validate(_CONDITIONS[kind], condition_table, condition_type, f"{where}: ")
    match = _validate(_MATCH, match_table, Match, f"{where}: match.")
    common_table = {key: value for key, value in table.items() if key in _RuleKeys.model_fields}
    common = _validate(_RULE, common_table, _RuleKeys, f"{where}: ")
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


def _refuse_groups_without_rule(rules: Iterable[AlertRule], tables: Iterable[str], origin: str) -> None:
    """A group needs a rule whose series it takes together; if that rule is disabled the group stays without series."""
    enabled = [rule.name for rule in rules]
    candidates = [rule.name for rule in rules if rule.condition.has_groups]
    for rule in rules:
        member_rule = rule.condition.member_rule
        is_disabled = member_rule in tables and member_rule not in enabled
        if member_rule and member_rule not in candidates and not is_disabled:
            problem = _suggestion(member_rule, candidates)
            raise SettingsError(f"{origin}: rule {rule.name!r}: of: no regression rule {problem}")


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


def _parse_masks(tables: Any, rules: Iterable[AlertRule], origin: str) -> tuple[Mask, ...]:
    """The tables [masks.NAME]; each glob of `excuses` must match a rule, a kind of rule, or a signal."""
    if not isinstance(tables, dict):
        raise SettingsError(f"{origin}: masks: must be tables like [masks.night], got {tables!r}")
    names = {name for rule in rules for name in (rule.name, *rule.condition.mask_names)} | set(SIGNALS)
    return tuple(parse_each(tables, lambda name, table: _parse_mask(name, table, names, f"{origin}: mask {name!r}")))


def _parse_mask(name: str, table: Any, names: Collection[str], where: str) -> Mask:
    if not isinstance(table, dict):
        raise SettingsError(f"{where}: must be a table, got {table!r}")
    _refuse_unknown(table, _MASK_KEYS, where)
    keys = _validate(_MASK, table, _MaskKeys, f"{where}: ")
    for glob in keys.excuses:
        if not any(fnmatchcase(candidate, glob) for candidate in names):
            raise SettingsError(f"{where}: excuses: no rule, kind of rule or signal {_suggestion(glob, names)}")
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


def _validate(adapter: TypeAdapter[_Parsed], table: Mapping[str, Any], owner: type, where: str) -> _Parsed:
    """The table as an `owner`, whose fields that are tuples take a single text too.

    Strict, as TOML has types of its own: a text is no number. By way of JSON, as strict validation takes a dataclass
    from Python objects only when it is one already. Raises SettingsError; `where` leads to the table.
    """
    hints = get_type_hints(owner)
    table = {
        key: [value] if isinstance(value, str) and get_origin(hints.get(key)) is tuple else value
        for key, value in table.items()
    }
    try:
        return adapter.validate_json(json.dumps(table, default=str), strict=True)
    except ValidationError as error:
        problems = (f"{where}{_explanation(problem)}" for problem in error.errors(include_url=False))
        raise SettingsError("\n".join(dict.fromkeys(problems))) from error


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


def _refuse_unknown(table: Iterable[str], keys: Collection[str], where: str) -> None:
    if problems := [f"{where}: unknown key {_suggestion(key, keys)}" for key in table if key not in keys]:
        raise SettingsError("\n".join(problems))


def _refuse_unknown_scorer(pattern: str, scorers: Collection[str], measures: Collection[str], where: str) -> None:
    names = [name for scorer in scorers for name in (scorer, scorer.split("@")[0])]
    names += [reference_subject(measure) for measure in measures]
    if not any(fnmatchcase(name, pattern) for name in names):
        meant = reference_subject(pattern)
        suggestion = f"{pattern!r}; did you mean {meant!r}?" if meant in names else _suggestion(pattern, names)
        raise SettingsError(f"{where}: scorer: {suggestion}")


def _suggestion(text: str, candidates: Iterable[str]) -> str:
    """The text, and the candidate that was probably meant, else all of them."""
    candidates = sorted(set(candidates))
    near = difflib.get_close_matches(text, candidates, n=1, cutoff=0.6)
    return f"{text!r}; did you mean {near[0]!r}?" if near else f"{text!r}; known: {', '.join(candidates)}"
