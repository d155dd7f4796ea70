"""The rules file: TOML text becomes checked rules, and every mistake names file, rule and key."""

import difflib
import math
import tomllib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import MISSING, Field, fields, replace
from datetime import UTC, datetime, time
from fnmatch import fnmatchcase
from typing import Any

from vqmon.core.alerts.annotations import Mask
from vqmon.core.alerts.rules import CONDITIONS, AlertRule, Collapse, Floor, Group, Match, Regression, Signal
from vqmon.core.types import SIGNALS
from vqmon.errors import SettingsError

_KEYS = ("stream", "rendition", "from", "until", "daily_from", "daily_until", "excuses")


def parse_masks(tables: Any, rules: Iterable[AlertRule], origin: str) -> tuple[Mask, ...]:
    """Masks from their tables; every word of `excuses` must mean a rule, a kind of rule or a signal.

    Raises SettingsError naming file, mask and key.
    """
    if not isinstance(tables, dict):
        raise SettingsError(f"{origin}: masks: must be tables like [masks.night], got {tables!r}")
    known = {word for rule in rules for word in (rule.name, rule.condition.kind)} | set(SIGNALS)
    return tuple(_mask(name, table, known, f"{origin}: mask {name!r}") for name, table in tables.items())


def _mask(name: str, table: Any, known: Iterable[str], where: str) -> Mask:
    if not isinstance(table, dict):
        raise SettingsError(f"{where}: must be a table, got {table!r}")
    _refuse_unknown(table, _KEYS, where)
    excuses = _words(table, "excuses", where)
    for word in excuses:
        if not any(fnmatchcase(it, word) for it in known):
            raise SettingsError(f"{where}: excuses: no rule, kind of rule or signal {_unknown(word, known)}")
    try:
        return Mask(
            name=name,
            excuses=excuses,
            stream=_words(table, "stream", where),
            rendition=_words(table, "rendition", where),
            begins=_moment(table, "from", where),
            ends=_moment(table, "until", where),
            daily_from=_time(table, "daily_from", where),
            daily_until=_time(table, "daily_until", where),
        )
    except ValueError as error:
        raise SettingsError(f"{where}: {error}") from error


