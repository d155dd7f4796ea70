"""The result of `vqmon ladder` as JSON, as an HTML report and as a picture of the curves."""

import json
from dataclasses import asdict
from pathlib import Path

from pipelines.commands.evaluation.ladder.measure import MeasuredLadder
from pipelines.service.wiring import utc_now
from vqmon.core.evaluation.ladder.analysis import LadderAnalysis
from vqmon.web.charts.ladder.picture import draw_ladder
from vqmon.web.pages.ladder import LadderReport, render_ladder
from vqmon.whole_files import write_whole_file


def ladder_json(measured: MeasuredLadder, analysis: LadderAnalysis) -> str:
    """The ladder with every value, and what it says, as one JSON object."""
    excerpt = measured.excerpt
    document = {
        "clip": str(measured.clip),
        "excerpt": {
            name: getattr(excerpt, name) for name in ("start_seconds", "seconds", "fps", "frames", "width", "height")
        },
        "canvas": measured.canvas,
        "remarks": list(measured.remarks),
        "tolerance_points": analysis.tolerance_points,
        "subjects": [asdict(subject) for subject in measured.ladder.subjects],
        "verdicts": [
            {
                **asdict(verdict),
                "answer": verdict.answer,
                "sentences": [statement.text for statement in verdict.statements],
            }
            for verdict in analysis.verdicts
        ],
        "encodes": [{"name": encode.name, **asdict(encode)} for encode in measured.ladder.encodes],
        "altered_forms": [{"name": form.name, **asdict(form)} for form in measured.ladder.forms],
        "curves": [asdict(curve) for curve in analysis.curves],
        "hulls": [
            {"subject": hull.subject, "codec": hull.codec, "encodes": [encode.name for encode in hull.encodes]}
            for hull in analysis.hulls
        ],
        "bd_rates": [asdict(rate) for rate in analysis.bd_rates],
    }
    return json.dumps(document, indent=2, allow_nan=False)


def write_ladder_report(measured: MeasuredLadder, analysis: LadderAnalysis, file: Path, *, title: str) -> None:
    """Write one HTML file; raises SettingsError."""
    excerpt = measured.excerpt
    report = LadderReport(
        analysis=analysis,
        clip=measured.clip.name,
        facts={
            "Excerpt": f"{excerpt.seconds:.1f} s from {excerpt.start_seconds:.1f} s on, {excerpt.frames} frames",
            "Size": f"{excerpt.width}×{excerpt.height}, {excerpt.fps:.4g} frames per second",
            "Compared at": measured.canvas or "not compared with a reference",
        },
        remarks=measured.remarks,
    )
    write_whole_file(file, render_ladder(report, title=title, now=utc_now()))


def write_ladder_picture(measured: MeasuredLadder, analysis: LadderAnalysis, file: Path) -> None:
    """Write a PNG with the curves of every subject; raises SettingsError."""
    write_whole_file(file, draw_ladder(analysis, title=measured.clip.name))
