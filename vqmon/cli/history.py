"""The commands that read the history: `vqmon replay` and `vqmon export`."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import click

from vqmon.cli.console import as_utc, err, history_option, open_settings, out, since_option, until_option


@click.command()
@click.option(
    "--rules",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="File of alert rules to compare with those of the settings.",
)
@click.option(
    "--incidents",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Known incidents against which the rules are measured: CSV or TOML with stream, began, ended and optionally"
    " rendition.",
)
@click.option(
    "--again", "rescore", is_flag=True, help="Fetch and score the stored segments again, and compare ids and scores."
)
@click.option("--stream", default="", help="Only the stream with this id.")
@since_option
@until_option
@history_option
@click.pass_context
def replay(
    ctx: click.Context,
    rules: Path | None,
    incidents: Path | None,
    rescore: bool,  # noqa: FBT001 - click passes flags as positional booleans
    stream: str,
    since: datetime | None,
    until: datetime | None,
    history: str | None,
) -> None:
    """Judge the stored outcomes by other alert rules, or score the stored segments again.

    Prints the alerts by the rules of the settings and by those of --rules, and their number per stream-day. With
    --incidents also which incidents were detected, after which delay, and how many alerts were false. With --again
    every segment that can still be fetched is scored again; exit code 1 means that an id or a score differs.
    """
    from pipelines.commands.replay import HistoryFilter, observe_stored_segments, replay_rules

    settings = open_settings(ctx.obj)
    span = HistoryFilter(stream_id=stream, since=as_utc(since), until=as_utc(until))
    path = settings.history.at_location(history).location
    if rescore:
        differing = asyncio.run(
            observe_stored_segments(settings, path, span=span, on_segment=lambda line: out.print(line, markup=False))
        )
        ctx.exit(1 if differing else 0)
    from pipelines.console.alerts import detection_table
    from pipelines.console.outcomes import rule_change_table

    before, after = replay_rules(settings, path, rules=rules, span=span, incidents=incidents)
    out.print(rule_change_table(before.alerts, after.alerts))
    rows = [("old", before.report, before.report_by_rule)]
    if rules:
        rows.append(("new", after.report, after.report_by_rule))
    out.print(detection_table(rows))


@click.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option(
    "--partitioned",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write a folder of Parquet files by date and hour instead of one file; later runs add only new outcomes.",
)
@click.option(
    "--by",
    "period",
    type=click.Choice(["hour", "day"]),
    default="hour",
    help="With --partitioned: the time span of one file.",
)
@click.option(
    "--format", "file_format", type=click.Choice(["parquet", "csv", "ndjson"]), help="Default: from the suffix of FILE."
)
@click.option("--stream", default="", help="Only the stream with this id.")
@click.option("--rendition", default="", help="Only this rendition.")
@since_option
@until_option
@history_option
@click.pass_obj
def export(
    config: Path | None,
    file: Path | None,
    folder: Path | None,
    period: Literal["hour", "day"],
    file_format: str | None,
    stream: str,
    rendition: str,
    since: datetime | None,
    until: datetime | None,
    history: str | None,
) -> None:
    """Write the history to FILE as Parquet, CSV or NDJSON (the CloudEvents themselves)."""
    from vqmon.transport.export.tables import export_outcomes
    from vqmon.transport.history.history import open_history

    if (file is None) == (folder is None):
        raise click.UsageError("give a FILE, or a folder with --partitioned")
    if folder is not None and any((file_format, stream, rendition, since, until)):
        raise click.UsageError("--partitioned always writes the whole history: it takes no other filter or format")
    with open_history(open_settings(config).history.at_location(history).location, mode="read") as stored:
        if folder is not None:
            from vqmon.transport.export.partitioned import export_partitions

            summary = export_partitions(stored, folder, period=period, now=datetime.now(UTC))
            err.print(f"{summary.rows} rows in {summary.files} files of {folder}")
            return
        assert file is not None
        rows = export_outcomes(
            stored.documents,
            file,
            file_format=file_format,
            stream_id=stream,
            rendition=rendition,
            since=as_utc(since),
            until=as_utc(until),
        )
    err.print(f"{rows} rows in {file}")
