"""The commands `vqmon compare`, `vqmon plan` and `vqmon pictures`."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vqmon.cli.console import OutputFile, err, open_settings, out
from vqmon.core.experiments.results import Comparison
from vqmon.plurals import plural
from vqmon.settings.load import Settings
from vqmon.terminal import Progress

if TYPE_CHECKING:
    from pipelines.commands.compare_folders import MeasureCriterion
    from vqmon.web.pages.report import FramesOfPairs

_LOCATED_FRAMES = 1
"""Of how many of the worst frames of a file a report tells which parts the scorer finds worse."""


@click.command()
@click.argument("experiment")
@click.option("--history", help="SQLite file or postgresql:// address; default: as the settings say.")
@click.pass_obj
def pictures(config: Path | None, experiment: str, history: str | None) -> None:
    """Decode the example pairs of EXPERIMENT again; store pictures for its page, and clips for the blind review.

    The media are those that the daemon has stored (experiments.media_bytes), else segments are fetched from their
    origin, as far as the settings allow. Where there are none, the thumbnails in the history are copied. Run this now
    and then while an experiment is running.
    """
    from pipelines.commands.serve_web import reviews_path
    from pipelines.experiments.compare import compare_arms
    from pipelines.experiments.pair_pictures import store_pair_pictures
    from pipelines.service.wiring import load_experiments
    from vqmon.settings.experiments_file import find_experiment
    from vqmon.transport.history.history import open_history
    from vqmon.transport.reviews import Reviews

    settings = open_settings(config)
    location = settings.history.at_location(history).location
    definition = find_experiment(load_experiments(settings.experiments.path), experiment)
    reviews = Reviews(reviews_path(settings.web.reviews, location))
    with open_history(location, mode="read") as opened_history:
        comparison = compare_arms(opened_history, definition, votes=reviews.votes(definition.name))
        result = asyncio.run(
            store_pair_pictures(
                settings,
                opened_history,
                reviews,
                comparison,
                on_progress=lambda line: out.print(line, markup=False),
            )
        )
    for line in (*result.missing, *result.without_clip):
        err.print(line, style="yellow", markup=False)
    err.print(
        f"{result.decoded} decoded, {result.copied} copied from the history, {result.already_stored} already "
        f"stored, {len(result.missing)} without pictures, {plural(result.clips, 'clip')}; stored in {reviews.path}"
    )


@click.command()
@click.argument("name", metavar="EXPERIMENT|FOLDER")
@click.argument("other", metavar="[FOLDER]", required=False, type=click.Path(path_type=Path))
@click.option(
    "--scorer", "scorers", multiple=True, help="For two folders: scorer to use; one or two; default: as settings say."
)
@click.option(
    "--measure", help="For two folders: a measure that needs no reference, such as niqe, instead of a scorer."
)
@click.option(
    "--margin", type=click.FloatRange(1e-6, 100), help="With --measure: the largest loss that does not matter."
)
@click.option(
    "--file", type=click.Path(path_type=Path), help="Experiments file; default: experiments.path of settings."
)
@click.option("--history", help="SQLite file or postgresql:// address; default: as the settings say.")
@click.option("--json", "as_json", is_flag=True, help="Print the whole result as one JSON object.")
@click.option("--html", type=OutputFile(), help="Also write the result to one HTML file.")
@click.pass_obj
def compare(
    config: Path | None,
    name: str,
    other: Path | None,
    scorers: tuple[str, ...],
    measure: str | None,
    margin: float | None,
    file: Path | None,
    history: str | None,
    as_json: bool,  # noqa: FBT001 - click gives flags so
    html: Path | None,
) -> None:
    """Say which arm of EXPERIMENT is better, with what confidence, and what to do next.

    `vqmon compare a/ b/` scores two folders of encodes of the same sources instead and compares b with a: files of the
    same name are pairs. It needs neither experiments file nor history.

    For an experiment it reads the history once. You may run this at any time and as often as you like: the intervals
    are valid at every look. Votes of the blind review count too.
    """
    from pipelines.commands.compare_folders import MeasureCriterion
    from pipelines.console.experiments import comparison_lines
    from pipelines.experiments.compare import comparison_json

    options = {"--scorer": scorers, "--measure": measure, "--margin": margin}
    chosen = [option for option, value in options.items() if value]
    _check_options(name, other, chosen=chosen, file=file, history=history)
    settings = open_settings(config)
    if other is not None:
        located_frames = _LOCATED_FRAMES if html else 0
        comparison, frames = _compare_folders(
            settings,
            Path(name),
            other,
            scorers=scorers,
            criterion=MeasureCriterion(measure=measure, margin=margin) if measure and margin else None,
            located_frames=located_frames,
        )
    else:
        comparison, frames = _compare(settings, name, file=file, history=history)
    if html is not None:
        _write(html, comparison, frames, settings.web.title)
    if as_json:
        click.echo(comparison_json(comparison))
        return
    for line in comparison_lines(comparison):
        out.print(line)


@click.command()
@click.argument("name", metavar="[EXPERIMENT]", required=False, default="")
@click.option(
    "--difference",
    type=click.FloatRange(min=0, min_open=True),
    required=True,
    help="Difference to detect, in points of 0..100.",
)
@click.option(
    "--sd",
    type=click.FloatRange(min=0, min_open=True),
    help="Standard deviation of one segment's difference between the arms, in points.",
)
@click.option(
    "--icc",
    type=click.FloatRange(0, 1),
    help="Share of that variance between clusters (intraclass correlation); default 0.3.",
)
@click.option("--segments", type=click.IntRange(1), help="Segments per cluster; default 30.")
@click.option(
    "--segments-cv",
    type=click.FloatRange(min=0),
    help="Of uneven clusters: standard deviation of their segments over the mean; default 0.",
)
@click.option(
    "--autocorrelation",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.0,
    help="Correlation of neighbouring segments of a cluster beyond --icc; default 0.",
)
@click.option("--power", type=click.FloatRange(0.5, 1, min_open=True, max_open=True), default=0.8, show_default=True)
@click.option(
    "--file", type=click.Path(path_type=Path), help="Experiments file; default: experiments.path of settings."
)
@click.option("--history", help="SQLite file or postgresql:// address; default: as the settings say.")
@click.pass_obj
def plan(
    config: Path | None,
    name: str,
    difference: float,
    sd: float | None,
    icc: float | None,
    segments: int | None,
    segments_cv: float | None,
    autocorrelation: float,
    power: float,
    file: Path | None,
    history: str | None,
) -> None:
    """Say how many clusters an experiment needs to detect a difference.

    The variance comes from the pairs of EXPERIMENT so far (a pilot), or from --sd, --icc and --segments.
    """
    from pipelines.console.experiments import plan_lines
    from pipelines.experiments.plan import power_assumptions
    from vqmon.core.experiments.stats.power import plan_sample_size

    settings = open_settings(config)
    pilot = _compare(settings, name, file=file, history=history)[0] if name else None
    assumptions = power_assumptions(
        pilot,
        difference=difference,
        sd=sd,
        icc=icc,
        segments=segments,
        segments_cv=segments_cv,
        autocorrelation=autocorrelation,
        power=power,
    )
    for line in plan_lines(assumptions, plan_sample_size(assumptions)):
        out.print(line)


def _check_options(
    name: str, other: Path | None, *, chosen: Sequence[str], file: Path | None, history: str | None
) -> None:
    """Raises UsageError for an option that the other kind of comparison has, and for one folder or file alone."""
    if other is not None and (file is not None or history is not None):
        raise click.UsageError("--file and --history are for an experiment; a comparison of two folders has neither")
    if other is None and chosen:
        raise click.UsageError(f"{chosen[0]} is for two folders; an experiment says so in the experiments file")
    if ("--measure" in chosen) != ("--margin" in chosen):
        raise click.UsageError(
            "--measure and --margin go together: state the largest loss, in its unit, that does not matter"
        )
    if "--measure" in chosen and "--scorer" in chosen:
        raise click.UsageError("--scorer and --measure exclude each other: one of them decides the comparison")
    if other is not None or file is not None:
        return
    if name.endswith("/") or Path(name).is_dir():
        folder = f"{name.rstrip('/')}/"
        raise click.UsageError(f"{folder} is one folder; name a second one to compare it with: {folder} OTHER/")
    if Path(name).is_file():
        raise click.UsageError(f"{name} is a file; name two folders of encodes, or an experiment")


def _compare(
    settings: Settings, name: str, *, file: Path | None, history: str | None
) -> "tuple[Comparison, FramesOfPairs]":
    from pipelines.commands.serve_web import reviews_path
    from pipelines.experiments.compare import compare_arms, frames_in_history, load_experiment
    from vqmon.transport.history.history import open_history
    from vqmon.transport.reviews import Reviews

    experiment = load_experiment(name, file or settings.experiments.path)
    location = settings.history.at_location(history).location
    votes = Reviews(reviews_path(settings.web.reviews, location)).votes(name)
    with open_history(location, "read") as opened_history, Progress("comparing") as progress:
        comparison = compare_arms(
            opened_history,
            experiment,
            votes=votes,
            on_progress=lambda count: progress.update(label=f"comparing: {plural(count, 'outcome')} read"),
        )
        return comparison, frames_in_history(opened_history, comparison)


def _compare_folders(
    settings: Settings,
    control: Path,
    treatment: Path,
    *,
    scorers: Sequence[str],
    criterion: "MeasureCriterion | None",
    located_frames: int,
) -> "tuple[Comparison, FramesOfPairs]":
    from pipelines.commands.compare_folders import compare_folders, pair_folders
    from pipelines.service.wiring import settings_for_score

    folders = pair_folders(control, treatment)
    if remark := folders.remark():
        err.print(remark, style="yellow", markup=False)
    settings = settings_for_score(settings, scorers=scorers, measures=(criterion.measure,) if criterion else ())
    with Progress("scoring", total=2 * len(folders.pairs)) as progress:
        return asyncio.run(
            compare_folders(
                settings,
                folders,
                criterion=criterion,
                on_outcome=lambda: progress.advance(),
                located_frames=located_frames,
            )
        )


def _write(html: Path, comparison: Comparison, frames: "FramesOfPairs", title: str) -> None:
    from pipelines.experiments.compare import write_html_report

    write_html_report(comparison, html, title=title, frames=frames)
    err.print(f"report in {html}", markup=False)
