"""What all commands share: where they write, how they end, how they get their settings."""

import sys
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.console import Console

from vqmon.core.types import check_prompt_length
from vqmon.settings.load import Settings, load_settings
from vqmon.telemetry.logs import configure_logging

EXIT_UNSCORED = 3
EXIT_USAGE = 2
EXIT_STORE = 4

# What goes into a file or a pipe is wide enough not to be folded.
out = Console(highlight=False, width=None if sys.stdout.isatty() else 200)
err = Console(stderr=True, highlight=False)


def open_settings(config: Path | None) -> Settings:
    """The settings, with logs set up as they say."""
    settings = load_settings(config)
    configure_logging(settings.log.level, settings.log.form)
    return settings


def as_utc(moment: datetime | None) -> datetime | None:
    """A moment typed without a zone is UTC."""
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
