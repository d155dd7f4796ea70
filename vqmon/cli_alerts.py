"""The commands about alerts: tune, deploy, notify."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import click

from vqmon.console import out, ready, utc


@click.command()
@click.argument("name")
@click.option("--stream", default="*", help="Streams that it changes, a glob; default: all.")
@click.option("--rendition", default="*", help="Renditions that it changes, a glob; default: all.")
@click.option("--at", type=click.DateTime(), help="When, by the time of the segments (UTC); default: now.")
@click.pass_obj
def deploy(config: Path | None, name: str, stream: str, rendition: str, at: datetime | None) -> None:
    """Say that something was changed on purpose: alert rules learn anew what is usual from then on.

    NAME is for people, e.g. "encoder 4.2". Goes to the history of the settings, also while a daemon runs, or to every
    partition of the segments topic when the source is Kafka.
    """
    from pipelines.deploy import deploy as tell
    from pipelines.deploy import marker_of

    marker = marker_of(name, utc(at) or datetime.now(UTC), stream=stream, rendition=rendition)
    out.print(asyncio.run(tell(ready(config), marker)), markup=False, soft_wrap=True)


@click.command()
@click.option(
    "--for", "for_seconds", type=click.FloatRange(min=0, min_open=True), help="Stop by itself after so many seconds."
)
@click.pass_obj
def notify(config: Path | None, for_seconds: float | None) -> None:
    """Tell Alertmanager and webhooks of the alerts of a fleet over Kafka. On one host `vqmon run` does it itself."""
    from pipelines.notify import run

    asyncio.run(run(ready(config), for_seconds=for_seconds))
