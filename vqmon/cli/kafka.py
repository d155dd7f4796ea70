"""The commands of a fleet: publish, record, tail, topics."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from vqmon.cli.console import for_option, history_option, open_settings, out, prompt_option
from vqmon.core.types import Alert

if TYPE_CHECKING:
    from pipelines.topics.tail import Verdict


@click.command()
@click.argument("addresses", metavar="PLAYLIST|FILE...", nargs=-1, required=True)
@click.option("--stream", required=True, help="Id of the stream, which is the key of its messages.")
@click.option(
    "--rendition", default="", help="Name of the rendition; default: from the playlist, or `file` for media files."
)
@click.option("--arm", default="", help="Arm of an experiment that these segments belong to.")
@prompt_option
@click.pass_obj
def publish(
    config: Path | None, addresses: tuple[str, ...], stream: str, rendition: str, arm: str, prompt: str
) -> None:
    """Write a segment message to Kafka for each segment of playlists, media files or folders.

    Use it to score an archive, or in place of a packager that announces its own segments."""
    from pipelines.topics.publisher import publish_segments as publish_all

    settings = open_settings(config)
    named = publish_all(settings, addresses, stream_id=stream, rendition=rendition, arm=arm, prompt=prompt)
    count, unnamed = asyncio.run(named)
    click.echo(
        f"{count} segment messages published" + (f", {unnamed} playlist entries skipped" if unnamed else ""), err=True
    )


@click.command()
@history_option
@for_option
@click.pass_obj
def record(config: Path | None, history: str | None, for_seconds: float | None) -> None:
    """Record the outcomes and alerts of a fleet from Kafka into the history that the other commands read.

    Every outcome is recorded exactly once, even after a SIGKILL. Any number of recorders may share a PostgreSQL
    database, but only one may write to an SQLite file. Thumbnails are not sent over Kafka, so the history has none.
    """
    from pipelines.topics.recorder import run

    settings = open_settings(config)
    place = settings.history.at_location(history)
    asyncio.run(run(settings.model_copy(update={"history": place}), for_seconds=for_seconds))


@click.command()
@click.option("--from-beginning", is_flag=True, help="Begin with the oldest record that the topics hold.")
@click.option("--stream", "streams", multiple=True, help="Only this stream; may be repeated.")
@click.option("--rendition", "renditions", multiple=True, help="Only renditions of this name; may be repeated.")
@click.option("--unscored", is_flag=True, help="Only segments that could not be scored.")
@click.option("--json", "as_json", is_flag=True, help="One CloudEvent per line.")
@for_option
@click.pass_obj
def tail(
    config: Path | None,
    from_beginning: bool,  # noqa: FBT001 - click gives flags so
    streams: tuple[str, ...],
    renditions: tuple[str, ...],
    unscored: bool,  # noqa: FBT001
    as_json: bool,  # noqa: FBT001
    for_seconds: float | None,
) -> None:
    """Print the outcomes and alerts of a fleet as they are published, from now on, until Ctrl-C.

    Reads committed records only, joins no consumer group and commits nothing, so it changes nothing for anybody.
    """
    from pipelines.topics.tail import VerdictFilter, follow_fleet

    settings = open_settings(config)
    wanted = VerdictFilter(streams=streams, renditions=renditions, kinds="unscored" if unscored else "all")
    show = _print_document if as_json else _print_line

    async def follow() -> None:
        start: Literal["oldest", "newest"] = "oldest" if from_beginning else "newest"
        async for verdict in follow_fleet(settings, start=start, wanted=wanted, for_seconds=for_seconds):
            show(verdict)

    asyncio.run(follow())


def _print_document(verdict: "Verdict") -> None:
    click.echo(verdict.document)


def _print_line(verdict: "Verdict") -> None:
    from pipelines.console.outcomes import alert_line, outcome_line

    value = verdict.value
    out.print(alert_line(value) if isinstance(value, Alert) else outcome_line(value))


@click.group()
def topics() -> None:
    """Create or check the Kafka topics of the settings, or print the ACLs that they need."""


@topics.command()
@click.pass_obj
def create(config: Path | None) -> None:
    """Create the missing topics; existing ones are not changed."""
    from pipelines.topics.publisher import create_missing_topics as create_all

    made = asyncio.run(create_all(open_settings(config)))
    click.echo("\n".join(made) if made else "nothing to create")


@topics.command()
@click.pass_context
def check(ctx: click.Context) -> None:
    """Print what is wrong with the topics and how to fix it."""
    from pipelines.topics.publisher import topic_problems as check_all

    wrong = asyncio.run(check_all(open_settings(ctx.obj)))
    click.echo("\n".join(wrong) if wrong else "all topics match the settings")
    ctx.exit(1 if wrong else 0)


@topics.command()
@click.option("--principal", default="User:vqmon", show_default=True, help="The principal that is allowed.")
@click.pass_obj
def acls(config: Path | None, principal: str) -> None:
    """Print the commands that allow the commands of vqmon what they need, and no more."""
    from pipelines.topics.publisher import acl_commands

    click.echo("\n".join(acl_commands(open_settings(config), principal=principal)))
