"""Verdicts on scorers that are wrong in one known way each."""

from dataclasses import replace

import pytest

from tests.core.evaluation.ladder.ladders import make_ladder, truth
from vqmon.core.evaluation.ladder.encodes import Encode, Ladder, Subject
from vqmon.core.evaluation.ladder.trust import ScorerVerdict, join_words, judge_scorers


def verdict(ladder: Ladder, *, tolerance: float = 2.0) -> ScorerVerdict:
    (only,) = judge_scorers(ladder, tolerance_points=tolerance)
    return only


def answers(judged: ScorerVerdict) -> dict[str, str]:
    return {finding.use: finding.answer for finding in judged.findings}


def test_a_scorer_that_follows_the_truth_can_be_trusted() -> None:
    judged = verdict(make_ladder())
    assert judged.answer == "yes"
    assert set(answers(judged).values()) == {"yes"}
    (statement,) = judged.statements
    assert statement.text == (
        "lite@1 can be trusted on this clip: its scores rise with the rate on all 6 curves; it orders the sizes as "
        "psnr and gmsd do; av1 saves rate against h264, -55 % by lite@1, -55 % by psnr and gmsd; sharpening a soft "
        "picture does not win; noise does not win."
    )
    assert judged.agreement.right == judged.agreement.pairs
    assert judged.agreement.rank_correlations == {"psnr": pytest.approx(1.0), "gmsd": pytest.approx(1.0)}


def test_a_scorer_that_prefers_a_small_size_must_not_compare_sizes() -> None:
    """480p scores 3 points above 720p at CRF 20, and elsewhere less."""

    def prefers_small(codec: str, lines: int, crf: int) -> float:
        bonus = 3 + truth(codec, 720, 20) - truth(codec, 480, 20)
        return truth(codec, lines, crf) + (bonus if (codec, lines, crf) == ("h264", 480, 20) else 0)

    judged = verdict(make_ladder(prefers_small))
    assert judged.answer == "no"
    assert answers(judged) | {"sizes": "no"} == answers(judged)
    assert judged.statements[0].text == (
        "Do not use lite@1 to compare sizes on this clip: h264 480p at CRF 20 scores 3.4 points above h264 1080p at "
        "CRF 27."
    )
    assert judged.statements[1].text.startswith("It can be used to compare rates, codecs, sharpened pictures and")
    sizes = judged.findings[1]
    # 24 pairs of one setting; 480p has about the rate of 1080p at the next higher CRF
    assert (sizes.pairs, sizes.right) == (24 + 6, 24 + 6 - 2)
    assert answers(verdict(make_ladder(prefers_small), tolerance=3.5))["sizes"] == "yes"


def test_sizes_are_compared_at_about_one_rate_too() -> None:
    """No setting is shared, and the scorer prefers the small picture."""

    def encode(lines: int, crf: int, rate_kbps: float, score: float, psnr: float) -> Encode:
        values = {"lite@1": score, "psnr": psnr}
        return Encode(codec="h264", lines=lines, setting=f"CRF {crf}", rate_kbps=rate_kbps, values=values)

    subjects = [Subject(name="lite@1", is_scorer=True), Subject(name="psnr", is_scorer=False, unit="dB")]
    large, near, far = (encode(1080, 37, 1000, 50, 40), encode(720, 34, 1200, 60, 38), encode(480, 20, 1300, 90, 30))
    judged = verdict(Ladder(subjects=subjects, encodes=[large, near]))
    assert judged.statements[0].text == (
        "Do not use lite@1 to compare sizes on this clip: h264 720p at CRF 34 scores 10.0 points above h264 1080p at "
        "CRF 37."
    )
    # 30 % more rate: not what a ladder chooses between
    assert answers(verdict(Ladder(subjects=subjects, encodes=[large, far]))) == {"sizes": "unclear"}


def test_a_small_inversion_is_within_the_tolerance_and_named() -> None:
    judged = verdict(
        make_ladder(lambda codec, lines, crf: truth(codec, lines, crf) + (12.2 if crf == 27 else 0), sizes=(1080, 720))
    )
    assert judged.answer == "yes"
    assert "to within 2 points (largest inversion 1.0)" in judged.statements[0].text


def test_a_scorer_that_falls_with_the_rate_must_not_compare_rates() -> None:
    judged = verdict(make_ladder(lambda codec, lines, crf: 100 - truth(codec, lines, crf)))
    assert judged.statements[0].text == (
        "Do not use lite@1 to compare rates on this clip: CRF 41 scores 33.6 points above CRF 20 (h264 1080p)."
    )
    assert judged.agreement.right == 0


def test_a_scorer_that_hardly_reacts_is_not_trusted() -> None:
    """Right order everywhere, but all scores lie within one point."""
    judged = verdict(make_ladder(lambda codec, lines, crf: 50 + truth(codec, lines, crf) / 100))
    assert answers(judged)["rates"] == "no"
    assert judged.findings[0].reason == "it tells only 0 of 36 pairs apart by more than 2 points"


