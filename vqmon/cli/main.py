"""The `vqmon` command: its group, and the commands that run, watch, score, serve and check."""

import asyncio
import contextlib
import errno
import os
import signal
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vqmon.cli.alerts import deploy, end, notify, switch_inputs, tune
from vqmon.cli.console import (
    EXIT_FAILED,
    EXIT_STORE,
    EXIT_UNSCORED,
    EXIT_USAGE,
    OutputFile,
    err,
    for_option,
    history_option,
    open_settings,
    out,
    prompt_option,
)
from vqmon.cli.evaluation import calibrate, evaluate
from vqmon.cli.experiments import compare, pictures, plan
from vqmon.cli.history import export, replay
from vqmon.cli.history import history as history_group
from vqmon.cli.kafka import publish, record, tail, topics
from vqmon.cli.ladder import ladder
from vqmon.cli.scorers import models, scorers
from vqmon.core.types import Alert, Outcome
from vqmon.errors import MEMORY_REMEDY, SettingsError, StoreError, VqmonError
from vqmon.settings.load import Settings, load_settings
from vqmon.terminal import Progress
from vqmon.whole_files import write_problem

if TYPE_CHECKING:
    from pipelines.observe.observer import Observation
    from pipelines.observe.playlists.partial_verdicts import PartialVerdict

_FILE = click.Path(path_type=Path, dir_okay=False)
_LOCATED_FRAMES = 2
"""Of how many frames per segment the report says where the scorers find them worse."""


_MAX_SUMMARY_CHARACTERS = 400


class _Group(click.Group):
    """Prints the errors of vqmon as one message instead of a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except VqmonError as error:
            err.print(f"vqmon: {error}", style="red", markup=False)
            ctx.exit(EXIT_STORE if isinstance(error, StoreError) else EXIT_USAGE)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            where = error.filename or "the output, or the folder for temporary files"
            err.print(f"vqmon: {where}: {write_problem(error)}", style="red", markup=False)
            _discard_output()
            ctx.exit(EXIT_USAGE)
        except MemoryError as error:
            text = f"vqmon: too little memory: {error or 'none is left'}; {MEMORY_REMEDY}"
            err.print(text, style="red", markup=False)
            ctx.exit(EXIT_FAILED)
        except KeyboardInterrupt:
            err.print("vqmon: stopped")
            ctx.exit(130)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands with their whole first sentence, wrapped; click would cut it off at the width."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [
            (name, command.get_short_help_str(limit=_MAX_SUMMARY_CHARACTERS)) for name, command in commands if command
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def _discard_output() -> None:
    """Have what is left to print go nowhere: Python's own attempt at its end would be an error anew."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(version("vqmon"), message="vqmon %(version)s")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="Settings file; default: the first of $VQMON_CONFIG, ./vqmon.toml and /etc/vqmon/vqmon.toml that exists.",
)
@click.pass_context
def main(ctx: click.Context, config: Path | None) -> None:
    """Score the video quality of every segment and alert when it gets worse.

    \b
    Try:  vqmon score clip.mp4            one score per file or playlist segment
          vqmon init https://.../x.m3u8   write settings for a stream and check them
          vqmon watch https://.../x.m3u8  follow a live stream and print alerts
          vqmon web                       serve the web pages at http://127.0.0.1:8080
    \b
    Exit codes: 0 success, 1 a check failed, 2 wrong settings or usage, 3 a segment could not be scored,
    4 a history that exists cannot be opened, read or written (2 is for any other file that cannot be).
    """
    ctx.obj = config
    # a shell that ignores the ends of its children leaves that to us: exit codes of decoders would be lost
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


