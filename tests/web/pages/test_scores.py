"""The report of `vqmon score --html`: what a row says beside the score."""

from dataclasses import replace

from tests import factories
from vqmon.core.types import ReferenceScore
from vqmon.web.pages.scores import ScoredFile, render_scores


def test_a_row_has_the_reference_measures_or_why_there_are_none() -> None:
    """Value with its unit; the reason instead when the reference could not be compared."""
    event = factories.event(duration_seconds=4.0)
    measured = [
        ReferenceScore(measure=name, value=value, frame_values=(value,) * 4, unit=unit, higher_is_better=True)
        for name, value, unit in (("psnr", 38.456, "dB"), ("ssim", 0.98765, ""))
    ]
    scored = ScoredFile(outcome=replace(event, references=tuple(measured)))
    failed = ScoredFile(
        outcome=replace(event, unscored_reference="misaligned", unscored_reference_detail="another <film>")
    )
    assert "psnr 38.46 dB, ssim 0.9877</span>" in render_scores([scored], title="vqmon", now=factories.START)
    text = render_scores([failed], title="vqmon", now=factories.START)
    assert "reference unscored: misaligned: another &lt;film&gt;" in text
    assert "psnr" not in text.split("</style>")[1]
