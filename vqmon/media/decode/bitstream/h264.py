"""Whether the parameter sets of an H.264 track say in advance how far its pictures are out of order.

When they do not, libav must decode pictures to find out, and only then. Source: ITU-T H.264 7.3.2.1.1 (sequence
parameter set), E.1.1 (its usability information, with `bitstream_restriction_flag`), E.1.2; ISO/IEC 14496-15 5.3.3
for the record in which MP4 keeps them.
"""

from collections.abc import Iterator

from vqmon.media.decode.bitstream.av1 import Bits

_SPS = 7
_WITH_CHROMA_FORMAT = frozenset((44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244))
_EXPLICIT_ASPECT = 255
_MAX_REFERENCES_IN_CYCLE = 255
_MAX_CPB_COUNT = 31


def tells_reordering(extradata: bytes | None) -> bool:
    """True when every sequence parameter set is there, can be read, and holds its bitstream restriction."""
    try:
        sets = list(_sequence_sets(extradata or b""))
        return bool(sets) and all(_is_restricted(_unescaped(one)) for one in sets)
    except (ValueError, IndexError):
        return False


def _sequence_sets(extradata: bytes) -> Iterator[bytes]:
    """The sequence parameter sets without their first byte, from an avcC record or from start codes."""
    if extradata[:1] == b"\x01":
        at = 6
        for _ in range(extradata[5] & 31):
            size = int.from_bytes(extradata[at : at + 2], "big")
            yield extradata[at + 3 : at + 2 + size]
            at += 2 + size
        return
    for unit in extradata.split(b"\0\0\1")[1:]:
        if unit and unit[0] & 31 == _SPS:
            yield unit[1:]


def _unescaped(unit: bytes) -> bytes:
    return unit.replace(b"\0\0\3", b"\0\0")


def _is_restricted(content: bytes) -> bool:
    bits = Bits(content)
    profile = bits.take(24) >> 16
    _unsigned(bits)
    if profile in _WITH_CHROMA_FORMAT:
        _skip_chroma_format(bits)
    _unsigned(bits)
    _skip_order_count(bits)
    _unsigned(bits)
    bits.take(1)
    _skip_unsigned(bits, 2)
    if not bits.take(1):
        bits.take(1)
    bits.take(1)
    _skip_unsigned(bits, 4 * bits.take(1))
    if not bits.take(1):
        return False
    _skip_to_restriction(bits)
    return bits.take(1) == 1


def _skip_chroma_format(bits: Bits) -> None:
    chroma = _unsigned(bits)
    bits.take(chroma == 3)
    _skip_unsigned(bits, 2)
    bits.take(1)
    if bits.take(1):
        for index in range(12 if chroma == 3 else 8):
            if bits.take(1):
                _skip_scaling_list(bits, 16 if index < 6 else 64)


def _skip_scaling_list(bits: Bits, size: int) -> None:
    last, coming = 8, 8
    for _ in range(size):
        if coming:
            coming = (last + _signed(bits)) % 256
        last = coming or last


def _skip_order_count(bits: Bits) -> None:
    kind = _unsigned(bits)
    if kind == 0:
        _unsigned(bits)
    elif kind == 1:
        bits.take(1)
        _skip_unsigned(bits, 2)
        count = _unsigned(bits)
        if count > _MAX_REFERENCES_IN_CYCLE:
            raise ValueError("no picture order count has so long a cycle")
        _skip_unsigned(bits, count)


def _skip_to_restriction(bits: Bits) -> None:
    """The usability information up to the flag that is asked for."""
    if bits.take(1) and bits.take(8) == _EXPLICIT_ASPECT:
        bits.take(32)
    if bits.take(1):
        bits.take(1)
    if bits.take(1):
        bits.take(4)
        bits.take(24 * bits.take(1))
    _skip_unsigned(bits, 2 * bits.take(1))
    bits.take(65 * bits.take(1))
    has_buffers = False
    for _ in range(2):
        if bits.take(1):
            has_buffers = True
            _skip_buffer_model(bits)
    bits.take(has_buffers)
    bits.take(1)


def _skip_buffer_model(bits: Bits) -> None:
    count = _unsigned(bits) + 1
    if count > _MAX_CPB_COUNT + 1:
        raise ValueError("no stream has so many buffers")
    bits.take(8)
    for _ in range(count):
        _skip_unsigned(bits, 2)
        bits.take(1)
    bits.take(20)


def _skip_unsigned(bits: Bits, count: int) -> None:
    for _ in range(count):
        _unsigned(bits)


def _unsigned(bits: Bits) -> int:
    """An Exp-Golomb code, ITU-T H.264 9.1; a signed one takes as many bits."""
    zeros = 0
    while not bits.take(1):
        zeros += 1
        if zeros > 32:
            raise ValueError("not an Exp-Golomb code")
    return (1 << zeros) - 1 + bits.take(zeros)


def _signed(bits: Bits) -> int:
    code = _unsigned(bits)
    return (code + 1) // 2 if code & 1 else -(code // 2)
