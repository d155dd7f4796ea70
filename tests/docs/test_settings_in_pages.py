"""What the pages say of settings and rules is there: their TOML is read, and keys that they name exist."""

import re
import textwrap
from pathlib import Path

import pytest

from vqmon.settings.experiments_file import parse_experiments
from vqmon.settings.load import Settings, load_settings, setting_keys
from vqmon.settings.rules_file import parse_rules

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted(page for folder in (".", "tutorial", "how-to") for page in (ROOT / "docs" / folder).glob("*.md")),
]
TOML = re.compile(r"^ *```toml\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
NAMED = re.compile(rf"`((?:{'|'.join(Settings.model_fields)})\.[a-z_]+)(?: = [^`]*)?`")
LOG_EVENT = re.compile(r'log_event\(\s*"([a-z_.]+)"')


@pytest.fixture(scope="module")
def log_events() -> set[str]:
    """The names of all events of the log."""
    files = [file for folder in ("vqmon", "pipelines") for file in (ROOT / folder).rglob("*.py")]
    return {name for file in files for name in LOG_EVENT.findall(file.read_text(encoding="utf-8"))}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_toml_of_a_page_is_valid(page: Path, tmp_path: Path) -> None:
    """Settings, rules or experiments, as their first table says."""
    for block in TOML.findall(page.read_text(encoding="utf-8")):
        text = textwrap.dedent(block)
        if text.startswith("[rules."):
            parse_rules(text)
        elif text.startswith("[experiments."):
            parse_experiments(text)
        else:
            (tmp_path / "vqmon.toml").write_text(text, encoding="utf-8")
            load_settings(tmp_path / "vqmon.toml")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_setting_that_a_page_names_exists(page: Path, log_events: set[str]) -> None:
    """As `section.key`, which is also how events of the log are named."""
    named = {name for name in NAMED.findall(page.read_text(encoding="utf-8")) if not name.endswith((".yaml", ".toml"))}

    assert sorted(named - set(setting_keys()) - log_events) == []
