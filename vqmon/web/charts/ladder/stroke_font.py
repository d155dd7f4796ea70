"""A font of straight strokes for pictures that are drawn without a font library.

Each glyph is strokes separated by "|"; a stroke is points "xy" on a grid whose capitals reach from y = 0 down to the
base line at y = 6, small letters from y = 2, descenders to y = 8. A stroke of one point is a dot.
"""

from collections.abc import Iterator

CAP_HEIGHT = 6.0
_GAP = 1.7
_SPACE = 2.2

_GLYPHS = {
    "A": "06 20 46|14 34", "B": "00 06|00 30 41 42 33 03|33 44 45 36 06", "C": "41 30 10 01 05 16 36 45",
    "D": "00 06|00 20 42 44 26 06", "E": "40 00 06 46|03 33", "F": "40 00 06|03 33",
    "G": "41 30 10 01 05 16 36 45 43 23", "H": "00 06|40 46|03 43", "I": "00 06", "J": "40 45 36 16 05",
    "K": "00 06|40 03 46", "L": "00 06 46", "M": "06 00 24 40 46", "N": "06 00 46 40",
    "O": "10 30 41 45 36 16 05 01 10", "P": "06 00 30 41 42 33 03", "Q": "10 30 41 45 36 16 05 01 10|24 46",
    "R": "06 00 30 41 42 33 03|23 46", "S": "41 30 10 01 02 13 33 44 45 36 16 05", "T": "00 40|20 26",
    "U": "00 05 16 36 45 40", "V": "00 26 40", "W": "00 16 32 56 60", "X": "00 46|40 06", "Y": "00 23 40|23 26",
    "Z": "00 40 06 46",
    "a": "42 46|43 32 12 03 05 16 36 45", "b": "00 06|03 12 32 43 45 36 16 05", "c": "43 32 12 03 05 16 36 45",
    "d": "40 46|43 32 12 03 05 16 36 45", "e": "04 44 43 32 12 03 05 16 36 45", "f": "30 20 11 16|02 32",
    "g": "42 47 38 18 07|43 32 12 03 05 16 36 45", "h": "00 06|03 12 32 43 46", "i": "02 06|00", "j": "12 17 08|10",
    "k": "00 06|32 04 36", "l": "00 05 16", "m": "02 06|03 12 22 33 36|33 42 52 63 66", "n": "02 06|03 12 32 43 46",
    "o": "12 32 43 45 36 16 05 03 12", "p": "02 08|03 12 32 43 45 36 16 05", "q": "42 48|43 32 12 03 05 16 36 45",
    "r": "02 06|03 12 32", "s": "43 32 12 03 14 34 45 36 16 05", "t": "10 15 26 36|02 32", "u": "02 05 16 36 45|42 46",
    "v": "02 26 42", "w": "02 16 33 56 62", "x": "02 46|42 06", "y": "02 26|42 18", "z": "02 42 06 46",
    "0": "10 30 41 45 36 16 05 01 10", "1": "11 20 26", "2": "01 10 30 41 42 06 46",
    "3": "00 40 22 32 43 45 36 16 05", "4": "36 30 04 44", "5": "40 00 02 32 43 45 36 16 05",
    "6": "41 30 10 01 05 16 36 45 44 33 13 04", "7": "00 40 16",
    "8": "10 30 41 42 33 13 02 01 10|13 04 05 16 36 45 44 33", "9": "05 16 36 45 41 30 10 01 02 13 33 42",
    ".": "06", ",": "16 07", ":": "03|06", ";": "13|16 07", "-": "03 33", "−": "03 33", "–": "03 43",
    "+": "03 43|21 25", "=": "03 43|05 45", "%": "06 40|00 10 11 01 00|35 45 46 36 35", "(": "20 11 15 26",
    ")": "00 11 15 06", "/": "07 30", "_": "07 47", "'": "00 01", "?": "01 10 30 41 23 24|26",
    "×": "03 36|33 06", "·": "04", "@": "44 24 22 42 45 54 51 40 10 01 05 16 46", "#": "11 15|31 35|02 42|04 44",
    "&": "46 02 10 21 04 05 16 26 43", "[": "20 00 06 26", "]": "00 20 26 06", "↓": "20 26|04 26 44",
}  # fmt: skip


def text_width(text: str) -> float:
    """The width of a line of text in units of the grid."""
    return sum(_advance(letter) for letter in text) - (_GAP if text else 0.0)


def text_strokes(text: str) -> Iterator[list[tuple[float, float]]]:
    """The strokes of a line of text: points (x, y) on the grid; unknown letters are question marks."""
    left = 0.0
    for letter in text:
        for stroke in _strokes(letter):
            yield [(left + x, y) for x, y in stroke]
        left += _advance(letter)


def _strokes(letter: str) -> list[list[tuple[float, float]]]:
    if letter == " ":
        return []
    glyph = _GLYPHS.get(letter, _GLYPHS["?"])
    return [[(float(point[0]), float(point[1])) for point in stroke.split()] for stroke in glyph.split("|")]


def _advance(letter: str) -> float:
    if letter == " ":
        return _SPACE + _GAP
    # figures are all as wide as each other
    if letter.isdigit():
        return 4.0 + _GAP
    return max(x for stroke in _strokes(letter) for x, _ in stroke) + _GAP
