"""References of AV1 temporal units."""

import pytest

from vqmon.media.decode.bitstream import av1


@pytest.mark.parametrize(
    "packet", [b"", b"\x0a", b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff", b"\x32\x02\x00\x00", bytes(40)]
)
def test_invalid_av1_headers_give_no_references(packet: bytes) -> None:
    """Nothing is concluded from what cannot be read."""
    assert av1.find_references(None, [packet]) is None
