"""The commands about scorers: what there is, and how an old one compares with a new one."""

from datetime import datetime
from pathlib import Path

import click

from vqmon.cli.console import out, ready, utc


@click.group(invoke_without_command=True)
@click.pass_context
def scorers(ctx: click.Context) -> None:
    """List the scorers that can be used here."""
    if ctx.invoked_subcommand is not None:
        return
    from pipelines.console.outcomes import scorers_table
    from vqmon.scoring.manifests.frame_scorer import find_bundles
    from vqmon.scoring.scorers.registry import builtin_folder, load_any

    settings = ready(ctx.obj)
    scoring = settings.scoring
    bundles = find_bundles([builtin_folder(), *scoring.folders])
    used = (*scoring.scorers, *scoring.heavy, *scoring.shadows)
    out.print(scorers_table([load_any(path) for _, path in sorted(bundles.items())], used=used))


@scorers.command()
@click.argument("old")
@click.argument("new")
@click.option("--output", type=click.Path(path_type=Path), help="Default: OLD--NEW.bridge.json here.")
@click.option("--stream", default="", help="Only segments of this stream.")
@click.option("--since", type=click.DateTime(), help="Only segments from this moment (UTC) on.")
@click.option("--until", type=click.DateTime(), help="Only segments before this moment (UTC).")
@click.option("--history", help="SQLite file or postgresql:// address; default: as the settings say.")
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
    """Fit what scores of OLD would have been by NEW, where both looked at the same segments.

    Let NEW look beside OLD for some days first (scoring.shadows): it is in the events and never alerts. Prints the
    error on segments that the fit had not seen.
    """
    from pipelines.commands import bridge as bridges
    from vqmon.transport.history.history import open_history

    with open_history(ready(config).history.at(history).place, mode="read") as stored:
        outcomes = stored.documents.outcomes_in_write_order(stream_id=stream, since=utc(since), until=utc(until))
        found = bridges.bridge(outcomes, old, new)
    file = output or Path(f"{old}--{new}.bridge.json")
    bridges.store(found, file)
    out.print(
        f"{found.kind} bridge {old} -> {new} from {found.count} segments with scores {found.old_score_min:.1f} to "
        f"{found.old_score_max:.1f}: error {found.error_rms:.2f} points (95 % within {found.error_p95:.2f}), "
        f"rank correlation {found.correlation:.3f}; in {file}",
        soft_wrap=True,
        markup=False,
    )
