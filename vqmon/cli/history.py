"""The commands that read the history: replay, export."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import click

from vqmon.cli.console import as_utc, err, open_settings, out


@click.command()
@click.option(
    "--rules",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Other alert rules to try on what is stored.",
)
@click.option(
    "--incidents",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="What is known to have happened: CSV or TOML with stream, began, ended and, if wanted, rendition.",
)
@click.option("--again", is_flag=True, help="Look at the stored segments again and compare ids and scores.")
@click.option("--stream", default="", help="Only this stream.")
@click.option("--since", type=click.DateTime(), help="Only segments from this moment (UTC) on.")
@click.option("--until", type=click.DateTime(), help="Only segments before this moment (UTC).")
@click.option("--history", help="SQLite file or postgresql:// address; default: as the settings say.")
@click.pass_context
def replay(
    ctx: click.Context,
    rules: Path | None,
    incidents: Path | None,
    again: bool,  # noqa: FBT001 - click gives flags so
    stream: str,
    since: datetime | None,
    until: datetime | None,
    history: str | None,
) -> None:
    """Run stored events through other alert rules, or look at the segments again.

    Shows which alerts the rules of the settings and the new ones give, and how many per stream-day; with --incidents
    also which of these were found, how soon, and how many alerts were for nothing. With --again every stored segment
    that can still be fetched is scored anew: the same id and the same score are expected.
    """
    from pipelines.commands import replay as old

    settings = open_settings(ctx.obj)
    span = old.Span(stream_id=stream, since=as_utc(since), until=as_utc(until))
    path = settings.history.at_location(history).location
    if again:
        differing = asyncio.run(
            old.look_again(settings, path, span=span, told=lambda line: out.print(line, markup=False))
        )
        ctx.exit(1 if differing else 0)
    from pipelines.console.alerts import appraisal_table
    from pipelines.console.outcomes import rule_change_table

    before, after = old.judge_again(settings, path, rules=rules, span=span, incidents=incidents)
    out.print(rule_change_table(before.alerts, after.alerts))
    rows = [("old", before.appraisal, before.by_rule), *([("new", after.appraisal, after.by_rule)] if rules else [])]
    out.print(appraisal_table(rows))


@click.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option(
    "--partitioned",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Instead of one file: a folder of Parquet files by date and hour; run each hour, it adds what is new.",
)
@click.option("--by", "each", type=click.Choice(["hour", "day"]), default="hour", help="Of --partitioned: a file per.")
@click.option(
    "--format", "form", type=click.Choice(["parquet", "csv", "ndjson"]), help="Default: by the file's ending."
)
@click.option("--stream", default="", help="Only this stream.")
@click.option("--rendition", default="", help="Only this rendition.")
@click.option("--since", type=click.DateTime(), help="Only segments from this moment (UTC) on.")
@click.option("--until", type=click.DateTime(), help="Only segments before this moment (UTC).")
@click.option("--history", help="SQLite file or postgresql:// address; default: as the settings say.")
@click.pass_obj
def export(
    config: Path | None,
    file: Path | None,
    folder: Path | None,
    each: Literal["hour", "day"],
    form: str | None,
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
        raise click.UsageError("name a FILE, or a folder with --partitioned")
    if folder is not None and any((form, stream, rendition, since, until)):
        raise click.UsageError("--partitioned writes all of the history: no other choice goes with it")
    with open_history(open_settings(config).history.at_location(history).location, mode="read") as stored:
        if folder is not None:
            from vqmon.transport.export.partitioned import export_partitions

            summary = export_partitions(stored, folder, each=each, now=datetime.now(UTC))
            err.print(f"{summary.rows} rows in {summary.files} files of {folder}")
            return
        assert file is not None
        rows = export_outcomes(
            stored.documents,
            file,
            form=form,
            stream_id=stream,
            rendition=rendition,
            since=as_utc(since),
            until=as_utc(until),
        )
    err.print(f"{rows} rows in {file}")
