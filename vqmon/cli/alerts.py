"""The commands about alerts: tune, deploy, end, notify."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import click

from vqmon.cli.console import as_utc, open_settings, out


@click.command()
@click.argument("name")
@click.option("--stream", default="*", help="Streams that it changes, a glob; default: all.")
@click.option("--rendition", default="*", help="Renditions that it changes, a glob; default: all.")
@click.option("--at", type=click.DateTime(), help="When, by the time of the segments (UTC); default: now.")
@click.pass_obj
def deploy(config: Path | None, name: str, stream: str, rendition: str, at: datetime | None) -> None:
    """Record a planned change: from then on, alert rules learn a new baseline.

    NAME is for people, e.g. "encoder 4.2". Goes to the history of the settings, also while a daemon runs, or to every
    partition of the segments topic when the source is Kafka.
    """
    from pipelines.daemon.deploy_markers import make_marker
    from pipelines.daemon.deploy_markers import record_deployment as tell

    marker = make_marker(name, as_utc(at) or datetime.now(UTC), stream=stream, rendition=rendition)
    out.print(asyncio.run(tell(open_settings(config), marker)), markup=False, soft_wrap=True)


@click.command()
@click.argument("stream")
@click.option("--rendition", help="Only this rendition; default: all that were seen.")
@click.pass_obj
def end(config: Path | None, stream: str, rendition: str | None) -> None:
    """Say that a stream is over: its open alerts close where its segments ended.

    A playlist that is over says so by itself. Goes to the history of the settings, where a running daemon takes it up
    within seconds and another one when it starts, or, when the source is Kafka, behind the segments of the stream. If
    segments come again later, rules go on with what they have learned.
    """
    from pipelines.daemon.stream_ends import request_end as tell
    from vqmon.core.alerts.annotations import EVERY

    out.print(asyncio.run(tell(open_settings(config), stream, rendition or EVERY)), markup=False, soft_wrap=True)


@click.command()
@click.option(
    "--for", "for_seconds", type=click.FloatRange(min=0, min_open=True), help="Stop by itself after so many seconds."
)
@click.pass_obj
def notify(config: Path | None, for_seconds: float | None) -> None:
    """Tell Alertmanager and webhooks of the alerts of a fleet over Kafka. On one host `vqmon run` does it itself."""
    from pipelines.topics.notifier import run

    asyncio.run(run(open_settings(config), for_seconds=for_seconds))


@click.command()
@click.option("--rule", default="", help="Only this regression rule; default: every one.")
@click.option(
    "--false-alarms",
    "wanted",
    type=click.FloatRange(0.0001, 10),
    default=0.033,
    show_default=True,
    help="Wanted, per stream-day and series.",
)
@click.option(
    "--drop",
    type=click.FloatRange(0.1, 100),
    default=5.0,
    show_default=True,
    help="Points (25 are 1 MOS) that are to be seen soonest.",
)
@click.option("--stream", default="", help="Only this stream.")
@click.option("--since", type=click.DateTime(), help="Only segments from this moment (UTC) on.")
@click.option("--until", type=click.DateTime(), help="Only segments before this moment (UTC).")
@click.option("--history", help="SQLite file or postgresql:// address; default: as the settings say.")
@click.pass_obj
def tune(
    config: Path | None,
    rule: str,
    wanted: float,
    drop: float,
    stream: str,
    since: datetime | None,
    until: datetime | None,
    history: str | None,
) -> None:
    """Propose settings of regression rules from what is stored, best a week of it.

    Measures the noise of every series, proposes k, h and the length of the baseline for the wanted rate of false
    alarms, and shows how soon drops of 0.1 to 1 MOS will be seen. Writes nothing.
    """
    from pipelines.commands.replay import Span
    from pipelines.commands.tune import tune as propose
    from pipelines.console.alerts import tuning_tables

    settings = open_settings(config)
    span = Span(stream_id=stream, since=as_utc(since), until=as_utc(until))
    place = settings.history.at_location(history).location
    for tuned in propose(settings, place, rule=rule, wanted=wanted, drop=drop, span=span):
        for part in tuning_tables(tuned):
            out.print(part)
