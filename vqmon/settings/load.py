"""One frozen tree of settings, read once from a TOML file and `VQMON_*` environment variables."""

import contextlib
import difflib
import json
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from vqmon.errors import SettingsError
from vqmon.settings.contradictions import contradictions
from vqmon.settings.inputs import InputHookSettings, InputSettings
from vqmon.settings.problems import describe_problem
from vqmon.settings.scoring import SCORING_PATTERN_MEANINGS, ScoringSettings
from vqmon.settings.sections import (
    PATTERN_MEANINGS,
    AlertSettings,
    AudioSettings,
    CredentialSettings,
    DaemonSettings,
    DecodeSettings,
    ExperimentSettings,
    FetchSettings,
    HistorySettings,
    KafkaSettings,
    LogSettings,
    MetricsSettings,
    NotifySettings,
    SourceSettings,
    SubtitlesSettings,
    WebhookSettings,
    WebSettings,
    WindowSettings,
)
from vqmon.telemetry.redaction import redact_addresses

_SETTINGS_FILES = (Path("vqmon.toml"), Path("/etc/vqmon/vqmon.toml"))
"""Where the settings file is looked for when neither `--config` nor `VQMON_CONFIG` names one."""

_TLS_FILES = (("kafka", "ca_file"), ("kafka", "cert_file"), ("kafka", "key_file"))
_SECRET_FILES = (
    ("history", "", "password_file"),
    ("kafka", "", "password_file"),
    ("notify", "", "token_file"),
    ("notify", "webhooks", "secret_files"),
    ("inputs", "hooks", "secret_files"),
    ("fetch", "credentials", "file"),
)
"""Section, its table of tables by name ("" = the section itself), and the setting that names files of secrets."""
_STREAM_KEYS = ["id", "url", "renditions", "labels", "reference", "reference_init", "reference_rendition"]
_NAMED: dict[str, type[BaseModel]] = {
    "fetch.credentials": CredentialSettings,
    "inputs.hooks": InputHookSettings,
    "notify.webhooks": WebhookSettings,
    "notify.windows": WindowSettings,
}
"""Tables of tables, by names that the owner chooses."""


