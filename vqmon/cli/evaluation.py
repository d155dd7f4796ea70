"""The commands that measure scorers against human scores: `vqmon evaluate` and `vqmon calibrate`."""

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vqmon.cli.console import EXIT_FAILED, OutputFile, err, open_settings, out
from vqmon.settings.load import Settings
from vqmon.terminal import Progress

if TYPE_CHECKING:
    from pipelines.commands.evaluation.datasets import RatedData
    from pipelines.commands.evaluation.predictions import Predictions, Predictors

_data_option = click.option(
    "--data",
    type=click.Path(path_type=Path, exists=True),
    required=True,
    help="CSV of path,score, or the file or folder of a public data set; see docs/evaluation.md.",
)
_media_option = click.option(
    "--media",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder of the pictures or videos; default: that of the data, and the folders of its layout.",
)
_cache_option = click.option(
    "--cache",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File in which scores are kept, so that a stopped run continues; default: in ~/.cache/vqmon.",
)


@click.command()
@click.argument("scorers", metavar="SCORER...", nargs=-1, required=True)
@_data_option
@_media_option
@click.option("--group", "group_column", metavar="COLUMN", default="", help="Column of the data to group items by.")
@click.option(
    "--draws", type=click.IntRange(100, 100_000), default=1000, show_default=True, help="Bootstrap resamples."
)
@_cache_option
@click.option("--json", "as_json", is_flag=True, help="Print the evaluation, with every item, as one JSON object.")
@click.option("--html", type=OutputFile(), help="Also write a report to one HTML file.")
@click.option(
    "--max-loss",
    type=click.FloatRange(0, 1),
    metavar="SRCC",
    help="Fail with exit code 1 when the SRCC of a scorer is lower than that of the first one by more, e.g. 0.005.",
)
@click.pass_context
def evaluate(
    ctx: click.Context,
    scorers: tuple[str, ...],
    data: Path,
    media: Path | None,
    group_column: str,
    draws: int,
    cache: Path | None,
    as_json: bool,  # noqa: FBT001 - click gives flags so
    html: Path | None,
    max_loss: float | None,
) -> None:
    """Say how well scorers agree with people, on pictures or videos with human scores.

    SCORER is a name, name@version or name.task as for `vqmon score`, signal:NAME, or a reference measure such as ssim,
    which compares each file with the one in the column `reference` of the data. Prints SRCC, PLCC, KRCC, RMSE and
    the share of pairs in the right order, with 95 % intervals; per group and within groups; whether scorers differ;
    and the worst disagreements.
    """
    from pipelines.commands.evaluation.datasets import read_rated_files
    from pipelines.commands.evaluation.evaluate import evaluate_predictions, evaluation_json, write_evaluation_report
    from pipelines.commands.evaluation.predictions import split_predictors
    from pipelines.console.evaluation import evaluation_lines

    if max_loss is not None and len(scorers) < 2:
        raise click.UsageError("--max-loss compares scorers with the first one: name two or more")
    rated_data = read_rated_files(data, media=media, group_column=group_column)
    settings, predictions = _predict(open_settings(ctx.obj), split_predictors(scorers), rated_data, cache=cache)
    with Progress("evaluating") as progress:
        evaluated = evaluate_predictions(
            rated_data, predictions, draws=draws, on_scorer=lambda scorer: progress.update(label=f"evaluating {scorer}")
        )
    if html is not None:
        with Progress("writing the report"):
            write_evaluation_report(evaluated, html, settings, title=settings.web.title)
        err.print(f"report in {html}", markup=False)
    if as_json:
        click.echo(evaluation_json(evaluated))
    else:
        for line in evaluation_lines(evaluated):
            out.print(line)
    if max_loss is not None:
        losses = evaluated.evaluation.srcc_losses()
        for scorer, loss in losses.items():
            measured = "not determined" if loss is None else f"{loss:+.4f}"
            err.print(
                f"{scorer}: SRCC lost to {evaluated.evaluation.scorers[0].scorer} {measured}, {max_loss:g} allowed",
                markup=False,
            )
        if any(loss is None or loss > max_loss for loss in losses.values()):
            ctx.exit(EXIT_FAILED)


@click.command()
@click.argument("scorer")
@_data_option
@_media_option
@click.option(
    "--scale",
    nargs=2,
    type=float,
    metavar="WORST BEST",
    help="Human scores that become 0 and 100; default: those of the layout, unknown for a plain CSV.",
)
@click.option(
    "--coverage",
    type=click.FloatRange(0.5, 0.99),
    default=0.9,
    show_default=True,
    help="Probability with which the stated interval holds the mean human score.",
)
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("scorers"),
    show_default=True,
    help="Folder for the new version; add it to scoring.folders.",
)
@_cache_option
@click.option("--html", type=OutputFile(), help="Also write a report to one HTML file.")
@click.pass_obj
def calibrate(
    config: Path | None,
    scorer: str,
    data: Path,
    media: Path | None,
    scale: tuple[float, float] | None,
    coverage: float,
    folder: Path,
    cache: Path | None,
    html: Path | None,
) -> None:
    """Fit SCORER's scale of 0 to 100 to human scores, and write it as a new version.

    The new manifest has the map from native values to 0..100, the percentiles of your data, and an interval for the
    mean human score; its graphs are the same files. Every event of that version carries them.
    """
    from pipelines.commands.evaluation.calibrate import calibrate_scorer, write_calibration_report, write_scorer
    from pipelines.commands.evaluation.datasets import read_rated_files
    from pipelines.commands.evaluation.predictions import Predictors

    if scale is not None and not scale[0] < scale[1]:
        raise click.BadParameter(
            f"{scale[0]:g} is not below {scale[1]:g}; higher scores are better", param_hint="--scale"
        )
    rated_data = read_rated_files(data, media=media)
    predictors = Predictors(scorers=[scorer], signals=(), measures=())
    settings, predictions = _predict(open_settings(config), predictors, rated_data, cache=cache)
    calibrated = calibrate_scorer(settings, scorer, rated_data, predictions, scale=scale, coverage=coverage)
    path = write_scorer(calibrated, folder)
    if html is not None:
        write_calibration_report(calibrated, html, title=settings.web.title)
        err.print(f"report in {html}", markup=False)
    fitted = calibrated.fitted
    for remark in calibrated.remarks:
        err.print(remark, style="yellow", markup=False)
    out.print(
        f"{calibrated.new.id}, calibrated from {calibrated.old.id} on {fitted.items} items: RMS error on held-out "
        f"items {fitted.error_rms:.2f} points of 0..100 (before: {calibrated.old_error_rms:.2f}), 95 % of items within "
        f"{fitted.error_p95:.2f}; the interval stated for {coverage:.0%} holds {fitted.coverage:.1%} of held-out "
        f"items; written to {path}",
        markup=False,
    )


def _predict(
    settings: Settings, predictors: "Predictors", data: "RatedData", *, cache: Path | None
) -> "tuple[Settings, Predictions]":
    """Score the files with a progress bar; returns the settings for these predictors, and the predictions."""
    from pipelines.commands.evaluation.predictions import default_cache_file, predict, settings_for_evaluation

    settings = settings_for_evaluation(settings, predictors)
    with Progress("scoring", total=len(data.rated)) as progress:
        predictions = asyncio.run(
            predict(
                settings,
                data.rated,
                predictors,
                cache=cache or default_cache_file(os.environ),
                on_result=lambda _: progress.advance(),
            )
        )
    return settings, predictions
