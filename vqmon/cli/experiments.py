"""The commands about experiments: compare, plan."""

import asyncio
from pathlib import Path

import click

from vqmon.cli.console import err, history_option, open_settings, out
from vqmon.core.experiments.results import Comparison
from vqmon.settings.load import Settings


@click.command()
@click.argument("experiment")
@history_option
@click.pass_obj
def pictures(config: Path | None, experiment: str, history: str | None) -> None:
    """Store pictures of the segment pairs of an EXPERIMENT, for its page and for blind reviews.

    Fetches the segments from their origin, as far as the settings allow, and decodes them again. Of segments that are
    no longer there, thumbnails from the history are stored. Run it regularly while an experiment lasts.
    """
    from pipelines.commands.serve_web import reviews_path
    from pipelines.experiments.compare import compare_arms, load_experiments
    from pipelines.experiments.pair_pictures import store_pair_pictures
    from vqmon.settings.experiments_file import find_experiment
    from vqmon.transport.history.history import open_history
    from vqmon.transport.reviews import Reviews

    settings = open_settings(config)
    place = settings.history.at_location(history).location
    found = find_experiment(load_experiments(settings.experiments.path), experiment)
    reviews = Reviews(reviews_path(settings.web.reviews, place))
    with open_history(place, mode="read") as stored:
        comparison = compare_arms(stored, found, votes=reviews.votes(found.name))
        kept = asyncio.run(
            store_pair_pictures(settings, stored, reviews, comparison, told=lambda line: out.print(line, markup=False))
        )
    for line in kept.missing:
        err.print(line, style="yellow", markup=False)
    err.print(
        f"{kept.looked} pairs decoded, {kept.copied} copied from the history, {kept.known} already stored, "
        f"{len(kept.missing)} without frames; stored in {reviews.path}"
    )


@click.command()
@click.argument("name", metavar="EXPERIMENT")
@click.option(
    "--file", type=click.Path(path_type=Path), help="Experiments file; default: experiments.path of the settings."
)
@history_option
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
@click.option(
    "--html", type=click.Path(path_type=Path, dir_okay=False), help="Also write the result to this HTML file."
)
@click.pass_obj
def compare(
    config: Path | None,
    name: str,
    file: Path | None,
    history: str | None,
    as_json: bool,  # noqa: FBT001 - click gives flags so
    html: Path | None,
) -> None:
    """Print which arm of EXPERIMENT is better, with confidence intervals, and what to do next.

    The intervals are always valid: run it at any time and as often as you like. Votes of blind reviews are included.
    """
    from pipelines.console.experiments import comparison_lines
    from pipelines.experiments.compare import comparison_json as dumped

    settings = open_settings(config)
    found = _answer(settings, name, file=file, history=history)
    if html is not None:
        _write(html, found, settings.web.title)
    if as_json:
        click.echo(dumped(found))
        return
    for line in comparison_lines(found):
        out.print(line, soft_wrap=isinstance(line, str))


@click.command()
@click.argument("name", metavar="[EXPERIMENT]", required=False, default="")
@click.option(
    "--difference",
    type=click.FloatRange(min=0, min_open=True),
    required=True,
    metavar="POINTS",
    help="Difference to detect, in points of 0..100.",
)
@click.option(
    "--sd",
    type=click.FloatRange(min=0),
    metavar="POINTS",
    help="Standard deviation of the difference between the arms of one segment.",
)
@click.option(
    "--icc",
    type=click.FloatRange(0, 1),
    help="Intraclass correlation: the share of the variance that a cluster has in common; default: 0.3.",
)
@click.option("--segments", type=click.IntRange(1), help="Segments per cluster; default: 30.")
@click.option(
    "--power",
    type=click.FloatRange(0.5, 1, min_open=True, max_open=True),
    default=0.8,
    show_default=True,
    help="Probability to detect the difference.",
)
@click.option(
    "--file", type=click.Path(path_type=Path), help="Experiments file; default: experiments.path of the settings."
)
@history_option
@click.pass_obj
def plan(
    config: Path | None,
    name: str,
    difference: float,
    sd: float | None,
    icc: float | None,
    segments: int | None,
    power: float,
    file: Path | None,
    history: str | None,
) -> None:
    """Print how many clusters an experiment needs to detect a difference.

    The variance is estimated from the pairs that EXPERIMENT has so far (a pilot), or given by --sd, --icc and
    --segments.
    """
    from dataclasses import replace

    from pipelines.console.experiments import plan_lines
    from pipelines.experiments.plan import power_assumptions
    from vqmon.core.experiments.stats.power import plan_sample_size as planned

    settings = open_settings(config)
    pilot = _answer(settings, name, file=file, history=history) if name else None
    assumed = power_assumptions(pilot, difference=difference, sd=sd, icc=icc, segments=segments)
    assumed = replace(assumed, power=power)
    for line in plan_lines(assumed, planned(assumed)):
        out.print(line, soft_wrap=True)


def _answer(settings: Settings, name: str, *, file: Path | None, history: str | None) -> Comparison:
    from pipelines.commands.serve_web import reviews_path
    from pipelines.experiments.compare import compare_arms as compare_all
    from pipelines.experiments.compare import load_experiment
    from vqmon.transport.history.history import open_history
    from vqmon.transport.reviews import Reviews

    experiment = load_experiment(name, file or settings.experiments.path)
    place = settings.history.at_location(history).location
    votes = Reviews(reviews_path(settings.web.reviews, place)).votes(name)
    with open_history(place, "read") as stored, err.status("comparing") as status:
        return compare_all(
            stored, experiment, votes=votes, told=lambda read: status.update(f"comparing: {read:,} outcomes read")
        )


def _write(html: Path, found: Comparison, title: str) -> None:
    from pipelines.experiments.compare import write_html_report

    write_html_report(found, html, title=title)
    err.print(f"report in {html}", markup=False)