@main.command()
@for_option
@click.pass_obj
def run(config: Path | None, for_seconds: float | None) -> None:
    """Run the daemon until SIGTERM.

    It watches the streams of the settings or, with source.kind = "kafka", is a worker of a Kafka consumer group. SIGHUP
    makes it go on with new settings and rules, without losing a segment.
    """
    from pipelines.daemon import one_host
    from pipelines.fleet import worker

    settings = open_settings(config)
    serve = worker.run if settings.source.kind == "kafka" else one_host.run
    asyncio.run(serve(settings, for_seconds=for_seconds, load=lambda: _reload_settings(settings, config)))


def _reload_settings(current: Settings, config: Path | None) -> Settings:
    """The settings as they are now, with rules that load; raises SettingsError for those that need a restart."""
    from pipelines.service.wiring import load_rules

    settings = load_settings(config)
    if (settings.source.kind == "kafka") != (current.source.kind == "kafka"):
        raise SettingsError("source.kind: a daemon on one host becomes a worker over Kafka, or back, only by a restart")
    load_rules(settings)
    return settings


@main.command()
@click.argument("url")
@click.option("--stream", default="", help="Id of the stream; default: derived from the URL.")
@history_option
@for_option
@click.pass_obj
def watch(config: Path | None, url: str, stream: str, history: str | None, for_seconds: float | None) -> None:
    """Follow one HLS or DASH playlist and print its scores and alerts.

    A later run resumes where this one stopped. For the web pages run `vqmon web` at the same time.
    """
    from pipelines.daemon import one_host
    from pipelines.daemon.first_request import check_first_request
    from pipelines.service.history_thread import open_history_thread
    from pipelines.service.wiring import settings_for_watch

    settings = settings_for_watch(open_settings(config), url, stream_id=stream, history=history)
    asyncio.run(check_first_request(settings))
    err.print(
        f"history {settings.history.location} · pages: vqmon web --history {settings.history.location}", style="dim"
    )
    # somebody reads the terminal, and names another file at once when there is no history to write to
    asyncio.run(
        one_host.run(
            settings,
            for_seconds=for_seconds,
            on_publish=_print_published,
            on_partial=_print_partial,
            open_thread=open_history_thread,
        )
    )


@main.command()
@click.argument("addresses", metavar="FILE|URL...", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="One CloudEvent per line instead of a table.")
@click.option(
    "--scorer", "scorers", multiple=True, help="Scorer to use: name, name@version or name.task; may be repeated."
)
@click.option(
    "--sampling", type=click.Choice(["exact", "keyframes"]), help="How frames are sampled; default: decode.sampling."
)
@click.option("--max-bytes", type=click.IntRange(1, 2**40), help="Largest file to fetch; default: fetch.max_bytes.")
@click.option("--deadline", type=click.FloatRange(1, 86_400), help="Seconds allowed to decode one file; default: 600.")
@click.option("--reference", default="", help="Media to compare with by the measures of scoring.references.")
@click.option(
    "--measure",
    "measures",
    multiple=True,
    help="Measure that needs no reference, such as niqe or cambi; may be repeated; default: scoring.measures.",
)
@prompt_option
@click.option("--csv", "csv_file", type=OutputFile(), help="Also write a row per segment and scorer to a CSV.")
@click.option("--html", type=OutputFile(), help="Also write a report with pictures to one HTML file.")
@click.option(
    "--history",
    metavar="LOCATION",
    is_flag=False,
    flag_value="",
    help="Also write to a history, where `vqmon web` shows the segments; default: that of the settings.",
)
@click.option("--min", "minimum", type=click.FloatRange(0, 100), help="Exit with 1 when a score is below this.")
@click.option("--against", type=_FILE, help="Exit with 1 when a score fell below that of an earlier `--json` output.")
@click.option(
    "--tolerance",
    type=click.FloatRange(0, 100),
    default=1.0,
    show_default=True,
    help="Points that a score may lie below that of --against.",
)
@click.pass_context
def score(
    ctx: click.Context,
    addresses: tuple[str, ...],
    as_json: bool,  # noqa: FBT001 - click gives flags so
    scorers: tuple[str, ...],
    sampling: str | None,
    max_bytes: int | None,
    deadline: float | None,
    reference: str,
    measures: tuple[str, ...],
    prompt: str,
    csv_file: Path | None,
    html: Path | None,
    history: str | None,
    minimum: float | None,
    against: Path | None,
    tolerance: float,
) -> None:
    """Score media files, folders of them (without their sub-folders), or HLS or DASH playlists, once.

    Prints one line per segment: its score 0-100 (higher is better), or why it could not be scored. With --reference, a
    file, folder or playlist, also PSNR, SSIM and other measures of what was lost against it. With --min or --against
    it is a gate for CI: it exits with 1 when a score is too low, and names each on standard error. It exits with 3 when
    something could not be scored by each scorer, or could not be compared with its reference.
    """
    from pipelines.commands.score_gate import gate_failures, read_golden
    from pipelines.service.wiring import settings_for_score
    from vqmon.transport.wire import cloudevents

    golden = read_golden(against) if against is not None else []
    settings = settings_for_score(
        open_settings(ctx.obj),
        scorers=scorers,
        measures=measures,
        sampling=sampling,
        max_bytes=max_bytes,
        deadline_seconds=deadline,
    )
    observations = _score_with_progress(
        settings, addresses, prompt=prompt, reference=reference, located_frames=_LOCATED_FRAMES if html else 0
    )
    outcomes = [observation.outcome for observation in observations]
    if as_json:
        for outcome in outcomes:
            click.echo(cloudevents.encode_outcome(outcome, source="vqmon:score"))
    else:
        from pipelines.console.outcomes import outcomes_table

        out.print(outcomes_table(outcomes))
    _write_scores(settings, observations, csv_file=csv_file, html=html, history=history)
    failures = gate_failures(outcomes, minimum=minimum, golden=golden, tolerance=tolerance)
    _exit_with(ctx, outcomes, failures)


