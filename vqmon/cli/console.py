"""Shared by all commands: consoles, exit codes, settings, and options that several commands have."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from vqmon.core.types import check_prompt_length
from vqmon.settings.load import Settings, load_settings
from vqmon.telemetry.logs import configure_logging
from vqmon.terminal import Console

EXIT_FAILED = 1
EXIT_UNSCORED = 3
EXIT_USAGE = 2
EXIT_STORE = 4

out = Console()
err = Console(stderr=True)


class OutputFile(click.Path):
    """The path of a file to write; its folder must exist, so that no result is lost after hours of scoring."""

    def __init__(self) -> None:
        super().__init__(path_type=Path, dir_okay=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """The path; a usage error when it is a folder or its folder does not exist."""
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        if not path.parent.is_dir():
            self.fail(f"{path}: the folder {path.parent} does not exist; create it or name another file", param, ctx)
        return path


def open_settings(config: Path | None) -> Settings:
    """Load the settings and configure logging by them."""
    settings = load_settings(config)
    configure_logging(settings.log.level, settings.log.form)
    return settings


def as_utc(moment: datetime | None) -> datetime | None:
    """Return a time from the command line, which has no zone, as UTC."""
    return moment.replace(tzinfo=UTC) if moment else None


def _short_enough(ctx: click.Context, option: click.Parameter, text: str) -> str:
    try:
        check_prompt_length(text)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx=ctx, param=option) from error
    return text


prompt_option = click.option(
    "--prompt", default="", callback=_short_enough, help="The prompt that the pictures were generated from."
)
"""For scorers that compare pictures with it."""

TIME = "TIME"
TIME_FORMATS = "a date or YYYY-MM-DDTHH:MM:SS, UTC"

history_option = click.option(
    "--history", metavar="LOCATION", help="SQLite file or postgresql:// address; default: history of the settings."
)
for_option = click.option(
    "--for",
    "for_seconds",
    metavar="SECONDS",
    type=click.FloatRange(min=0, min_open=True),
    help="Stop after so many seconds.",
)
since_option = click.option(
    "--since",
    metavar=TIME,
    type=click.DateTime(),
    help=f"Only segments that start at this time or later: {TIME_FORMATS}.",
)
until_option = click.option(
    "--until", metavar=TIME, type=click.DateTime(), help="Only segments that start before this time."
)
