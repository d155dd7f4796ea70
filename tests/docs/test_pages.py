"""What the pages name is there: settings, rules, commands and their options."""

import re
import textwrap
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import pytest

from vqmon.cli.main import main
from vqmon.settings.experiments_file import parse_experiments
from vqmon.settings.load import Settings, load_settings, setting_keys
from vqmon.settings.rules_file import parse_rules

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "models" / "README.md",
    *sorted(page for page in (ROOT / "docs").rglob("*.md") if not {"_build", "reference"} & set(page.parts)),
]
TOML = re.compile(r"^ *```toml\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
NAMED = re.compile(rf"`((?:{'|'.join(Settings.model_fields)})\.[a-z_]+)(?: = [^`]*)?`")
FENCED = re.compile(r"^ *```sh\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^(?: {4,}|[$] )(?P<line>vqmon .*)$|`(?P<inline>vqmon [^`]+)`", re.MULTILINE)
LOG_EVENT = re.compile(r'log_event\(\s*"([a-z_.]+)"')


@pytest.fixture(scope="module")
def log_events() -> set[str]:
    """The names of all events of the log."""
    files = [file for folder in ("vqmon", "pipelines") for file in (ROOT / folder).rglob("*.py")]
    return {name for file in files for name in LOG_EVENT.findall(file.read_text(encoding="utf-8"))}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_toml_of_a_page_is_valid(page: Path, tmp_path: Path) -> None:
    """As settings, rules or experiments by the names of their tables; facts about a scorer as TOML."""
    for block in TOML.findall(page.read_text(encoding="utf-8")):
        text = textwrap.dedent(block)
        tables = set(tomllib.loads(text))
        if tables == {"rules"}:
            parse_rules(text)
        elif text.startswith("[experiments."):
            parse_experiments(text)
        elif tables & set(Settings.model_fields):
            (tmp_path / "vqmon.toml").write_text(text, encoding="utf-8")
            load_settings(tmp_path / "vqmon.toml")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_setting_that_a_page_names_exists(page: Path, log_events: set[str]) -> None:
    """As `section.key`, which is also how events of the log are named."""
    named = {name for name in NAMED.findall(page.read_text(encoding="utf-8")) if not name.endswith((".yaml", ".toml"))}

    assert sorted(named - set(setting_keys()) - log_events) == []


def commands_of(text: str) -> Iterator[str]:
    """What stands in code and begins with `vqmon`, without the comment or the command behind it."""
    lines = [line for block in FENCED.findall(text) for line in block.splitlines() if line.startswith("vqmon ")]
    lines += [match["line"] or match["inline"] for match in COMMAND.finditer(text)]
    yield from (re.split(r" +(?:#|[|>]|&&) ?", line)[0] for line in lines)


def unknown_part(words: Sequence[str]) -> str:
    """The first sub-command or option that `vqmon` does not have; "" when it has all."""
    command: click.Command = main
    for word in words:
        if word.startswith("--"):
            names = {name for parameter in (*command.params, *main.params) for name in parameter.opts}
            if word.split("=")[0].rstrip(".,;") not in names | {"--help"}:
                return word
        elif isinstance(command, click.Group) and word.isalpha() and word.islower():
            if word not in command.commands:
                return word
            command = command.commands[word]
            if command.context_settings.get("ignore_unknown_options"):
                return ""
    return ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_of_a_page_exists_with_its_options(page: Path) -> None:
    """Those of `vqmon`."""
    commands = list(commands_of(page.read_text(encoding="utf-8")))

    assert [command for command in commands if unknown_part(command.split()[1:])] == []
