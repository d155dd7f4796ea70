"""The commands about alerts: tune, deploy, end, notify."""

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
    out.print(asyncio.run(record_deployment(open_settings(config), marker)), markup=False, soft_wrap=True)


@click.command()
@click.argument("stream")
@click.option("--rendition", help="Only this rendition; default: all renditions of the stream.")
@click.pass_obj
def end(config: Path | None, stream: str, rendition: str | None) -> None:
    """End a stream: resolve its open alerts at the end of its last segment.

    Playlists that end by themselves do not need this. The end is written to the history of the settings, where a
    running daemon finds it within seconds, or, if the source is Kafka, to the segments topic after the segments of the
    stream. If the stream returns later, alert rules keep their baselines.
    """
    from pipelines.daemon.stream_ends import request_end
    from vqmon.core.alerts.annotations import ALL_RENDITIONS

    line = asyncio.run(request_end(open_settings(config), stream, rendition or ALL_RENDITIONS))
    out.print(line, markup=False, soft_wrap=True)


@click.command()
@for_option
@click.pass_obj
def notify(config: Path | None, for_seconds: float | None) -> None:
    """Send the alerts of a fleet from Kafka to Alertmanager and webhooks.

    On one host `vqmon run` sends them itself."""
    from pipelines.topics.notifier import run

    asyncio.run(run(open_settings(config), for_seconds=for_seconds))


@click.command()
@click.option("--rule", default="", help="Only this regression rule; default: all of them.")
@click.option(
    "--false-alarms",
    "false_alarms_per_day",
    type=click.FloatRange(0.0001, 10),
    default=0.033,
    show_default=True,
    metavar="RATE",
    help="Target rate of false alarms, per stream-day and series.",
)
@click.option(
    "--drop",
    "drop_points",
    type=click.FloatRange(0.1, 100),
    default=5.0,
    show_default=True,
    metavar="POINTS",
    help="Drop to detect soonest, in points; 25 points are 1 MOS.",
)
@click.option("--stream", default="", help="Only the stream with this id.")
@since_option
@until_option
@history_option
@click.pass_obj
def tune(
    config: Path | None,
    rule: str,
    false_alarms_per_day: float,
    drop_points: float,
    stream: str,
    since: datetime | None,
    until: datetime | None,
    history: str | None,
) -> None:
    """Propose settings of regression rules from the stored scores, of a week if possible.

    Measures the noise of every series, proposes k, h and the baseline length for the target rate of false alarms, and
    prints the delay after which drops of 0.1 to 1 MOS are detected. Changes no file.
    """
    from pipelines.commands.replay import HistoryFilter
    from pipelines.commands.tune import tune as propose_settings
    from pipelines.console.alerts import tuning_tables

    settings = open_settings(config)
    span = HistoryFilter(stream_id=stream, since=as_utc(since), until=as_utc(until))
    place = settings.history.at_location(history).location
    proposals = propose_settings(
        settings, place, rule=rule, false_alarms_per_day=false_alarms_per_day, drop_points=drop_points, span=span
    )
    for tuned in proposals:
        for table in tuning_tables(tuned):
            out.print(table)
