"""The `[masks.NAME]` tables of a rules file become checked masks."""

import difflib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, time
from fnmatch import fnmatchcase
from typing import Any

from vqmon.core.alerts.annotations import Mask
from vqmon.core.alerts.rules import AlertRule
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
    for key in table:
        if key not in _KEYS:
            raise SettingsError(f"{where}: unknown key {_unknown(key, _KEYS)}")
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


def _unknown(given: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(given, list(known), n=1, cutoff=0.6)
    return f"{given!r}; did you mean {near[0]!r}?" if near else f"{given!r}; known: {', '.join(sorted(set(known)))}"
