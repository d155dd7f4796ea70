"""The commands about scorers: list them, fit a bridge from an old scorer to a new one, export and train them."""

import importlib
from datetime import datetime
from pathlib import Path

import click

from vqmon.cli.console import as_utc, history_option, open_settings, out, since_option, until_option
from vqmon.errors import SettingsError, install_extra
from vqmon.plurals import plural


@click.group(invoke_without_command=True)
@click.pass_context
def scorers(ctx: click.Context) -> None:
    """List the installed scorers, or fit a bridge between two of them."""
    if ctx.invoked_subcommand is not None:
        return
    from pipelines.console.outcomes import scorers_table
    from vqmon.scoring.manifests.frame_scorer import find_bundles
    from vqmon.scoring.scorers.registry import builtin_folder, load_manifest

    settings = open_settings(ctx.obj)
    scoring = settings.scoring
    bundles = find_bundles([builtin_folder(), *scoring.folders])
    used = (*scoring.scorers, *scoring.heavy, *scoring.shadows, *scoring.references)
    out.print(scorers_table([load_manifest(path) for _, path in sorted(bundles.items())], used=used))


@scorers.command()
@click.argument("old")
@click.argument("new")
@click.option("--output", type=click.Path(path_type=Path), help="File to write; default: OLD--NEW.bridge.json.")
@click.option("--stream", default="", help="Only segments of the stream with this id.")
@since_option
@until_option
@history_option
@click.pass_obj
def bridge(
    config: Path | None,
    old: str,
    new: str,
    output: Path | None,
    stream: str,
    since: datetime | None,
    until: datetime | None,
    history: str | None,
) -> None:
    """Fit a bridge: a map from the scores of OLD to the scores of NEW.

    OLD and NEW are scorer ids such as lite@1. The bridge is fitted to the segments in the history that both scored, so
    first let NEW run beside OLD for some days (scoring.shadows): its scores are in the events and raise no alerts.
    Prints the error of the bridge on segments that were held out of the fit.
    """
    from pipelines.commands.bridge import fit_bridge_from_outcomes, save_bridge
    from vqmon.transport.history.history import open_history

    with open_history(open_settings(config).history.at_location(history).location, mode="read") as stored:
        outcomes = stored.documents.outcomes_in_write_order(stream_id=stream, since=as_utc(since), until=as_utc(until))
        fitted = fit_bridge_from_outcomes(outcomes, old, new)
    file = output or Path(f"{old}--{new}.bridge.json")
    save_bridge(fitted, file)
    out.print(
        f"{fitted.kind} bridge {old} -> {new}, fitted to {plural(fitted.count, 'segment')} with scores from "
        f"{fitted.old_score_min:.1f} to {fitted.old_score_max:.1f}: RMS error {fitted.error_rms:.2f} points (95 % of "
        f"segments within {fitted.error_p95:.2f}), rank correlation {fitted.correlation:.3f}; written to {file}",
        markup=False,
    )


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def models(arguments: tuple[str, ...]) -> None:
    """Export published weights as scorers, verify them, or train scorers of your own; needs the extra `models`.

    \b
    vqmon models export NAME --weights FILE    a bundle for scoring.folders
    vqmon models verify NAME                   the bundle against its golden values
    vqmon models train NAME --csv scores.csv   a scorer from your own scores
    vqmon models export --help                 every name and option; docs/scorers has a page per system
    """
    try:
        # By its name, since nothing that the daemon runs imports it: it brings torch.
        command = importlib.import_module("models.__main__")
    except ModuleNotFoundError as error:
        if not arguments or {"--help", "-h"} & set(arguments):
            # the full list of names and options is that of what is not installed
            click.echo(click.get_current_context().get_help())
            click.echo(f"\nEvery name and option is listed once {error.name} is there: {install_extra('models')}")
            return
        raise SettingsError(f"`vqmon models` needs {error.name}: {install_extra('models')}") from error
    command.main(arguments, program="vqmon models")