class Settings(BaseSettings):
    """Everything that can be set; `config/vqmon.toml` shows each with its default and why."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix="VQMON_",
        env_nested_delimiter="__",
        nested_model_default_partial_update=True,
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # The environment goes over the file, which comes in by the constructor.
        return env_settings, init_settings

    source: SourceSettings = SourceSettings()
    kafka: KafkaSettings = KafkaSettings()
    fetch: FetchSettings = FetchSettings()
    decode: DecodeSettings = DecodeSettings()
    audio: AudioSettings = AudioSettings()
    subtitles: SubtitlesSettings = SubtitlesSettings()
    scoring: ScoringSettings = ScoringSettings()
    alerts: AlertSettings = AlertSettings()
    notify: NotifySettings = NotifySettings()
    inputs: InputSettings = InputSettings()
    history: HistorySettings = HistorySettings()
    experiments: ExperimentSettings = ExperimentSettings()
    daemon: DaemonSettings = DaemonSettings()
    metrics: MetricsSettings = MetricsSettings()
    web: WebSettings = WebSettings()
    log: LogSettings = LogSettings()

    @property
    def decode_workers(self) -> int:
        """As set, or one per core."""
        return self.decode.workers or _usable_cores()

    @property
    def in_flight(self) -> int:
        """As set, or two more than there are decoders: one in fetch, one in scoring."""
        return self.daemon.in_flight or self.decode_workers + 2


def _usable_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0))


def load_settings(path: Path | None = None) -> Settings:
    """Read the settings file, then the environment over it.

    The file is `path`, else what `VQMON_CONFIG` names, else the first of `_SETTINGS_FILES` that exists, else none.
    Relative paths in the file are relative to the file. Raises SettingsError naming file, key and remedy.
    """
    settings, problems = read_settings(path)
    if settings is None or problems:
        raise SettingsError("\n".join(problems))
    return settings


def read_settings(path: Path | None = None) -> tuple[Settings | None, Sequence[str]]:
    """As `load_settings`, but what is wrong is left out, and each is one line of the problems that come second.

    Where a variable is wrong, the settings are those of the file alone. Raises SettingsError for a file that cannot be
    read as TOML.
    """
    file = path or (Path(os.environ["VQMON_CONFIG"]) if os.environ.get("VQMON_CONFIG") else None)
    if file is not None and not file.is_file():
        raise SettingsError(f"{file}: no such settings file")
    file = file or next((place for place in _SETTINGS_FILES if place.is_file()), None)
    tree = _read_toml(file) if file else {}
    origin = str(file) if file else "environment"
    keys = sorted(setting_keys())
    wrong = _WrongKeys()
    problems = [*_unknown_keys(_leaves(tree, keys), keys, str(file), wrong), *_unknown_variables(keys)]
    problems += _take_out_other_than_booleans(tree, Settings, "", f"{file}: ", wrong)
    tree = _known(tree, keys)
    try:
        settings = _without_wrong_values(tree, origin, wrong, problems)
    except ValueError:
        named = _unreadable_list() or "a setting"
        return None, [*problems, f"environment: {named}: lists are JSON, e.g. '[\"foo\"]'"]
    if settings is None:
        # variables are wrong, which cannot be taken out one by one
        with contextlib.suppress(ValueError):
            settings = Settings(_env_prefix="\0", **tree)
    else:
        problems += _contradictions(settings, tree, origin, wrong)
    return settings, list(dict.fromkeys(problems))


def setting_keys(section: type[BaseModel] = Settings, prefix: str = "") -> Iterator[str]:
    """Every dotted key that a settings file may hold, e.g. `decode.fps`."""
    for name, field in section.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from setting_keys(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        tree = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise SettingsError(f"{file}: {error}") from error
    for section, name in (
        ("source", "folder"),
        ("alerts", "rules"),
        ("history", "path"),
        ("notify", "path"),
        ("notify", "ca_file"),
        ("inputs", "ca_file"),
        ("experiments", "path"),
        ("daemon", "state_folder"),
        ("web", "reviews"),
        *_TLS_FILES,
    ):
        if isinstance(tree.get(section), dict) and isinstance(tree[section].get(name), str):
            tree[section][name] = str(file.parent / tree[section][name])
    for section, name in (("fetch", "file_roots"), ("scoring", "folders")):
        if isinstance(tree.get(section), dict) and isinstance(tree[section].get(name), list):
            tree[section][name] = [str(file.parent / item) for item in tree[section][name]]
    if not os.environ.get("CREDENTIALS_DIRECTORY"):
        _place_secrets(tree, file.parent)
    return tree


def _place_secrets(tree: dict[str, Any], folder: Path) -> None:
    """Make the files of secrets relative to a folder; where systemd has them in one of its own they are names there."""
    for section, named, name in _SECRET_FILES:
        table = tree.get(section)
        tables = table.get(named) if named and isinstance(table, dict) else {"": table}
        for owner in tables.values() if isinstance(tables, dict) else ():
            value = owner.get(name) if isinstance(owner, dict) else None
            if isinstance(value, str):
                owner[name] = str(folder / value)
            elif isinstance(value, list):
                owner[name] = [str(folder / item) if isinstance(item, str) else item for item in value]


class _WrongKeys:
    """The keys that are named as wrong already, each as the known key that was meant.

    Where a value is taken out for being wrong, the default stands in its place. What a check of the whole section says
    of that default is no second mistake.
    """

    def __init__(self) -> None:
        self._keys: set[str] = set()

    def add(self, key: str, keys: Sequence[str] = ()) -> None:
        """Add a key, or of an unknown one the nearest among those that are known."""
        parent, _, name = key.rpartition(".")
        names = [other.rpartition(".")[2] for other in keys if other.rpartition(".")[0] in (parent, "")]
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
        self._keys.add(f"{parent}.{near[0]}" if near else key)

    def __contains__(self, key: object) -> bool:
        """Whether a key is wrong, or in a section that is."""
        return any(key == wrong or str(key).startswith(f"{wrong}.") for wrong in self._keys)

    def explain(self, key: str, text: str) -> bool:
        """Whether a problem of a key follows from one of them: the key itself, or a section whose text names it."""
        return key in self._keys or any(
            wrong.startswith(f"{key}.") and re.search(rf"\b{re.escape(wrong.rpartition('.')[2])}\b", text)
            for wrong in self._keys
        )


def _leaves(tree: dict[str, Any], keys: Sequence[str], prefix: str = "") -> Iterator[str]:
    """The dotted keys of the settings in a tree; of a table that is no section, its own."""
    for name, value in tree.items():
        key = f"{prefix}{name}"
        if isinstance(value, dict) and _is_section(key, keys):
            yield from _leaves(value, keys, f"{key}.")
        else:
            yield key


def _is_section(key: str, keys: Iterable[str]) -> bool:
    return any(other.startswith(f"{key}.") for other in keys)


def _unknown_keys(given: Iterable[str], keys: list[str], origin: str, wrong: _WrongKeys) -> Iterator[str]:
    sections = {key.rpartition(".")[0] for key in keys}
    for key in given:
        if _is_section(key, keys):
            yield f"{origin}: {key}: must be a table, [{key}] with its settings below"
        elif key not in keys:
            wrong.add(key, keys)
            yield f"{origin}: unknown setting {key!r}{_nearest(key, [*keys, *sorted(sections)])}"


def _known(tree: dict[str, Any], keys: list[str], prefix: str = "") -> dict[str, Any]:
    """The tree without unknown keys, so that what is wrong with the others is found too."""
    known: dict[str, Any] = {}
    for name, value in tree.items():
        key = f"{prefix}{name}"
        if key in keys:
            known[name] = value
        elif isinstance(value, dict) and _is_section(key, keys):
            known[name] = _known(value, keys, f"{key}.")
    return known


def _take_out_other_than_booleans(
    tree: dict[str, Any], section: type[BaseModel], prefix: str, origin: str, wrong: _WrongKeys
) -> Iterator[str]:
    """Remove texts and numbers where a boolean must be, and name them; a variable can only hold text, a file cannot."""
    for name, value in list(tree.items()):
        field = section.model_fields.get(name)
        if field is None:
            continue
        if field.annotation is bool and not isinstance(value, bool):
            del tree[name]
            wrong.add(f"{prefix}{name}")
            yield f"{origin}{prefix}{name}: must be true or false, got {value!r}"
        elif isinstance(value, dict) and (inner := _section_of(field)) is not None:
            # a table of the section, or tables of it by name
            tables = {"": value} if inner is field.annotation else value
            for key, table in tables.items():
                if isinstance(table, dict):
                    path = f"{prefix}{name}.{f'{key}.' if key else ''}"
                    yield from _take_out_other_than_booleans(table, inner, path, origin, wrong)


def _section_of(field: FieldInfo) -> type[BaseModel] | None:
    """The section that a setting holds, or that it holds by name."""
    kinds = (field.annotation, *get_args(field.annotation))
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)


def _unknown_variables(keys: list[str]) -> Iterator[str]:
    names = {f"VQMON_{key.replace('.', '__')}".upper(): key for key in keys}
    for name in os.environ:
        # Only VQMON_SECTION__KEY is a setting; VQMON_CONFIG and the like are not.
        if name.startswith("VQMON_") and "__" in name and name.upper() not in names:
            yield f"environment: unknown setting {name!r}{_nearest(name, list(names))}"


def _unreadable_list() -> str:
    """The environment variable whose list is no JSON, with what it holds; "" when there is none."""
    for name, value in os.environ.items():
        prefix, _, path = name.lower().partition("_")
        field = _field_at(path.split("__")) if prefix == "vqmon" else None
        is_table = field is not None and hasattr(field.annotation, "model_fields")
        if field is not None and (is_table or get_origin(field.annotation) in (tuple, dict)):
            try:
                json.loads(value)
            except ValueError:
                return f"{name}={value!r}"
    return ""


def _nearest(key: str, keys: list[str]) -> str:
    last = key.rsplit(".", 1)[-1]
    near = difflib.get_close_matches(key, keys, n=1, cutoff=0.6) or [k for k in keys if k.rsplit(".", 1)[-1] == last]
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(keys)}"


def _without_wrong_values(tree: dict[str, Any], origin: str, wrong: _WrongKeys, problems: list[str]) -> Settings | None:
    """The settings without what is wrong, which is taken out of the tree, one line in `problems` each.

    What the checks of sections and of all say of the rest comes in later rounds; in the last ones whole lists and
    tables go out. None when variables are wrong, which cannot be taken out.
    """
    for number in range(5):
        try:
            return Settings(**tree)
        except ValidationError as error:
            problems += _explain(error, origin, wrong)
            for problem in error.errors():
                _take_out(tree, problem["loc"] if number < 3 else problem["loc"][:2])
    return None


def _contradictions(settings: Settings, tree: dict[str, Any], origin: str, wrong: _WrongKeys) -> Iterator[str]:
    """One line for each contradiction between settings that are right by themselves."""
    keys = sorted(setting_keys())
    given = {*_leaves(tree, keys), *(key for key in keys if _variable_of(tuple(key.split("."))))}
    for contradiction in contradictions(settings, given):
        if not any(key in wrong for key in contradiction.keys):
            variables = (_variable_of(tuple(key.split("."))) for key in contradiction.keys)
            place = next((f"environment: {name}" for name in variables if name), origin)
            yield f"{place}: {contradiction.text}"


def _take_out(tree: Any, location: Sequence[int | str]) -> None:
    """Remove a value, or a section whose check fails, from a tree, if it is there; never an entry of a list."""
    try:
        for part in location[:-1]:
            tree = tree[part]
    except (KeyError, IndexError, TypeError):
        return
    if isinstance(tree, dict) and location:
        tree.pop(location[-1], None)


def _explain(error: ValidationError, origin: str, wrong: _WrongKeys) -> Iterator[str]:
    """One line for each wrong value: where it stands, its key, what it must be, and what it is."""
    keys = [(".".join(str(part) for part in problem["loc"]) or "settings", problem) for problem in error.errors()]
    for key, problem in keys:
        if problem["type"] == "extra_forbidden":
            wrong.add(key, _keys_at(key))
    for key, problem in keys:
        if problem["type"] == "extra_forbidden" and _variable_of(problem["loc"]):
            # named with the variables
            continue
        if problem["type"] == "extra_forbidden":
            yield f"{origin}: unknown setting {key!r}{_nearest(str(problem['loc'][-1]), _keys_at(key))}"
            continue
        text = describe_problem(
            problem, constraints=_constraints_at(problem["loc"]), patterns=PATTERN_MEANINGS | SCORING_PATTERN_MEANINGS
        )
        if wrong.explain(key, text):
            continue
        # a check of a whole section begins with the setting that it blames
        section = _section_at(key) or _NAMED.get(key.rpartition(".")[0])
        is_of_section = text.partition(": ")[0] in getattr(section, "model_fields", ())
        place = f"environment: {variable}" if (variable := _variable_of(problem["loc"])) else f"{origin}: {key}"
        yield redact_addresses(f"{place}.{text}" if is_of_section else f"{place}: {text}")
    for key, _ in keys:
        wrong.add(key)


def _variable_of(location: tuple[int | str, ...]) -> str:
    """The environment variable that sets a key, and so goes over the file; "" when there is none."""
    given = {variable.upper() for variable in os.environ}
    names = (f"VQMON_{'__'.join(map(str, location[:length]))}".upper() for length in range(len(location), 1, -1))
    return next((name for name in names if name in given), "")


def _section_at(key: str) -> type[BaseModel] | None:
    field = _field_at(key.split("."))
    return field.annotation if field and isinstance(field.annotation, type) else None


def _field_at(location: Sequence[int | str]) -> FieldInfo | None:
    section: type[BaseModel] | None = Settings
    field: FieldInfo | None = None
    for part in location:
        field = getattr(section, "model_fields", {}).get(part)
        section = field.annotation if field else None
    return field


def _constraints_at(location: tuple[int | str, ...]) -> list[object]:
    """The bounds of the setting at a location."""
    field = _field_at(location)
    return field.metadata if field else []


def _keys_at(key: str) -> list[str]:
    """The keys that a table inside a list or under a name of the owner's may have."""
    section = _NAMED.get(".".join(key.split(".")[:2]))
    return [field.alias or name for name, field in section.model_fields.items()] if section else _STREAM_KEYS
