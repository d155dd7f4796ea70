"""Rank correlations, inversions and BD-rates of curves whose shape is known."""

import pytest

from tests.core.evaluation.ladder.ladders import AV1_RATE_SHARE, make_ladder, truth
from vqmon.core.evaluation.ladder.curves import bd_rates, curve_results, hull_encodes


def test_curves_that_rise_have_no_inversion_whichever_way_a_measure_points() -> None:
    results = curve_results(make_ladder())
    assert len(results) == 3 * 6
    assert all(result.rank_correlation == pytest.approx(1.0) and result.inversion is None for result in results)
    assert {result.subject for result in results if result.span > 0} == {"lite@1", "psnr", "gmsd"}


def test_the_largest_inversion_is_named() -> None:
    """CRF 34 of the smallest size scores 90, above CRF 27 and CRF 20."""

    def scores(codec: str, lines: int, crf: int) -> float:
        return 90.0 if (codec, lines, crf) == ("h264", 480, 34) else truth(codec, lines, crf)

    ladder = make_ladder(scores)
    (result,) = [each for each in curve_results(ladder) if each.inversion is not None]
    assert result.inversion is not None
    assert (result.inversion.worse, result.inversion.better) == ("h264 480p at CRF 34", "h264 480p at CRF 27")
    assert result.inversion.amount == pytest.approx(90 - truth("h264", 480, 27))
    # ranks 1, 4, 2, 3 of rates 1..4
    assert result.rank_correlation == pytest.approx(0.4)


def test_a_flat_curve_has_no_rank_correlation() -> None:
    results = curve_results(make_ladder(lambda codec, lines, crf: 50.0))
    assert {result.rank_correlation for result in results if result.subject == "lite@1"} == {None}


def test_a_codec_with_less_rate_saves_that_much_by_every_subject() -> None:
    ladder = make_ladder()
    rates = bd_rates(ladder)
    assert len(rates) == 3 * 4
    assert all((rate.anchor, rate.test) == ("h264", "av1") for rate in rates)
    assert all(rate.percent == pytest.approx(100 * (AV1_RATE_SHARE - 1)) for rate in rates)
    assert [encode.lines for encode in hull_encodes(ladder, ladder.subjects[1], "h264")][-1] == 1080


def test_a_bd_rate_that_cannot_be_computed_says_why() -> None:
    rates = bd_rates(make_ladder(lambda codec, lines, crf: 50.0 if codec == "av1" else truth(codec, lines, crf)))
    reasons = {(rate.percent, rate.reason) for rate in rates if rate.subject == "lite@1" and rate.lines is not None}
    assert reasons == {(None, "the quality does not rise with the rate throughout")}
