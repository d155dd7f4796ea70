"""Lines, text and the PNG of the small canvas."""

import io

import numpy as np
from skimage.io import imread

from vqmon.web.charts.ladder.raster import Canvas
from vqmon.web.charts.ladder.stroke_font import text_strokes, text_width

BLACK = (0, 0, 0)


def test_a_line_covers_its_width_and_nothing_else() -> None:
    canvas = Canvas(40, 20)
    canvas.line([(5, 10), (35, 10)], BLACK, width=4)
    column = canvas.pixels[:, 20, 0]
    assert (column[8:12] == 0).all()
    assert (np.delete(column, range(8, 12)) == 255).all()
    # ink of the line: 30 px long, 4 px wide, round ends
    ink = float((255 - canvas.pixels[..., 0]).sum() / 255)
    assert abs(ink - (30 * 4 + np.pi * 4)) < 4


def test_a_dashed_line_has_gaps_also_around_corners() -> None:
    canvas = Canvas(60, 60)
    canvas.line([(5, 5), (55, 5), (55, 55)], BLACK, width=2, dash=(10, 10))
    row, column = canvas.pixels[5, :, 0], canvas.pixels[:, 55, 0]
    assert row[10] == 0
    assert row[20] == 255
    assert row[30] == 0
    # 50 px along the row are 2.5 periods: a gap begins at the corner
    assert column[10] == 255
    assert column[20] == 0


def test_the_png_is_what_was_drawn() -> None:
    canvas = Canvas(50, 30)
    canvas.line([(0, 0), (50, 30)], (200, 30, 60), width=3)
    canvas.dot((25, 5), (0, 120, 0), width=8)
    picture = imread(io.BytesIO(canvas.png()))
    assert picture.shape == (30, 50, 3)
    assert (picture == np.rint(canvas.pixels)).all()


def test_drawing_outside_the_canvas_is_ignored() -> None:
    canvas = Canvas(10, 10)
    canvas.line([(-50, -50), (-20, -30)], BLACK)
    canvas.dot((100, 100), BLACK, width=5)
    assert (canvas.pixels == 255).all()


def test_text_ends_at_its_anchor_and_stands_on_its_base_line() -> None:
    canvas = Canvas(200, 40)
    canvas.text((150, 30), "TEN 10", BLACK, size=12, anchor=1)
    rows, columns = np.nonzero(canvas.pixels[..., 0] < 128)
    assert abs(int(columns.max()) - 150) <= 1
    assert abs(int(columns.min()) - (150 - text_width("TEN 10") * 2)) <= 2
    assert (rows.min() >= 17, rows.max() <= 31) == (True, True)


def test_every_printable_letter_has_strokes_within_its_line() -> None:
    """Unknown letters are question marks, so no sentence has holes."""
    letters = [chr(code) for code in range(33, 127)] + ["−", "×", "ø"]
    for letter in letters:
        points = [point for stroke in text_strokes(letter) for point in stroke]
        assert points
        assert all(0 <= x <= 6 and 0 <= y <= 8 for x, y in points)
    assert list(text_strokes("ø")) == list(text_strokes("?"))
    # glyphs differ from each other
    drawn = {letter: str(list(text_strokes(letter))) for letter in "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMN123456789"}
    assert len(set(drawn.values())) == len(drawn)
