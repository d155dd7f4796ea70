"""The commands that speak to Kafka: publish, topics."""

import asyncio
from pathlib import Path

import click

from vqmon.cli.console import open_settings, prompt_option


@click.command()
@click.argument("addresses", metavar="PLAYLIST|FILE...", nargs=-1, required=True)
@click.option("--stream", required=True, help="Name of the stream; the key of its messages.")
@click.option("--rendition", default="", help="Name of the rendition; default: as the playlist says, else `file`.")
@click.option("--arm", default="", help="Which encoding of an experiment this is.")
@prompt_option
@click.pass_obj
def publish(
    config: Path | None, addresses: tuple[str, ...], stream: str, rendition: str, arm: str, prompt: str
) -> None:
    """Put segment messages on the Kafka topic: what a packager does, or to score an archive."""
    from pipelines.topics.publisher import publish_segments as publish_all

    settings = open_settings(config)
    named = publish_all(settings, addresses, stream_id=stream, rendition=rendition, arm=arm, prompt=prompt)
    count, unnamed = asyncio.run(named)
    click.echo(f"{count} segment messages published" + (f", {unnamed} entries left out" if unnamed else ""), err=True)


@click.command()
@click.option("--history", help="SQLite file or postgresql:// address; default: as the settings say.")
@click.option(
    "--for", "for_seconds", type=click.FloatRange(min=0, min_open=True), help="Stop by itself after so many seconds."
)
@click.pass_obj
def record(config: Path | None, history: str | None, for_seconds: float | None) -> None:
    """Keep what the fleet says: outcomes and alerts from Kafka into the history, for `web`, `compare` and `export`.

    Each once, also after a SIGKILL. With PostgreSQL, start it as often as you like; an SQLite file has one. Pictures
    are not on the topics, so this history has none.
    """
    from pipelines.topics.recorder import run

    settings = open_settings(config)
    place = settings.history.at_location(history)
    asyncio.run(run(settings.model_copy(update={"history": place}), for_seconds=for_seconds))


@click.group()
def topics() -> None:
    """Create or check the Kafka topics of the settings."""


@topics.command()
@click.pass_obj
def create(config: Path | None) -> None:
    """Create the topics that are missing; those that exist stay as they are."""
    from pipelines.topics.publisher import create_missing_topics as create_all

    made = asyncio.run(create_all(open_settings(config)))
    click.echo("\n".join(made) if made else "nothing to create")


@topics.command()
@click.pass_context
def check(ctx: click.Context) -> None:
    """Say what is wrong with the topics and how to mend it."""
    from pipelines.topics.publisher import topic_problems as check_all

    wrong = asyncio.run(check_all(open_settings(ctx.obj)))
    click.echo("\n".join(wrong) if wrong else "all topics match the settings")
    ctx.exit(1 if wrong else 0)