def _words(table: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
    value = table.get(key, "*")
    words = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else ()
    if not words or not all(isinstance(word, str) for word in words):
        raise SettingsError(f"{where}: {key}: must be a text or a list of texts, got {value!r}")
    return words


def _moment(table: Mapping[str, Any], key: str, where: str) -> datetime | None:
    value = table.get(key)
    if value is None:
        return None
    if not isinstance(value, datetime) or value.utcoffset() is None:
        raise SettingsError(f"{where}: {key}: must be a moment with its zone, like 2026-11-20T20:00:00Z, got {value!r}")
    return value.astimezone(UTC)


def _time(table: Mapping[str, Any], key: str, where: str) -> time | None:
    value = table.get(key)
    if value is None or isinstance(value, time):
        return value
    try:
        return time.fromisoformat(value)
    except (ValueError, TypeError):
        raise SettingsError(f'{where}: {key}: must be a time of day (UTC), like "02:30", got {value!r}') from None


_RULE_KEYS = ("kind", "severity", "enabled", "min_open_seconds", "match")


def parse_rules(
    text: str, *, origin: str = "rules.toml", scorers: Collection[str] | None = None
) -> tuple[AlertRule, ...]:
    """Read rules from TOML: one table `[rules.NAME]` each, `kind` choosing the other keys.

    With `scorers` (name@version) a rule about none of them is refused. Raises SettingsError naming the file, the
    rule, the key and the nearest valid one.
    """
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{origin}: {error}") from error
    _refuse_unknown(tree, ("rules", "masks"), origin)
    tables = tree.get("rules", {})
    if not isinstance(tables, dict):
        raise SettingsError(f"{origin}: rules: must be tables like [rules.low-score], got {tables!r}")
    rules = []
    for name, table in tables.items():
        where = f"{origin}: rule {name!r}"
        rule = _rule(name, table, where)
        if scorers is not None and isinstance(rule.condition, Floor | Collapse | Regression):
            _refuse_unknown_scorer(rule.condition.scorer, scorers, where)
        if _typed(bool, table.get("enabled", True), f"{where}: enabled"):
            rules.append(rule)
    _refuse_strange_groups(rules, tables, origin)
    masks = parse_masks(tree.get("masks", {}), rules, origin)
    return tuple(replace(rule, masks=_over(rule, masks)) for rule in rules)


def _over(rule: AlertRule, masks: Iterable[Mask]) -> tuple[Mask, ...]:
    """The masks that excuse a rule: by its name, its kind, or its signal."""
    signal = rule.condition.signal if isinstance(rule.condition, Signal) else ""
    return tuple(mask for mask in masks if mask.excuses_any(rule.name, rule.condition.kind, signal))


def _refuse_strange_groups(rules: Iterable[AlertRule], tables: Iterable[str], origin: str) -> None:
    """A group is of a regression rule; of one that is left out it sleeps."""
    regressions = [rule.name for rule in rules if isinstance(rule.condition, Regression)]
    for rule in rules:
        if isinstance(rule.condition, Group) and rule.condition.of not in regressions:
            if rule.condition.of in tables and rule.condition.of not in [it.name for it in rules]:
                continue
            of = rule.condition.of
            raise SettingsError(f"{origin}: rule {rule.name!r}: of: no regression rule {_unknown(of, regressions)}")


def _rule(name: str, table: Any, where: str) -> AlertRule:
    if not isinstance(table, dict):
        raise SettingsError(f"{where}: must be a table, got {table!r}")
    kind = str(table.get("kind", ""))
    if kind not in CONDITIONS:
        raise SettingsError(f"{where}: kind: {_unknown(kind, CONDITIONS)}")
    own = {key: value for key, value in table.items() if key not in _RULE_KEYS}
    known = {field.name: field for field in fields(CONDITIONS[kind])}
    _refuse_unknown(own, (*known, *_RULE_KEYS), where)
    match = _typed(dict, table.get("match", {}), f"{where}: match")
    parts = {field.name: field for field in fields(Match)}
    _refuse_unknown(match, parts, f"{where}: match")
    try:
        return AlertRule(
            name=name,
            severity=table.get("severity", "ticket"),
            condition=CONDITIONS[kind](**_values(known, own, f"{where}: ")),
            match=Match(**_values(parts, match, f"{where}: match.")),
            min_open_seconds=_typed(float, table.get("min_open_seconds", 0.0), f"{where}: min_open_seconds"),
        )
    except ValueError as error:
        raise SettingsError(f"{where}: {error}") from error


def _values(known: Mapping[str, Field[Any]], given: Mapping[str, Any], where: str) -> dict[str, Any]:
    for key, field in known.items():
        if key not in given and field.default is MISSING and field.default_factory is MISSING:
            raise SettingsError(f"{where}{key}: is missing; this kind of rule needs it")
    return {key: _typed(known[key].type, value, f"{where}{key}") for key, value in given.items()}


def _typed(wanted: Any, value: Any, where: str) -> Any:
    """The value as the field wants it; TOML's own types, whole numbers where fractions are allowed."""
    word = str(wanted)
    if wanted in (bool, dict):
        good = isinstance(value, wanted)
    elif wanted is float or "float | None" in word:
        good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        value = float(value) if good else value
    elif wanted is int or "int | None" in word:
        good = isinstance(value, int) and not isinstance(value, bool)
    elif "tuple[str" in word:
        value = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value
        good = isinstance(value, tuple) and all(isinstance(item, str) for item in value)
    elif "Mapping" in word:
        kind = (int, float) if "float" in word else str
        good = isinstance(value, dict) and all(isinstance(item, kind) for item in value.values())
    else:
        good = isinstance(value, str)
    if not good:
        raise SettingsError(f"{where}: {value!r} is not a {_WORDS.get(wanted, 'value of the right type')}")
    return value


_WORDS: Mapping[Any, str] = {bool: "true or false", dict: "table", float: "number", int: "whole number", str: "text"}


def _refuse_unknown(given: Iterable[str], known: Iterable[str], where: str) -> None:
    for key in given:
        if key not in tuple(known):
            raise SettingsError(f"{where}: unknown key {_unknown(key, known)}")


def _refuse_unknown_scorer(pattern: str, scorers: Collection[str], where: str) -> None:
    every = [name for scorer in scorers for name in (scorer, scorer.split("@")[0])]
    if not any(fnmatchcase(name, pattern) for name in every):
        raise SettingsError(f"{where}: scorer: {_unknown(pattern, every)}")


def _unknown(given: Any, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(str(given), list(known), n=1, cutoff=0.6)
    return f"{given!r}; did you mean {near[0]!r}?" if near else f"{given!r}; known: {', '.join(sorted(set(known)))}"