def test_a_curve_within_the_tolerance_leaves_rates_undecided() -> None:
    """At 480 lines all scores lie within 1.5 points and fall with the rate; elsewhere they follow the truth."""
    judged = verdict(
        make_ladder(lambda codec, lines, crf: truth(codec, lines, crf) if lines > 480 else 40 + (crf - 20) / 14)
    )
    assert answers(judged)["rates"] == "unclear"
    assert (
        "Whether lite@1 can be used to compare rates is not clear: on 2 of 6 curves its scores span no more than "
        "the 2 points that are taken for equal (av1 480p: 1.5)."
    ) in [statement.text for statement in judged.statements]
    assert not any("can be trusted" in statement.text for statement in judged.statements)


def test_without_two_encodes_nothing_can_be_said() -> None:
    """All others may have been left out, as they could not be compared with the clip."""
    ladder = make_ladder()
    judged = verdict(replace(ladder, encodes=ladder.encodes[:1], forms=[]))
    assert judged.answer == "unclear"
    (statement,) = judged.statements
    assert statement.text == "Nothing can be said of lite@1 on this clip: there are no two encodes to compare."


def test_a_scorer_that_likes_a_codec_must_not_compare_codecs() -> None:
    """It gives the codec that saves rate 25 points less."""
    judged = verdict(make_ladder(lambda codec, lines, crf: truth(codec, lines, crf) - 25 * (codec == "av1")))
    assert answers(judged) == {"rates": "yes", "sizes": "yes", "codecs": "no", "sharpening": "yes", "noise": "yes"}
    assert "-55 % by psnr and gmsd" in judged.statements[0].text


def test_a_scorer_that_contradicts_the_measures_at_one_size_must_not_compare_codecs() -> None:
    """At 480p, of which no encode is on the hulls, it takes 15 points from the codec that saves rate."""

    def unfair(codec: str, lines: int, crf: int) -> float:
        return truth(codec, lines, crf) - 20 * (lines == 480) - 15 * (codec == "av1" and lines == 480)

    judged = verdict(make_ladder(unfair))
    (finding,) = [each for each in judged.findings if each.use == "codecs"]
    assert finding.answer == "no"
    assert finding.reason.startswith("av1 needs another rate against h264 at 480p, +")
    assert (finding.pairs, finding.right) == (4, 3)


def test_a_scorer_that_sees_no_difference_of_codecs_must_not_compare_them() -> None:
    def equal_at_equal_rate(codec: str, lines: int, crf: int) -> float:
        return truth(codec, lines, crf + (7 if codec == "av1" else 0))

    assert answers(verdict(make_ladder(equal_at_equal_rate, sizes=(1080,)))) == {
        "rates": "yes", "codecs": "no", "sharpening": "yes", "noise": "yes",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("forms", "use", "reason"),
    [
        (
            {("sharpened", 0.7): 75.0},
            "sharpening",
            "the soft picture sharpened by 0.7 scores 5.0 points above the soft picture",
        ),
        (
            {("sharpened", 3.0): 104.0, ("soft", 0.0): 102.0},
            "sharpening",
            "the soft picture sharpened by 3 scores 4.0 points above the clip itself",
        ),
        (
            {("noise", 30.0): 101.0, ("noise", 6.0): 102.5},
            "noise",
            "the clip with noise of strength 30 scores 1.0 points above the clip itself",
        ),
    ],
)
def test_sharpening_and_noise_must_not_win(forms: dict[tuple[str, float], float], use: str, reason: str) -> None:
    tolerance = 0.5 if use == "noise" else 2.0
    judged = verdict(make_ladder(forms=forms), tolerance=tolerance)
    assert answers(judged)[use] == "no"
    (finding,) = [each for each in judged.findings if each.use == use]
    if use != "noise":
        assert finding.reason == reason
    else:
        assert finding.reason == "the clip with noise of strength 6 scores 2.5 points above the clip itself"


def test_sharpening_that_the_measures_like_is_not_held_against_a_scorer() -> None:
    """Only pairs that all measures order alike count."""
    ladder = make_ladder(forms={("sharpened", 0.7): 90.0})
    forms = [
        form if form.amount != 0.7 else type(form)(kind=form.kind, amount=0.7, values={**form.values, "psnr": 44.0})
        for form in ladder.forms
    ]
    judged = verdict(Ladder(subjects=ladder.subjects, encodes=ladder.encodes, forms=forms))
    assert answers(judged)["sharpening"] == "yes"


def test_without_measures_only_rates_and_noise_are_judged() -> None:
    judged = verdict(make_ladder(measures=False))
    assert answers(judged) == {
        "rates": "yes", "sizes": "unclear", "codecs": "unclear", "sharpening": "unclear", "noise": "yes",
    }  # fmt: skip
    assert judged.agreement.pairs == 0
    assert "Whether lite@1 can be used to compare sizes is not clear" in judged.statements[1].text


def test_words_are_joined_as_in_a_sentence() -> None:
    assert join_words(["psnr"]) == "psnr"
    assert join_words([]) == ""