@main.command()
@history_option
@click.option("--host", help="Address to listen on; default: web.host of the settings.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on; default: web.port of the settings.")
@click.pass_obj
def web(config: Path | None, history: str | None, host: str | None, port: int | None) -> None:
    """Serve the web pages: fleet, streams, segments, alerts and experiments."""
    from pipelines.commands.serve_web import serve_web
    from pipelines.daemon.deploy_markers import record_deployment

    settings = open_settings(config)
    settings = settings.model_copy(update={"history": settings.history.at_location(history)})
    location = settings.history.location
    host, port = host or settings.web.host, settings.web.port if port is None else port
    if port:
        shown = f"[{host}]" if ":" in host else host
        err.print(f"pages: http://{shown}:{port} · history {location}", style="dim", markup=False)
    serve_web(
        settings,
        location,
        host=host,
        port=port,
        announce=lambda marker: asyncio.run(record_deployment(settings, marker)),
    )


@main.command()
@click.option("--offline", is_flag=True, help="Skip the checks that need the network.")
@click.pass_context
def check(ctx: click.Context, offline: bool) -> None:  # noqa: FBT001 - click gives flags so
    """Check settings, rules, scorers, history and sources; print what is wrong and how to fix it."""
    ctx.exit(0 if _print_checks(ctx.obj, offline=offline) else 1)


def _print_checks(config: Path | None, *, offline: bool) -> bool:
    """Print every check as it ends; returns whether all passed."""
    from pipelines.commands.installation.check import run_checks

    has_passed = True
    for result in run_checks(config, offline=offline):
        has_passed = has_passed and result.passed
        mark = "[green]✓[/green]" if result.passed else "[red]✗[/red]"
        out.print(f"{mark} {result.subject:9}", end=" ")
        out.print(result.text, markup=False)
    return has_passed


