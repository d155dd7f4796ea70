"""The page of alert conditions: from their classes, and the rules of `config/rules.toml`."""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from docs.generate.markdown import definition, page, paragraphs, sentence, table, type_text
from docs.generate.source_comments import field_comments
from vqmon.core.alerts.conditions.base import Condition
from vqmon.core.alerts.rules import CONDITIONS

_INTRODUCTION = """\
The kinds of alert rules with all their keys, and the rules that come with vqmon. A rules file is TOML with
one table `[rules.NAME]` per rule; `alerts.rules` names it. What the kinds detect, how they decide and how
well, is in [](../alerts.md); how to change them in [](../how-to/tune-alerts.md)."""

_COMMON = (
    ("kind", "string; required", "One of the kinds below; it decides which other keys there are."),
    (
        "severity",
        '`"page"` or `"ticket"`; default `"ticket"`',
        "A page needs a person at once, a ticket during working hours.",
    ),
    (
        "match",
        "table",
        'Which renditions: `{ stream = "news-*", rendition = ["1080p", "720p"], labels = { team = "sr" } }`; globs, '
        "by default all.",
    ),
    ("min_open_seconds", "number; default `0.0`", "Shortest time that an alert stays open."),
    (
        "mask_ad_breaks",
        "true or false; default `false`",
        'Ignores segments within ad breaks, which have the label `ad_break = "yes"`; not for `regression` and `group`.',
    ),
    ("enabled", "true or false; default `true`", "`false` leaves the rule out."),
)

_MASKS = """\
## Masks

A table `[masks.NAME]` names planned times that rules ignore: black, slates, maintenance. Keys: `stream` and
`rendition` (globs), either `from` and `until` (moments) or `daily_from` and `daily_until` (times of day,
UTC), and `excuses`, the names of rules, kinds or signals (globs)."""


def alerts_page(root: Path) -> str:
    """The page; raises KeyError for a key of a condition without a comment in the source."""
    rules = tomllib.loads((root / "config" / "rules.toml").read_text(encoding="utf-8"))["rules"]
    common = [definition(name, facts, meaning, anchor=f"rule.{name}") for name, facts, meaning in _COMMON]
    kinds = [part for kind, condition in CONDITIONS.items() for part in _kind(kind, condition, rules)]
    return page(
        "Alert conditions",
        _INTRODUCTION,
        "## Keys of every rule",
        *common,
        *kinds,
        _MASKS,
        "## Shipped rules",
        _shipped(rules),
        source="vqmon/core/alerts/conditions and config/rules.toml",
    )


def _kind(kind: str, condition: type[Condition], rules: Mapping[str, Any]) -> Iterable[str]:
    yield f"## `{kind}`\n\n{paragraphs(condition.__doc__)}"
    shipped = [f"`{name}`" for name, rule in rules.items() if rule["kind"] == kind]
    yield f"Shipped rules: {', '.join(shipped)}." if shipped else "No shipped rule is of this kind."
    comments = field_comments(condition)
    schema = TypeAdapter(condition).json_schema()["properties"]
    for field in fields(condition):  # type: ignore[arg-type]
        text = type_text(schema[field.name]).replace(" or null", "")
        yield definition(
            field.name, f"{text}; {_default(field)}", sentence(comments[field.name]), anchor=f"{kind}.{field.name}"
        )


def _default(field: Field[Any]) -> str:
    if field.default_factory is not MISSING:
        return "default none"
    if field.default is MISSING:
        return "required"
    if field.default is None:
        return "default none"
    if isinstance(field.default, tuple):
        listed = ", ".join(f'"{value}"' for value in field.default)
        return f"default `[{listed}]`" if len(field.default) < 4 else "default: see below"
    return f"default `{_toml(field.default)}`"


def _toml(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value).lower()


def _shipped(rules: Mapping[str, Any]) -> str:
    """The rules of `config/rules.toml` with the keys that they set."""
    rows = []
    for name, rule in rules.items():
        keys = {key: value for key, value in rule.items() if key not in ("kind", "severity", "enabled")}
        shown = ", ".join(f"{key} = {_inline(value)}" for key, value in keys.items())
        severity = rule["severity"] if rule.get("enabled", True) else f"{rule['severity']}, not enabled"
        rows.append((f"`{name}`", f"[`{rule['kind']}`](#{rule['kind'].replace('_', '_')})", severity, f"`{shown}`"))
    return table(("rule", "kind", "severity", "keys"), rows)


def _inline(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_inline(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_inline(item) for item in value) + "]"
    return _toml(value)
