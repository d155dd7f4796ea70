"""Reading of bit fields and Exp-Golomb codes."""

import pytest

from vqmon.media.decode.bitstream.bits import BitReader


def reader(bits: str) -> BitReader:
    """A reader of these bits, padded with zeros to whole bytes."""
    digits = bits.replace(" ", "")
    digits += "0" * (-len(digits) % 8)
    return BitReader(int(digits, 2).to_bytes(len(digits) // 8, "big"))


def test_fields_are_read_in_order_across_bytes() -> None:
    """Bits are counted from the most significant one; a field of no bits is 0."""
    bits = reader("101 000001 1111111")
    assert [bits.read(3), bits.read(6), bits.read(0), bits.read(7)] == [5, 1, 0, 127]


def test_reading_beyond_the_end_is_an_error() -> None:
    """The last bit can be read, the one after it cannot."""
    bits = BitReader(b"\x01")
    assert bits.read(8) == 1
    with pytest.raises(ValueError, match="truncated"):
        bits.read(1)


@pytest.mark.parametrize(
    ("code", "unsigned", "signed"),
    [("1", 0, 0), ("010", 1, 1), ("011", 2, -1), ("00100", 3, 2), ("00101", 4, -2), ("0001000", 7, 4)],
)
def test_exp_golomb_codes_are_those_of_the_standard(code: str, unsigned: int, signed: int) -> None:
    """ITU-T H.264 tables 9-2 and 9-3."""
    assert reader(code).read_exp_golomb() == unsigned
    assert reader(code).read_signed_exp_golomb() == signed


def test_a_code_with_too_many_zeros_is_an_error() -> None:
    """No standard code has more than 32 leading zeros."""
    with pytest.raises(ValueError, match="Exp-Golomb"):
        BitReader(bytes(20)).read_exp_golomb()
