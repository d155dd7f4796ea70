"""The command `vqmon ladder`."""

import asyncio
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vqmon.cli.console import OutputFile, err, open_settings, out
from vqmon.settings.load import Settings
from vqmon.terminal import Progress

if TYPE_CHECKING:
    from pipelines.commands.evaluation.ladder.measure import LadderStep, MeasuredLadder
    from pipelines.commands.evaluation.ladder.plan import LadderOptions


def _numbers(ctx: click.Context, option: click.Parameter, text: str) -> tuple[int, ...]:
    """Whole numbers separated by commas."""
    if not re.fullmatch(r"(\d{1,7}(,\d{1,7})*)?", text):
        raise click.BadParameter(f"{text!r} is no list of numbers such as 1080,720,480", ctx=ctx, param=option)
    return tuple(map(int, text.split(","))) if text else ()


def _qualities(ctx: click.Context, option: click.Parameter, texts: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    """Codec -> its constant qualities."""
    pairs = [text.partition("=") for text in texts]
    return {codec: _numbers(ctx, option, numbers) for codec, _, numbers in pairs}


@click.command()
@click.argument("clip", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--codec", "codecs", multiple=True, help="h264, hevc, av1, vp9 or mpeg2; repeat it; default: h264, av1.")
@click.option(
    "--sizes",
    metavar="N,N,...",
    default="",
    callback=_numbers,
    help="Lines; default: those of the clip, 2/3 and 4/9 of them.",
)
@click.option(
    "--rates", type=click.IntRange(2, 12), default=4, show_default=True, help="Constant qualities per codec and size."
)
@click.option(
    "--quality",
    "qualities",
    metavar="CODEC=N,N,...",
    multiple=True,
    callback=_qualities,
    help="Constant qualities of a codec: h264=18,23,28; repeat it.",
)
@click.option(
    "--kbps",
    "rates_kbps",
    metavar="N,N,...",
    default="",
    callback=_numbers,
    help="Target rates instead of qualities.",
)
@click.option(
    "--seconds", type=click.FloatRange(0.5, 60), default=4.0, show_default=True, help="Length of the excerpt."
)
@click.option("--start", type=click.FloatRange(min=0), help="Second at which the excerpt begins; default: the middle.")
@click.option("--scorer", "scorers", multiple=True, help="Scorer to judge; repeat it; default: scoring.scorers.")
@click.option("--measure", "measures", multiple=True, help="Reference measure; repeat it; default: scoring.references.")
@click.option(
    "--tolerance",
    type=click.FloatRange(0, 50),
    default=2.0,
    show_default=True,
    help="Points of a scorer that are taken for equal.",
)
@click.option("--encodes-only", is_flag=True, help="Make no sharpened and noisy pictures.")
@click.option(
    "--work",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of encodes, values and reports; a run that was stopped continues there; default: CLIP.ladder.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the ladder, with every value, as one JSON object.")
@click.option("--html", type=OutputFile(), help="HTML report to write; default: report.html in the work folder.")
@click.option("--png", type=OutputFile(), help="Picture of the curves; default: curves.png in the work folder.")
@click.pass_obj
def ladder(config: Path | None, /, clip: Path, **chosen: Any) -> None:
    """Encode CLIP at several codecs, rates and sizes, and say whether scorers can be trusted on it.

    Every encode is scored and compared with the clip by reference measures. A scorer is judged by rates (does it fall
    when the encoder is given less), by sizes and codecs (does it order them as the reference measures do), and by
    sharpened and noisy pictures, which must not win. Prints the verdict in words, BD-rates and all values.
    """
    from pipelines.commands.evaluation.ladder.measure import settings_for_ladder
    from pipelines.commands.evaluation.ladder.plan import LadderOptions
    from pipelines.commands.evaluation.ladder.report import ladder_json, write_ladder_picture, write_ladder_report
    from pipelines.console.ladder import ladder_lines
    from pipelines.service.wiring import settings_for_score
    from vqmon.core.evaluation.ladder.analysis import analyse_ladder

    options = LadderOptions(
        codecs=chosen["codecs"] or tuple(chosen["qualities"]) or LadderOptions().codecs,
        rate_count=chosen["rates"],
        qualities=chosen["qualities"],
        rates_kbps=chosen["rates_kbps"],
        sizes=chosen["sizes"],
        seconds=chosen["seconds"],
        start_seconds=chosen["start"],
        has_altered_forms=not chosen["encodes_only"],
    )
    settings = settings_for_ladder(
        settings_for_score(open_settings(config), scorers=chosen["scorers"]), measures=chosen["measures"]
    )
    folder = chosen["work"] or Path(f"{clip.stem}.ladder")
    measured = _measure_with_progress(settings, clip, options, folder=folder)
    analysis = analyse_ladder(measured.ladder, tolerance_points=chosen["tolerance"])
    html, png = chosen["html"] or folder / "report.html", chosen["png"] or folder / "curves.png"
    write_ladder_report(measured, analysis, html, title=settings.web.title)
    write_ladder_picture(measured, analysis, png)
    if chosen["as_json"]:
        click.echo(ladder_json(measured, analysis))
    else:
        for line in ladder_lines(measured, analysis):
            out.print(line)
    err.print(f"report in {html}, curves in {png}", markup=False)


def _measure_with_progress(
    settings: Settings, clip: Path, options: "LadderOptions", *, folder: Path
) -> "MeasuredLadder":
    from pipelines.commands.evaluation.ladder.measure import measure_ladder

    with Progress("reading the clip") as progress:

        def show(step: "LadderStep") -> None:
            progress.update(label=f"{'stored' if step.is_stored else 'measured'} {step.name}", total=step.total)
            progress.advance()

        return asyncio.run(measure_ladder(settings, clip, options, folder=folder, on_step=show))
