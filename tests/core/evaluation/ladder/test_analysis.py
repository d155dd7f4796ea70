"""The hulls say which size is the best one up to which rate."""

from tests.core.evaluation.ladder.ladders import make_ladder
from vqmon.core.evaluation.ladder.analysis import Hull, analyse_ladder
from vqmon.core.evaluation.ladder.encodes import Encode


def test_every_subject_has_a_hull_of_every_codec() -> None:
    analysis = analyse_ladder(make_ladder(), tolerance_points=2.0)
    assert [(hull.subject, hull.codec) for hull in analysis.hulls] == [
        (subject, codec) for subject in ("lite@1", "psnr", "gmsd") for codec in ("h264", "av1")
    ]


def test_ranges_of_sizes_are_said_in_words() -> None:
    encodes = [
        Encode(codec="h264", lines=lines, setting="CRF 20", rate_kbps=rate, values={})
        for lines, rate in ((480, 300.0), (480, 900.0), (720, 1800.0), (1080, 4000.0))
    ]
    hull = Hull(subject="psnr", codec="h264", encodes=tuple(encodes))
    assert hull.ranges == "480p up to 900 kb/s, 720p up to 1,800 kb/s, 1080p above"
    assert Hull(subject="psnr", codec="h264", encodes=tuple(encodes[:2])).ranges == "480p throughout"
