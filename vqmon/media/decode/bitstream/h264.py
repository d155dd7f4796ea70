"""Whether the parameter sets of an H.264 stream declare how far its pictures are reordered.

Without that declaration libav must decode pictures to find out. Source: ITU-T H.264 7.3.2.1.1 (sequence parameter set),
E.1.1 (video usability information, with `bitstream_restriction_flag`), E.1.2 (HRD parameters); ISO/IEC 14496-15 5.3.3
for the avcC record in which MP4 stores parameter sets.
"""

from collections.abc import Iterator

from vqmon.media.decode.bitstream.bits import BitReader

_SPS = 7
_PROFILES_WITH_CHROMA_FORMAT = frozenset((44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244))
_EXTENDED_SAR = 255
_MAX_REFERENCES_IN_CYCLE = 255
_MAX_CPB_COUNT = 31


def declares_reordering(extradata: bytes | None) -> bool:
    """True when there are sequence parameter sets and each one can be parsed and holds a bitstream restriction."""
    try:
        sets = list(_sequence_parameter_sets(extradata or b""))
        return bool(sets) and all(_has_bitstream_restriction(_unescape(content)) for content in sets)
    except (ValueError, IndexError):
        return False


def _sequence_parameter_sets(extradata: bytes) -> Iterator[bytes]:
    """The sequence parameter sets without their NAL unit header, from an avcC record or from start codes."""
    if extradata[:1] == b"\x01":
        offset = 6
        for _ in range(extradata[5] & 31):
            size = int.from_bytes(extradata[offset : offset + 2], "big")
            yield extradata[offset + 3 : offset + 2 + size]
            offset += 2 + size
        return
    for unit in extradata.split(b"\0\0\1")[1:]:
        if unit and unit[0] & 31 == _SPS:
            yield unit[1:]


def _unescape(unit: bytes) -> bytes:
    """Remove the emulation prevention bytes (ITU-T H.264 7.4.1)."""
    return unit.replace(b"\0\0\3", b"\0\0")


def _has_bitstream_restriction(content: bytes) -> bool:
    bits = BitReader(content)
    profile = bits.read(24) >> 16
    bits.read_exp_golomb()
    if profile in _PROFILES_WITH_CHROMA_FORMAT:
        _skip_chroma_format(bits)
    bits.read_exp_golomb()
    _skip_picture_order_count(bits)
    bits.read_exp_golomb()
    bits.read(1)
    _skip_exp_golomb(bits, 2)
    if not bits.read(1):
        bits.read(1)
    bits.read(1)
    _skip_exp_golomb(bits, 4 * bits.read(1))
    if not bits.read(1):
        return False
    _skip_to_restriction_flag(bits)
    return bits.read(1) == 1


def _skip_chroma_format(bits: BitReader) -> None:
    chroma_format = bits.read_exp_golomb()
    bits.read(chroma_format == 3)
    _skip_exp_golomb(bits, 2)
    bits.read(1)
    if bits.read(1):
        for index in range(12 if chroma_format == 3 else 8):
            if bits.read(1):
                _skip_scaling_list(bits, 16 if index < 6 else 64)


def _skip_scaling_list(bits: BitReader, size: int) -> None:
    last_scale, next_scale = 8, 8
    for _ in range(size):
        if next_scale:
            next_scale = (last_scale + bits.read_signed_exp_golomb()) % 256
        last_scale = next_scale or last_scale


def _skip_picture_order_count(bits: BitReader) -> None:
    kind = bits.read_exp_golomb()
    if kind == 0:
        bits.read_exp_golomb()
    elif kind == 1:
        bits.read(1)
        _skip_exp_golomb(bits, 2)
        count = bits.read_exp_golomb()
        if count > _MAX_REFERENCES_IN_CYCLE:
            raise ValueError("the picture order count cycle is too long")
        _skip_exp_golomb(bits, count)


def _skip_to_restriction_flag(bits: BitReader) -> None:
    """Skip the video usability information that precedes `bitstream_restriction_flag`."""
    if bits.read(1) and bits.read(8) == _EXTENDED_SAR:
        bits.read(32)
    if bits.read(1):
        bits.read(1)
    if bits.read(1):
        bits.read(4)
        bits.read(24 * bits.read(1))
    _skip_exp_golomb(bits, 2 * bits.read(1))
    bits.read(65 * bits.read(1))
    has_hrd_parameters = False
    for _ in range(2):
        if bits.read(1):
            has_hrd_parameters = True
            _skip_hrd_parameters(bits)
    bits.read(has_hrd_parameters)
    bits.read(1)


def _skip_hrd_parameters(bits: BitReader) -> None:
    count = bits.read_exp_golomb() + 1
    if count > _MAX_CPB_COUNT + 1:
        raise ValueError("there are too many coded picture buffers")
    bits.read(8)
    for _ in range(count):
        _skip_exp_golomb(bits, 2)
        bits.read(1)
    bits.read(20)


def _skip_exp_golomb(bits: BitReader, count: int) -> None:
    for _ in range(count):
        bits.read_exp_golomb()
