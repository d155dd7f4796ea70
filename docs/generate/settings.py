"""The page of every setting: from the models of the settings, and the comments of `config/vqmon.toml`."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from docs.generate.markdown import definition, page, sentence, type_text
from docs.generate.source_comments import field_comments
from vqmon.settings.inputs import InputHookSettings
from vqmon.settings.load import Settings
from vqmon.settings.sections import WatchedStream, WebhookSettings, WindowSettings

_TABLES: Mapping[str, tuple[str, type[BaseModel]]] = {
    "source.streams": ("[[source.streams]]", WatchedStream),
    "notify.webhooks": ("[notify.webhooks.NAME]", WebhookSettings),
    "notify.windows": ("[notify.windows.NAME]", WindowSettings),
    "inputs.hooks": ("[inputs.hooks.NAME]", InputHookSettings),
}
"""Settings that are tables of their own -> how their heading is written, and what they hold."""

_PAIR = re.compile(r"(?P<off>#? ?)(?P<key>\w+) = (?P<value>.*?)(?:\s+#\s(?P<comment>.*))?")

_INTRODUCTION = """\
Every setting with its type, its default and what it does. Settings are one TOML file, by default `vqmon.toml`
in the current folder, then `/etc/vqmon/vqmon.toml`; each can also be set in the environment: `decode.fps` is
`VQMON_DECODE__FPS`, and lists are JSON there. Relative paths are relative to the file. An unknown key is an
error that names the file, the key and the nearest valid key. `vqmon check` checks a file; the same list as a
file to copy from is [`config/vqmon.toml`](../../config/vqmon.toml)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """What the file says of one setting."""

    value: str
    is_shown_only: bool
    meaning: str


def settings_page(root: Path) -> str:
    """The page; raises KeyError for a setting that `config/vqmon.toml` does not show."""
    entries = _read_entries((root / "config" / "vqmon.toml").read_text(encoding="utf-8"))
    parts = list(_sections(Settings, "", entries))
    return page("Settings", _INTRODUCTION, *parts, source="config/vqmon.toml and vqmon/settings/sections.py")


def _sections(model: type[BaseModel], prefix: str, entries: Mapping[str, _Entry]) -> Iterator[str]:
    """The settings of a section, then the tables within it, each under its heading."""
    properties = model.model_json_schema()["properties"]
    inner = {key: field.annotation for key, field in model.model_fields.items() if _is_section(field.annotation)}
    names = {key: f"{prefix}{key}" for key in model.model_fields}
    for key in model.model_fields:
        if key not in inner:
            yield _definition(names[key], key, properties[key], entries[names[key]])
    for name in filter(_TABLES.__contains__, names.values()):
        yield from _table_of_its_own(*_TABLES[name])
    for key, section in inner.items():
        yield f"{'###' if prefix else '##'} `[{names[key]}]`\n\n{_introduction(entries, names[key], section)}"
        yield from _sections(section, f"{names[key]}.", entries)


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _introduction(entries: Mapping[str, _Entry], section: str, model: Any) -> str:
    heading = entries.get(section)
    return " ".join(filter(None, [sentence(model.__doc__ or ""), sentence(heading.meaning) if heading else ""]))


def _definition(name: str, key: str, schema: Mapping[str, Any], entry: _Entry) -> str:
    shown = f"not set; for example `{entry.value}`" if entry.is_shown_only else f"default `{entry.value}`"
    names_a_path = schema.get("format") == "path" or any(
        choice.get("format") == "path" for choice in schema.get("anyOf", ())
    )
    text = "path" if names_a_path else type_text(schema).replace(" or null", "")
    if name in _TABLES:
        text = "tables"
    return definition(key, f"{text}; {shown}", entry.meaning, anchor=name)


def _mark_code(text: str) -> str:
    """Environment variables and addresses with signs that Markdown would read."""
    return re.sub(r"(?<!`)(\$[A-Z_]+|\*|\"[^\"]*[*\[][^\"]*\")(?!`)", r"`\1`", text)


def _table_of_its_own(heading: str, model: type[BaseModel]) -> Iterator[str]:
    """The keys of a table within a section."""
    comments = field_comments(model)
    schema = model.model_json_schema()
    yield f"### `{heading}`\n\n{sentence(model.__doc__ or '')}"
    prefix = heading.strip("[]")
    for name, field in model.model_fields.items():
        key = field.alias or name
        text = type_text(schema["properties"][key]).replace(" or null", "")
        if field.is_required():
            text += "; required"
        elif field.default not in (None, "", ()) and not callable(field.default_factory):
            text += f"; default `{_toml(field.default)}`"
        yield definition(key, text, sentence(comments[name]), anchor=f"{prefix}.{key}")


def _toml(value: object) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return f'"{value}"' if isinstance(value, str) else str(value).lower()


def _read_entries(text: str) -> dict[str, _Entry]:
    """`section.key` -> what the file says: its comment behind the value, or the comments above.

    A section is an entry too, with the comment of its heading. Indented comments are lines of an example.
    """
    entries: dict[str, _Entry] = {}
    section = ""
    above: list[str] = []
    for line in text.splitlines():
        if header := re.fullmatch(r"\[([\w.]+)\](?:\s+#\s(.*))?", line):
            section, above = header[1], []
            entries[section] = _Entry(value="", is_shown_only=False, meaning=header[2] or "")
        elif pair := _PAIR.fullmatch(line):
            meaning = _joined([*above, *([pair["comment"]] if pair["comment"] else [])])
            entries[f"{section}.{pair['key']}"] = _Entry(
                value=pair["value"], is_shown_only=bool(pair["off"]), meaning=meaning
            )
            above = []
        elif line.startswith("# "):
            above.append(line[2:])
        else:
            above = []
    return entries


def _joined(comments: list[str]) -> str:
    """Comments as text; indented lines become a block of TOML."""
    text, example = "", []
    for line in comments:
        if line.startswith("  "):
            example.append(line[2:])
        else:
            text = f"{text} {line}".strip()
    text = re.sub(r"\bdocs/(\w+)\.md", r"[](../\1.md)", _mark_code(sentence(text)))
    return f"{text}\n\n```toml\n" + "\n".join(example) + "\n```" if example else text
