"""The report of `vqmon score --html`: what a row says beside the score."""

from dataclasses import replace

from tests import factories
from tests.web import seed
from vqmon.core.types import ReferenceScore
from vqmon.web.model.heat_maps import worst_frame
from vqmon.web.pages.scores import ScoredFile, render_scores


def test_the_report_shows_where_and_when() -> None:
    """Every frame with its cells, numbered by segment; of many segments only the frame that loses most."""
    event = replace(factories.event(duration_seconds=4.0), heat_maps=(seed.half_lost("detail", frames=4, lost=(1, 2)),))
    thumbnails = [(float(number), b"\xff\xd8\xff%d" % number) for number in range(4)]
    scored = ScoredFile(outcome=event, thumbnails=thumbnails)
    text = render_scores([scored, scored], title="vqmon", now=factories.START)
    assert 'href="#frame-1-2" aria-label="2.0 s; lite@1 70.0; detail lost mostly left' in text
    assert 'id="frame-1-2"' in text
    assert text.count('<svg class="heat m0"') == 2 * (1 + 2)
    assert text.count('name="map"') == 2
    many = render_scores([scored] * 100, title="vqmon", now=factories.START)
    assert many.count('<li id="frame-') == 100
    assert 'id="frame-99-1"' in many


def test_the_worst_frame_is_the_one_with_the_lowest_value() -> None:
    """As the column beside it says, also when a heat map finds more lost in another frame; maps decide among equals."""
    values = (70.0, 80.0, 41.0, 75.0)
    maps = (seed.half_lost("detail", frames=4, lost=(1,)),)
    event = replace(factories.event(duration_seconds=4.0, score=41.0, frame_values=values), heat_maps=maps)
    assert worst_frame(event) == 2
    assert worst_frame(replace(factories.event(duration_seconds=4.0), heat_maps=maps)) == 1
    assert worst_frame(replace(event, heat_maps=())) == 2
    thumbnails = [(float(number), b"\xff\xd8\xff%d" % number) for number in range(4)]
    text = render_scores([ScoredFile(outcome=event, thumbnails=thumbnails)], title="vqmon", now=factories.START)
    row = text.split("<tbody>")[1].split("</tbody>")[0]
    assert "Frame at 2.00 s" in row
    assert '<td class="num" data-label="Lowest">41.0</td>\n' in row


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
