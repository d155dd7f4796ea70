"""The commands about alerts: tune, deploy, end, notify, switch-inputs."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import click

from vqmon.cli.console import as_utc, for_option, history_option, open_settings, out, since_option, until_option


@click.command()
@click.argument("name")
@click.option("--stream", default="*", help="Glob of the stream ids that change; default: all.")
@click.option("--rendition", default="*", help="Glob of the renditions that change; default: all.")
@click.option(
    "--at",
    type=click.DateTime(),
    metavar="TIME",
    help="When it takes effect, in the time of the segments (UTC); default: now.",
)
@click.pass_obj
def deploy(config: Path | None, name: str, stream: str, rendition: str, at: datetime | None) -> None:
    """Record a deployment, after which alert rules learn a new baseline.

    NAME describes the change, for example "encoder 4.2". The marker is written to the history of the settings, where a
    running daemon finds it or, if the source is Kafka, to every partition of the segments topic.
    """
    from pipelines.daemon.deploy_markers import make_marker, record_deployment

    marker = make_marker(name, as_utc(at) or datetime.now(UTC), stream=stream, rendition=rendition)
    out.print(asyncio.run(record_deployment(open_settings(config), marker)), markup=False)


@click.command()
@click.argument("stream")
@click.option("--rendition", help="Only this rendition; default: all renditions of the stream.")
@click.pass_obj
def end(config: Path | None, stream: str, rendition: str | None) -> None:
    """End a stream: resolve its open alerts at the end of its last segment.

    Playlists that end by themselves do not need this. The end is written to the history of the settings, where a
    running daemon finds it within seconds, or, if the source is Kafka, to all partitions of the segments topic. If the
    stream returns later, alert rules keep their baselines.
    """
    from pipelines.daemon.stream_ends import request_end
    from vqmon.core.alerts.annotations import ALL_RENDITIONS

    line = asyncio.run(request_end(open_settings(config), stream, rendition or ALL_RENDITIONS))
    out.print(line, markup=False)


@click.command()
@for_option
@click.pass_obj
def notify(config: Path | None, for_seconds: float | None) -> None:
    """Send the alerts of a fleet from Kafka to Alertmanager and webhooks.

    On one host `vqmon run` sends them itself."""
    from pipelines.topics.notifier import run

    asyncio.run(run(open_settings(config), for_seconds=for_seconds))


@click.command()
@for_option
@click.pass_obj
def switch_inputs(config: Path | None, for_seconds: float | None) -> None:
    """Decide by the scores of a fleet which input each stream uses, and call the webhooks of the settings.

    The decisions, `switch`, `hold` and `return`, are stored in the history that `vqmon record` writes. On one host
    `vqmon run` decides itself. One instance is enough for all partitions."""
    from pipelines.topics.input_switcher import run

    asyncio.run(run(open_settings(config), for_seconds=for_seconds))


@click.command()
@click.option("--rule", default="", help="Only this regression rule; default: all of them.")
@click.option(
    "--false-alarms",
    "false_alarms_per_day",
    type=click.FloatRange(0.0001, 10),
    default=None,
    metavar="RATE",
    help="Accepted false alarms per stream-day and series; default: those of the rule.",
)
@click.option(
    "--drop",
    "drop_points",
    type=click.FloatRange(0.1, 100),
    default=None,
    metavar="POINTS",
    help="Smallest drop that opens an alert, in points; 25 points are 1 MOS; default: that of the rule.",
)
@click.option("--stream", default="", help="Only the stream with this id.")
@since_option
@until_option
@history_option
@click.pass_obj
def tune(
    config: Path | None,
    rule: str,
    false_alarms_per_day: float | None,
    drop_points: float | None,
    stream: str,
    since: datetime | None,
    until: datetime | None,
    history: str | None,
) -> None:
    """Show what regression rules see in the stored scores, of a week if possible.

    Prints for every series the smallest drop that it shows and how soon, for drops of 0.1 to 1 MOS how many series show
    them, and how many alerts the rule opens. Changes no file.
    """
    from pipelines.commands.replay import HistoryFilter
    from pipelines.commands.tune import tune as measure_rules
    from pipelines.console.alerts import tuning_tables

    settings = open_settings(config)
    span = HistoryFilter(stream_id=stream, since=as_utc(since), until=as_utc(until))
    place = settings.history.at_location(history).location
    tuned_rules = measure_rules(
        settings, place, rule=rule, false_alarms_per_day=false_alarms_per_day, drop_points=drop_points, span=span
    )
    for tuned in tuned_rules:
        for table in tuning_tables(tuned):
            out.print(table)
