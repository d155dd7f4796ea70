"""Reads the experiments file: TOML text becomes validated experiments; errors name file, experiment, part and key."""

import difflib
import json
import math
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from datetime import UTC, date, datetime, time
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from vqmon.core.experiments.definition import Arm, Experiment, Guardrail, ShareChange
from vqmon.core.scores import REFERENCE_PREFIX
from vqmon.errors import SettingsError
from vqmon.media.reference.measures.offered import ALONE_MEASURES, REFERENCE_MEASURES
from vqmon.settings.problems import describe_problem, parse_each

_EXPERIMENT = TypeAdapter(Experiment)
_PARTS = {"arms": ("arm", Arm), "guardrails": ("guardrail", Guardrail)}
"""Key of a table of tables -> what messages call one of them, and its type."""

_LISTS = {name for name, hint in get_type_hints(Experiment).items() if hint == tuple[str, ...]}
_LOWER_IS_WORSE = ("score", "p5", "min")


def parse_experiments(text: str, *, origin: str = "experiments.toml") -> tuple[Experiment, ...]:
    """Parse experiments from TOML: one table `[experiments.NAME]` each, with `[experiments.NAME.arms.ARM]` below.

    Raises SettingsError, which names the file (`origin`), the experiment, the key, and the nearest valid key.
    """
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{origin}: {error}") from error
    _refuse_unknown_keys(tree, ("experiments",), origin)
    tables = _require_table(tree.get("experiments", {}), f"{origin}: experiments")
    return tuple(
        parse_each(tables, lambda name, table: _parse_experiment(name, table, f"{origin}: experiment {name!r}"))
    )


def find_experiment(experiments: Iterable[Experiment], name: str, *, origin: str = "experiments.toml") -> Experiment:
    """The experiment with this name; raises SettingsError, which names the nearest one."""
    by_name = {experiment.name: experiment for experiment in experiments}
    if name not in by_name:
        raise SettingsError(f"{origin}: no experiment {_nearest(name, by_name)}")
    return by_name[name]


def _parse_experiment(name: str, table: Any, location: str) -> Experiment:
    table = _require_table(table, location)
    _refuse_unknown_keys(table, _keys_of(Experiment), location)
    document = {"name": name, **_with_lists(table)}
    _check_reference_margin(document, location)
    for key, (part, kind) in _PARTS.items():
        tables = _require_table(table.get(key, {}), f"{location}: {key}")
        document[key] = list(_part_documents(tables, part, kind, location))
    try:
        # JSON in strict mode takes lists for tuples and texts for moments, and converts nothing else.
        return _EXPERIMENT.validate_json(json.dumps(_finite(document, location), default=_utc_text), strict=True)
    except ValidationError as error:
        raise SettingsError(f"{location}: {_explain(error, document)}") from error


def _check_reference_margin(document: Mapping[str, Any], location: str) -> None:
    """Refuse a misspelt reference measure, and one without a margin: the default is points of 0..100."""
    measures = [name for name in document.get("scorers", ()) if str(name).startswith(REFERENCE_PREFIX)]
    for name in measures:
        options = [REFERENCE_PREFIX + measure for measure in {**REFERENCE_MEASURES, **ALONE_MEASURES}]
        # learned measures have names of their own
        if name not in options and difflib.get_close_matches(name, options, n=1, cutoff=0.9):
            raise SettingsError(f"{location}: scorers: {_nearest(name, options)}")
        for key, meaning in (("margin", "that does not matter"), ("largest_loss", "that a rare content may have")):
            if key not in document:
                raise SettingsError(f"{location}: {key}: is missing; state the largest loss of {name} {meaning}")


def _part_documents(tables: Mapping[str, Any], part: str, kind: type, location: str) -> Iterator[dict[str, Any]]:
    """The arms or guardrails of an experiment, with the defaults that depend on their other keys."""
    for name, value in tables.items():
        table = _require_table(value, f"{location}: {part} {name!r}")
        _refuse_unknown_keys(table, _keys_of(kind), f"{location}: {part} {name!r}")
        for change in table.get("share_changes", ()) if kind is Arm else ():
            change_table = _require_table(change, f"{location}: {part} {name!r}: share_changes")
            _refuse_unknown_keys(change_table, _keys_of(ShareChange), f"{location}: {part} {name!r}: share_changes")
        document = {"name": name, **table}
        if kind is Arm and not table.keys() & {"label", "stream", "rendition"}:
            document["label"] = name
        if kind is Guardrail and str(table.get("of")).partition(":")[0] in _LOWER_IS_WORSE:
            document.setdefault("worse", "lower")
        yield document


def _with_lists(table: Mapping[str, Any]) -> dict[str, Any]:
    """One text stands for a list with one text."""
    return {key: [value] if key in _LISTS and isinstance(value, str) else value for key, value in table.items()}


def _finite(value: Any, location: str) -> Any:
    """The value; SettingsError where it contains `nan` or `inf`, which TOML allows."""
    if isinstance(value, float) and not math.isfinite(value):
        raise SettingsError(f"{location}: {value!r} is not a number that can be used")
    if isinstance(value, dict):
        return {key: _finite(item, f"{location}: {key}") for key, item in value.items()}
    return [_finite(item, location) for item in value] if isinstance(value, list) else value


def _utc_text(value: date | time) -> str:
    """A TOML moment as RFC 3339 in UTC; a moment without a zone is UTC, a day begins at midnight."""
    if isinstance(value, time):
        return str(value)
    moment = value if isinstance(value, datetime) else datetime(value.year, value.month, value.day)  # noqa: DTZ001
    return (moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)).isoformat()


def _explain(error: ValidationError, document: Mapping[str, Any]) -> str:
    """The first problem: which part and key, what is wrong, and what was given."""
    problem = error.errors()[0]
    location = [str(step) for step in problem["loc"]]
    if location and location[0] in _PARTS:
        key, index, *rest = problem["loc"]
        location = [f"{_PARTS[str(key)][0]} {document[str(key)][index]['name']!r}", *map(str, rest)]
    if problem["type"] == "value_error":
        message = str(problem["ctx"]["error"])
        return message if not location or message.startswith(location[0]) else ": ".join([*location, message])
    if problem["type"] == "missing":
        hint = "; name the arm that the others are compared with" if location == ["control"] else ""
        return ": ".join([*location, f"is missing{hint}"])
    if problem["type"] == "literal_error":
        options = [option.strip("'") for option in problem["ctx"]["expected"].replace(" or ", ", ").split(", ")]
        return ": ".join([*location, _nearest(problem["input"], options)])
    return ": ".join([*location, describe_problem(problem)])


def _keys_of(kind: type) -> list[str]:
    return [field.name for field in fields(kind) if field.name != "name"]


def _require_table(value: Any, location: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise SettingsError(f"{location}: must be a table, got {value!r}")
    return value


def _refuse_unknown_keys(given: Iterable[str], allowed: Iterable[str], location: str) -> None:
    allowed = list(allowed)
    problems = [f"{location}: unknown key {_nearest(key, allowed)}" for key in given if key not in allowed]
    if problems:
        raise SettingsError("\n".join(problems))


def _nearest(given: object, allowed: Iterable[str]) -> str:
    """The given name with the nearest allowed one, or with all allowed ones when none is near."""
    options = sorted(set(allowed))
    matches = difflib.get_close_matches(str(given), options, n=1, cutoff=0.6)
    return f"{given!r}; did you mean {matches[0]!r}?" if matches else f"{given!r}; allowed: {', '.join(options)}"
