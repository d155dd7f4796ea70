"""Writes the reference pages of the site: `python -m docs.generate FOLDER`; `make docs` does so before it builds."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from docs.generate.alerts import alerts_page
from docs.generate.commands import commands_page
from docs.generate.events import events_page
from docs.generate.numbers import columns_page, metrics_page, signals_page
from docs.generate.rest import rest_page
from docs.generate.settings import settings_page

ROOT = Path(__file__).parents[2]

PAGES: Mapping[str, Callable[[], str]] = {
    "settings": lambda: settings_page(ROOT),
    "events": events_page,
    "columns": columns_page,
    "metrics": metrics_page,
    "alert-conditions": lambda: alerts_page(ROOT),
    "signals": signals_page,
    "command-line": commands_page,
    "rest": rest_page,
}
"""Name of the page -> its text."""

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in PAGES.items():
        (folder / f"{name}.md").write_text(text(), encoding="utf-8")
