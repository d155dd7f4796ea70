"""The reference pages of the site, which are made from the code."""

from collections.abc import Iterator
from dataclasses import fields

import click
import pytest

from docs.generate.__main__ import PAGES
from vqmon.cli.main import main
from vqmon.core.alerts.rules import CONDITIONS
from vqmon.core.types import SIGNALS, Alert, QualityEvent, SegmentFailure
from vqmon.errors import REASONS
from vqmon.settings.load import setting_keys
from vqmon.telemetry.metrics import METRICS
from vqmon.transport.history.backends.views import VIEW_COLUMNS
from vqmon.web.api.openapi import OPERATIONS


def commands(command: click.Command, path: str) -> Iterator[str]:
    """A command and all below it, as they are typed."""
    yield path
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from commands(inner, f"{path} {name}")


EXPECTED = {
    "settings": [f"{{#{key.replace('.', '-')}}}" for key in setting_keys()],
    "events": [
        f"`{name}`"
        for name in (*REASONS, *(field.name for cls in (QualityEvent, SegmentFailure, Alert) for field in fields(cls)))
    ],
    "columns": [f"| `{column}` |" for columns in VIEW_COLUMNS.values() for column in columns],
    "metrics": [f"`{name}`" for name in METRICS] + ["In Prometheus `vqmon_segment_count_total`."],
    "alert-conditions": [
        f"{{#{kind}-{field.name}}}"
        for kind, condition in CONDITIONS.items()
        for field in fields(condition)  # type: ignore[arg-type]
    ],
    "signals": [f"`{name}`" for name in SIGNALS],
    "command-line": [f" {path}\n" for path in commands(main, "vqmon")],
    "rest": [f"`GET /api/v1{operation.path}`" for operation in OPERATIONS],
}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_every_name_of_the_code(name: str) -> None:
    """A setting, a column, a condition's key without a meaning fails, too."""
    text = PAGES[name]()

    assert EXPECTED[name]
    assert [item for item in EXPECTED[name] if item not in text] == []
