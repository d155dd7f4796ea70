"""The commands that read the history, `vqmon replay` and `vqmon export`, and those of `vqmon history`."""

import asyncio
import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import click

from vqmon.cli.console import (
    EXIT_FAILED,
    EXIT_UNSCORED,
    OutputFile,
    as_utc,
    err,
    history_option,
    open_settings,
    out,
    since_option,
    until_option,
)
from vqmon.errors import SettingsError
from vqmon.plurals import plural
from vqmon.terminal import Progress


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
    every segment that can still be fetched is scored again; exit code 1 means that an id or a score differs, 3 that
    segments could not be fetched. Addresses are stored without query and user part: [fetch.credentials] has what a
    host wants to see.
    """
    from pipelines.commands.replay import HistoryFilter, observe_stored_segments, replay_rules

    settings = open_settings(ctx.obj)
    span = HistoryFilter(stream_id=stream, since=as_utc(since), until=as_utc(until))
    path = settings.history.at_location(history).location
    if rescore:
        second = asyncio.run(
            observe_stored_segments(settings, path, span=span, on_segment=lambda line: out.print(line, markup=False))
        )
        for note in second.notes:
            err.print(note, markup=False)
        ctx.exit(EXIT_FAILED if second.differing_count else EXIT_UNSCORED if second.unfetched_count else 0)
    from pipelines.console.alerts import detection_table
    from pipelines.console.outcomes import rule_change_table

    before, after = replay_rules(settings, path, rules=rules, span=span, incidents=incidents)
    out.print(rule_change_table(before.alerts, after.alerts if rules else None))
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
            err.print(f"{plural(summary.rows, 'row')} in {plural(summary.files, 'file')} of {folder}")
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
    err.print(f"{plural(rows, 'row')} in {file}")


@click.group()
def history() -> None:
    """Back up or check the history, or save what can be read of a damaged one."""


@history.command()
@click.argument("file", type=OutputFile())
@history_option
@click.pass_obj
def backup(config: Path | None, file: Path, history: str | None) -> None:
    """Copy the SQLite history into FILE, beside a running daemon.

    FILE gets the history as it is when the command begins; it is replaced when the copy is whole and sound.
    """
    from vqmon.transport.recovery.backup import back_up

    location = open_settings(config).history.at_location(history).location
    if not isinstance(location, Path):
        command = f"pg_dump --format=custom --schema=vqmon --file={shlex.quote(str(file))} {shlex.quote(str(location))}"
        raise SettingsError(f"a PostgreSQL history is backed up by its own tools: {command}")
    with Progress("copying") as progress:
        size_bytes = back_up(location, file, on_progress=lambda done, total: progress.update(done=done, total=total))
    err.print(f"{size_bytes:,} bytes in {file}", markup=False)


@history.command(name="check")
@history_option
@click.pass_context
def check_history(ctx: click.Context, history: str | None) -> None:
    """Read the whole history and print what is damaged; exit code 1 when anything is.

    Checks every page (SQLite), that every block of events unpacks, and that every outcome has its event.
    """
    from vqmon.transport.recovery.integrity import check_integrity

    report = check_integrity(open_settings(ctx.obj).history.at_location(history).location)
    out.print(f"{plural(report.outcomes, 'outcome')}, {plural(report.blocks, 'block')} of events")
    for line in (*report.page_problems, *report.block_problems):
        out.print(line, markup=False)
    if report.is_sound:
        out.print("nothing is damaged")
        return
    out.print(
        f"damaged: {plural(report.damaged_blocks, 'block')} of events; "
        f"{plural(report.outcomes_without_event, 'outcome')} without an event"
    )
    out.print("restore a backup, or save what can be read: vqmon history salvage OLD NEW")
    ctx.exit(EXIT_FAILED)


@history.command()
@click.argument("old", type=click.Path(path_type=Path))
@click.argument("new", type=OutputFile())
@click.pass_obj
def salvage(config: Path | None, old: Path, new: Path) -> None:
    """Copy what can be read of the damaged SQLite history OLD into the new history NEW.

    Stop the daemon first. OLD stays as it is. An outcome whose event is lost is left out.
    """
    from vqmon.transport.recovery.salvage import salvage as salvage_history

    open_settings(config)
    counts = salvage_history(old, new)
    names = {"outcome": "outcomes", "alert": "alerts", "ended": "ends", "marker": "markers"}
    for table, name in names.items():
        if table in counts:
            out.print(f"{name}: {counts[table].saved} saved, {counts[table].lost} lost")
    for table, count in counts.items():
        if table not in names and count.lost:
            out.print(f"table {table}: {plural(count.saved, 'row')} saved, {count.lost} lost")
    err.print(f"the new history is {new}", markup=False)
