"""Which coded pictures are decoded for which wanted ones: decisions on small made-up groups of pictures."""

import pytest

from vqmon.media.decode.bitstream import av1
from vqmon.media.decode.bitstream.gop import CodedPicture, plan_runs, presentation_order, starts_with_key_picture
from vqmon.media.decode.bitstream.headers import find_droppable, is_hidden


def group(text: str, *, droppable_at: str = "") -> list[CodedPicture]:
    """One picture per word, in decoding order: its time, K for a key picture ("K0 P3 B1 B2")."""
    return [
        CodedPicture(time_seconds=float(word[1:]), is_key=word[0] == "K", is_droppable=word[0] in droppable_at)
        for word in text.split()
    ]


def sent(pictures: list[CodedPicture], *wanted: int) -> list[tuple[int, ...]]:
    return [run.positions for run in plan_runs(pictures, wanted)]


def test_decoding_ends_at_the_wanted_picture() -> None:
    """From the key picture up to the wanted one, and no further."""
    assert sent(group("K0 P1 P2 P3 P4"), 2) == [(0, 1, 2)]


def test_each_group_starts_at_its_own_key_picture() -> None:
    """Pictures between the wanted one and the next needed group are left out."""
    assert sent(group("K0 P1 P2 K3 P4 P5"), 1, 4) == [(0, 1), (3, 4)]


def test_unused_pictures_are_left_out_unless_wanted() -> None:
    """B pictures from which nothing is predicted are skipped; the wanted one is not."""
    pictures = group("K0 P3 B1 B2 P6 B4 B5", droppable_at="B")
    assert sent(pictures, 5) == [(0, 1, 4, 5)]


def test_leading_pictures_belong_to_the_group_before() -> None:
    """A picture shown before a key picture but coded after it needs the previous key picture."""
    pictures = group("K0 P1 P2 K5 B3 B4 P6")
    assert sent(pictures, 4) == [(0, 1, 2, 3, 4)]
    assert sent(pictures, 3, 6) == [(3, 4, 5, 6)]
    assert sent(pictures, 3, 4) == [(0, 1, 2, 3, 4)]


def test_known_ancestors_are_all_that_is_decoded() -> None:
    """When every picture says what it needs, nothing else is decoded."""
    needs = [frozenset[int](), frozenset({0}), frozenset({0}), frozenset({1, 2}), frozenset({0})]
    pictures = [CodedPicture(time_seconds=float(i), is_key=i == 0, references=needed) for i, needed in enumerate(needs)]
    assert sent(pictures, 4) == [(0, 4)]
    assert sent(pictures, 3) == [(0, 1, 2, 3)]


def test_an_ancestor_before_the_key_picture_means_decode_all() -> None:
    """A reference across a key picture is not trusted: the whole stretch is decoded."""
    pictures = [
        CodedPicture(time_seconds=0, is_key=True, references=frozenset()),
        CodedPicture(time_seconds=1, is_key=True, references=frozenset()),
        CodedPicture(time_seconds=2, is_key=False, references=frozenset({1})),
        CodedPicture(time_seconds=3, is_key=False, references=frozenset({0})),
    ]
    assert sent(pictures, 3) == [(1, 2, 3)]


def test_order_and_clean_starts() -> None:
    """Times missing or twice the same tell no order; a start is clean when the first coded is the first shown."""
    assert presentation_order(group("K0 P3 B1 B2")) == [0, 2, 3, 1]
    assert presentation_order(group("K0 P0")) is None
    assert presentation_order([CodedPicture(time_seconds=None, is_key=True)]) is None
    assert starts_with_key_picture(group("K0 P1"), [0, 1])
    assert not starts_with_key_picture(group("P0 K1"), [0, 1])
    assert not starts_with_key_picture(group("K2 B0 B1"), [1, 2, 0])


@pytest.mark.parametrize(
    ("codec", "packet", "expected"),
    [
        ("h264", b"\0\0\1\x09\xf0\0\0\1\x01\x9a", True),
        ("h264", b"\0\0\1\x41\x9a", False),
        ("h264", b"\0\0\1\x67\x42\0\0\1\x01\x9a", False),
        ("hevc", b"\0\0\1\x00\x01", True),
        ("hevc", b"\0\0\1\x02\x01", False),
        ("mpeg2video", b"\0\0\1\0\x00\x18\0\0", True),
        ("mpeg2video", b"\0\0\1\0\x00\x10\0\0", False),
        ("vp9", b"\x82\0\0", False),
        ("h264", b"", False),
        ("hevc", b"\0\0\1", False),
        ("mpeg2video", b"\0\0\1\0", False),
    ],
)
def test_headers_tell_what_is_unused(codec: str, packet: bytes, expected: bool) -> None:
    """Non-reference slices can be dropped; parameter sets, references and broken packets cannot."""
    assert find_droppable(codec, None, [packet]) == [expected]


@pytest.mark.parametrize(
    ("codec", "packet", "expected"),
    [
        ("vp9", bytes([0b10000100, 0, 0]), True),
        ("vp9", bytes([0b10000110, 0, 0]), False),
        ("vp9", bytes([0b10001000, 0, 0]), False),
        ("vp9", bytes([0b10000100, 0, 0b11000001]), False),
        ("vp8", b"\x00", True),
        ("vp8", b"\x10", False),
        ("h264", b"\x00", False),
        ("vp9", b"", False),
    ],
)
def test_hidden_pictures_are_known(codec: str, packet: bytes, expected: bool) -> None:
    """VP8 and VP9 carry pictures that are never shown, alone or in a superframe with one that is."""
    assert is_hidden(codec, packet) is expected


@pytest.mark.parametrize(
    "packet", [b"", b"\x0a", b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff", b"\x32\x02\x00\x00", bytes(40)]
)
def test_broken_av1_is_not_understood(packet: bytes) -> None:
    """Nothing is concluded from what cannot be read."""
    assert av1.find_references(None, [packet]) is None
