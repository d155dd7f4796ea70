"""Plain sentences for what is wrong with a value of a settings or experiments file."""

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import date, time
from typing import TypeVar

import annotated_types
from pydantic_core import ErrorDetails

from vqmon.errors import SettingsError

_Parsed = TypeVar("_Parsed")

_KINDS = {
    "bool": "true or false",
    "dataclass": "a table",
    "date": "a moment, like 2026-11-20T20:00:00Z",
    "datetime": "a moment, like 2026-11-20T20:00:00Z",
    "dict": "a table",
    "finite": "a number that is neither nan nor infinite",
    "float": "a number",
    "int": "a whole number",
    "list": "a list",
    "model": "a table",
    "path": "a path, in quotes",
    "string": "a text, in quotes",
    "time": 'a time of day (UTC), like "02:30"',
    "timezone": "a moment with its zone, like 2026-11-20T20:00:00Z",
    "tuple": "a list, in brackets",
}
"""First word of a pydantic error -> what the value must be, in the words of TOML."""


@contextmanager
def collect_problems(problems: list[str]) -> Iterator[None]:
    """Add the problems of a SettingsError to the others, and go on."""
    try:
        yield
    except SettingsError as error:
        problems.append(str(error))


def parse_each(tables: Mapping[str, object], parse: Callable[[str, object], _Parsed]) -> list[_Parsed]:
    """What `parse` makes of each name and table; raises one SettingsError with the problems of all tables."""
    parsed: list[_Parsed] = []
    problems: list[str] = []
    for name, table in tables.items():
        with collect_problems(problems):
            parsed.append(parse(name, table))
    if problems:
        raise SettingsError("\n".join(problems))
    return parsed


def describe_problem(
    problem: ErrorDetails, *, constraints: Iterable[object] = (), patterns: Mapping[str, str] | None = None
) -> str:
    """What a value must be and what was given, e.g. "must be a whole number, from 0 to 256, got 'many'".

    `constraints` are the bounds of the setting (`annotated_types`), and `patterns` say what regular expressions mean.
    """
    sentence = _requirement(problem, _range_text(constraints), patterns or {})
    value = problem["input"]
    is_named = f"got {value!r}" in sentence
    if problem["type"] == "value_error":
        # checks of an address repeat it, without its secrets
        is_named = str(value) in sentence or "://" in str(value)
    if is_named or value == "" or isinstance(value, dict | list | tuple):
        return sentence
    return f"{sentence}, got {value.isoformat() if isinstance(value, date | time) else repr(value)}"


def _requirement(problem: ErrorDetails, bounds: str, patterns: Mapping[str, str]) -> str:
    kind, context = problem["type"], problem.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    if kind == "missing":
        return "is missing"
    if kind == "literal_error":
        return _choice(problem["input"], str(context["expected"]))
    if kind == "string_pattern_mismatch":
        return f"must be {patterns.get(str(context['pattern']), 'a text that matches ' + str(context['pattern']))}"
    if kind in ("string_too_short", "too_short"):
        return "must not be empty"
    if kind.startswith(("greater_than", "less_than")):
        return f"must be {bounds or _bound_of(kind, context)}"
    noun = _KINDS.get(kind.partition("_")[0], "a value of another type")
    return f"must be {noun}, {bounds}" if bounds and kind.startswith(("int", "float")) else f"must be {noun}"


def _range_text(constraints: Iterable[object]) -> str:
    """The bounds among the constraints of a setting, in words; empty when there are none.

    >>> _range_text([annotated_types.Ge(0), annotated_types.Le(256)]), _range_text([annotated_types.Gt(0)])
    ('from 0 to 256', 'above 0')
    """
    low, high, texts = None, None, []
    for constraint in constraints:
        match constraint:
            case annotated_types.Ge(ge=value):
                low = value
            case annotated_types.Le(le=value):
                high = value
            case annotated_types.Gt(gt=value):
                texts.append(f"above {value}")
            case annotated_types.Lt(lt=value):
                texts.append(f"below {value}")
    if low is not None and high is not None:
        return f"from {low} to {high}"
    texts += [f"{low} or more"] if low is not None else []
    texts += [f"at most {high}"] if high is not None else []
    return " and ".join(texts)


def _bound_of(kind: str, context: Mapping[str, object]) -> str:
    """The one bound that a pydantic error names."""
    bound, word = next(iter(context.values())), "above" if kind.startswith("greater") else "below"
    return f"{bound} or {word}" if kind.endswith("equal") else f"{word} {bound}"


def _choice(value: object, expected: str) -> str:
    """The choices, after the nearest one when the value was probably a misspelling."""
    choices = [choice.strip("'") for choice in expected.replace(" or ", ", ").split(", ")]
    near = difflib.get_close_matches(str(value), choices, n=1, cutoff=0.6)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"must be {expected}, got {value!r}{hint}"
