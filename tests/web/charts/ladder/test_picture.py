"""The picture of a ladder: every curve is drawn, and no text runs out of it."""

import io

import numpy as np
from skimage.io import imread

from tests.core.evaluation.ladder.ladders import make_ladder, truth
from vqmon.core.evaluation.ladder.analysis import analyse_ladder
from vqmon.web.charts.ladder.picture import draw_ladder


def test_the_picture_has_verdict_legend_and_a_chart_per_subject() -> None:
    ladder = make_ladder(lambda codec, lines, crf: 100 - truth(codec, lines, crf))
    picture = imread(io.BytesIO(draw_ladder(analyse_ladder(ladder, tolerance_points=2.0), title="film.mp4")))
    height, width, _ = picture.shape
    assert width == 1440
    assert height > 900
    pixels = picture.astype(int)
    # the colours of the three sizes, and the red of a verdict that warns
    for colour in ((11, 106, 148), (176, 79, 22), (98, 71, 160), (179, 38, 30)):
        assert (np.abs(pixels - colour).sum(axis=2) < 6).sum() > 100
    assert (pixels[:, -12:] > 250).all()