@main.command()
@click.argument("address", required=False)
@click.option("--stream", default="", help="Id of the stream; default: derived from the address.")
@click.option("--output", type=_FILE, default=Path("vqmon.toml"), show_default=True, help="The settings file to write.")
@click.option("--offline", is_flag=True, help="Skip the checks that need the network.")
@click.pass_context
def init(ctx: click.Context, address: str | None, stream: str, output: Path, offline: bool) -> None:  # noqa: FBT001
    """Write settings for ADDRESS, an HLS or DASH playlist or a folder of media files, and check them.

    Asks for the address when it is not given.
    """
    from pipelines.commands.installation.setup import settings_text, write_settings

    address = address or click.prompt("Address of an HLS or DASH playlist, or a folder of media files")
    write_settings(settings_text(address, stream_id=stream), output)
    out.print(f"wrote {output}", markup=False)
    has_passed = _print_checks(output, offline=offline)
    config = "" if output == Path("vqmon.toml") else f" --config {output}"
    following = f"vqmon{config} run, and vqmon{config} web for the pages"
    if not has_passed:
        following = f"put right what ✗ names, in {output} or at the stream; then vqmon{config} check"
    out.print(f"next: {following}", markup=False)
    ctx.exit(0 if has_passed else 1)


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--runbooks", metavar="URL", default="", help="Where docs/runbooks is served, for the Prometheus rules.")
def files(folder: Path, runbooks: str) -> None:
    """Write the files that come with vqmon into FOLDER: settings, rules, units, dashboards, SQL, schemas."""
    from pipelines.commands.installation.setup import write_shipped_files

    for path in write_shipped_files(folder, runbooks=runbooks):
        out.print(str(path), markup=False)


def _score_with_progress(
    settings: Settings, addresses: Sequence[str], *, prompt: str, reference: str, located_frames: int
) -> "list[Observation]":
    from pipelines.commands.score import score_media

    with Progress("scoring") as progress:
        return asyncio.run(
            score_media(
                settings,
                addresses,
                prompt=prompt,
                reference=reference,
                located_frames=located_frames,
                on_segment_count=lambda count: progress.update(total=count),
                on_observation=lambda _: progress.advance(),
            )
        )


def _exit_with(ctx: click.Context, outcomes: "Sequence[Outcome]", failures: Sequence[str]) -> None:
    """Print why a build must not pass, and end with the exit code of `vqmon score`."""
    from pipelines.commands.score_gate import is_incomplete

    for failure in failures:
        err.print(failure, style="red", markup=False)
    if any(is_incomplete(outcome) for outcome in outcomes):
        ctx.exit(EXIT_UNSCORED)
    if failures:
        ctx.exit(EXIT_FAILED)


def _write_scores(
    settings: Settings,
    observations: "Sequence[Observation]",
    *,
    csv_file: Path | None,
    html: Path | None,
    history: str | None,
) -> None:
    """Write what the options of `vqmon score` ask for; `history` is "" for that of the settings."""
    from pipelines.commands.score_gate import publish_scores, write_score_report
    from vqmon.transport.export.tables import write_outcomes_csv

    if csv_file is not None:
        write_outcomes_csv([observation.outcome for observation in observations], csv_file)
    if html is not None:
        write_score_report(observations, html, title=settings.web.title)
    if history is not None:
        publish_scores(observations, settings.history.at_location(history or None).location)


def _print_published(outcomes: Sequence[Outcome], alerts: Sequence[Alert]) -> None:
    from pipelines.console.outcomes import alert_line, outcome_line

    for outcome in outcomes:
        out.print(outcome_line(outcome))
    for alert in alerts:
        out.print(alert_line(alert))


def _print_partial(verdict: "PartialVerdict") -> None:
    from pipelines.console.outcomes import partial_line

    out.print(partial_line(verdict))


for command in (
    replay,
    export,
    publish,
    record,
    tail,
    topics,
    deploy,
    end,
    notify,
    switch_inputs,
    tune,
    pictures,
    scorers,
    models,
    compare,
    plan,
    evaluate,
    calibrate,
    ladder,
    history_group,
):
    main.add_command(command)
