"""What the headers of coded pictures tell: droppable and hidden pictures."""

import pytest

from vqmon.media.decode.bitstream.headers import find_droppable, is_hidden


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
def test_headers_tell_which_pictures_can_be_dropped(codec: str, packet: bytes, expected: bool) -> None:
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
def test_hidden_pictures_of_vp8_and_vp9_are_recognized(codec: str, packet: bytes, expected: bool) -> None:
    """VP8 and VP9 carry pictures that are never shown, alone or in a superframe with one that is."""
    assert is_hidden(codec, packet) is expected
