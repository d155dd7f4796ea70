"""The experiments file: TOML text becomes checked experiments, and every mistake names file, experiment and key."""

import difflib
import math
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from datetime import UTC, date, datetime
from typing import Any

from vqmon.core.experiments.definition import Arm, Experiment, Guardrail
from vqmon.errors import SettingsError

_PARTS = ("arms", "guardrails")


def parse_experiments(text: str, *, origin: str = "experiments.toml") -> tuple[Experiment, ...]:
    """Read experiments from TOML: one table `[experiments.NAME]` each, with `[experiments.NAME.arms.ARM]` below.

    Raises SettingsError naming the file, the experiment, the key and the nearest valid one.
    """
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{origin}: {error}") from error
    _refuse_unknown(tree, ("experiments",), origin)
    tables = _table(tree.get("experiments", {}), f"{origin}: experiments")
    return tuple(_experiment(name, table, f"{origin}: experiment {name!r}") for name, table in tables.items())


def find_experiment(experiments: Iterable[Experiment], name: str, *, origin: str = "experiments.toml") -> Experiment:
    """The experiment of this name; SettingsError names the nearest one."""
    known = {it.name: it for it in experiments}
    if name not in known:
        raise SettingsError(f"{origin}: no experiment {_nearest(name, known)}")
    return known[name]


def _experiment(name: str, table: Any, where: str) -> Experiment:
    table = _table(table, where)
    own = {key: value for key, value in table.items() if key not in _PARTS}
    _refuse_unknown(own, [field.name for field in fields(Experiment) if field.name != "name"], where)
    arms = _table(table.get("arms", {}), f"{where}: arms")
    rails = _table(table.get("guardrails", {}), f"{where}: guardrails")
    if "control" not in own:
        raise SettingsError(f"{where}: control: is missing; name the arm that the others are held against")
    values = _values(Experiment, own, where)
    try:
        return Experiment(
            name=name,
            arms=tuple(_arm(key, value, f"{where}: arm {key!r}") for key, value in arms.items()),
            guardrails=tuple(_guardrail(key, value, f"{where}: guardrail {key!r}") for key, value in rails.items()),
            **values,
        )
    except ValueError as error:
        raise SettingsError(f"{where}: {error}") from error


def _arm(name: str, table: Any, where: str) -> Arm:
    values = _values(Arm, _table(table, where), where)
    if not values.keys() & {"label", "stream", "rendition"}:
        values["label"] = name
    return Arm(name=name, **values)


def _guardrail(name: str, table: Any, where: str) -> Guardrail:
    values = _values(Guardrail, _table(table, where), where)
    for key in ("of", "margin"):
        if key not in values:
            raise SettingsError(f"{where}: {key}: is missing")
    if values["of"].partition(":")[0] in ("score", "p5", "min"):
        values.setdefault("worse", "lower")
    return Guardrail(name=name, **values)


def _values(kind: Any, table: Mapping[str, Any], where: str) -> dict[str, Any]:
    known = {field.name: field.type for field in fields(kind) if field.name not in ("name", *_PARTS)}
    _refuse_unknown(table, known, where)
    return {key: _typed(str(known[key]), value, f"{where}: {key}") for key, value in table.items()}


def _typed(wanted: str, value: Any, where: str) -> Any:
    """The value as the field wants it; lists become tuples, moments without a zone are UTC."""
    if "Literal" in wanted:
        options = [word.strip(" '\"") for word in wanted.partition("[")[2].rstrip("]").split(",")]
        if value not in options:
            raise SettingsError(f"{where}: {_nearest(value, options)}")
        return value
    word, convert = next((it for part, it in _KINDS.items() if part in wanted), ("text", _text))
    try:
        return convert(value)
    except TypeError:
        raise SettingsError(f"{where}: {value!r} is not {word}") from None


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(_text(item) for item in ([value] if isinstance(value, str) else value))


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError
    return value


def _number(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise TypeError
    return float(value)


def _numbers(value: Any) -> dict[str, float]:
    if not isinstance(value, dict):
        raise TypeError
    return {key: _number(item) for key, item in value.items()}


def _moment(value: Any) -> datetime:
    if not isinstance(value, date):
        raise TypeError
    moment = value if isinstance(value, datetime) else datetime(value.year, value.month, value.day)  # noqa: DTZ001
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


_KINDS: Mapping[str, tuple[str, Callable[[Any], Any]]] = {
    "datetime": ("a moment like 2026-11-20T18:00:00Z", _moment),
    "tuple[str": ("a list of texts", _texts),
    "Mapping": ("a table of numbers", _numbers),
    "'int'": ("a whole number", _whole),
    "'float'": ("a number", _number),
}


def _table(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise SettingsError(f"{where}: must be a table, got {value!r}")
    return value


def _refuse_unknown(given: Iterable[str], known: Iterable[str], where: str) -> None:
    for key in given:
        if key not in tuple(known):
            raise SettingsError(f"{where}: unknown key {_nearest(key, known)}")


def _nearest(given: Any, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(str(given), list(known), n=1, cutoff=0.6)
    return f"{given!r}; did you mean {near[0]!r}?" if near else f"{given!r}; known: {', '.join(sorted(set(known)))}"
