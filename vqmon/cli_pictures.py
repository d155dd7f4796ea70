"""The command that keeps pictures of an experiment's pairs."""

import asyncio
from pathlib import Path

import click

from vqmon.cli.console import err, out, ready


@click.command()
@click.argument("experiment")
@click.option("--history", help="SQLite file or postgresql:// address; default: as the settings say.")
@click.pass_obj
def pictures(config: Path | None, experiment: str, history: str | None) -> None:
    """Look at the pairs of an EXPERIMENT again and keep their pictures, for its page and for blind looks.

    Fetches from where the segments were, as far as the settings allow; of what has left its origin, the small pictures
    that the history still holds are kept. Run it now and then while an experiment lasts.
    """
    from pipelines.commands.serve_web import reviews_path
    from pipelines.experiments.compare import compare, load_experiments
    from pipelines.experiments.pair_pictures import keep_pictures
    from vqmon.core.experiments.file import find_experiment
    from vqmon.transport.history.history import open_history
    from vqmon.transport.reviews import Reviews

    settings = ready(config)
    place = settings.history.at(history).place
    found = find_experiment(load_experiments(settings.experiments.path), experiment)
    reviews = Reviews(reviews_path(settings.web.reviews, place))
    with open_history(place, mode="read") as stored:
        comparison = compare(stored, found, votes=reviews.votes(found.name))
        kept = asyncio.run(
            keep_pictures(settings, stored, reviews, comparison, told=lambda line: out.print(line, markup=False))
        )
    for line in kept.missing:
        err.print(line, style="yellow", markup=False)
    err.print(
        f"{kept.looked} looked at, {kept.copied} copied from the history, {kept.known} were there, "
        f"{len(kept.missing)} without pictures; in {reviews.path}"
    )
