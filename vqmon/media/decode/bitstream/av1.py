"""Which temporal units each AV1 temporal unit is predicted from, read from its frame headers.

Only the first fields of the sequence header and of each frame header are read (AV1 bitstream specification 5.5, 5.9 and
5.11.1); the reference slots are updated as in its reference frame update process (7.20). A frame whose references
cannot be read one by one is taken to need all slots. A header that cannot be parsed makes the whole result None.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vqmon.media.decode.bitstream.bits import BitReader

_SEQUENCE, _FRAME_HEADER, _FRAME = 1, 3, 6
_KEY, _INTRA_ONLY, _SWITCH = 0, 2, 3
_SELECT = 2
_ALL_SLOTS = frozenset(range(8))


@dataclass(frozen=True, slots=True)
class _SequenceHeader:
    """The fields of a sequence header that are needed to parse frame headers."""

    frame_id_bits: int
    screen_content_tools: int
    integer_mv: int
    order_hint_bits: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _FrameHeader:
    """References of one frame: the slots it is predicted from, and the slots it overwrites."""

    reference_slots: frozenset[int] = frozenset()
    # refresh_frame_flags: one bit per slot
    refresh_flags: int = 0
    is_key: bool = False
    # the slot whose frame is shown again (frame_to_show_map_idx)
    shown_slot: int | None = None


def find_references(extradata: bytes | None, packets: Sequence[bytes]) -> list[frozenset[int]] | None:
    """For each temporal unit, the positions of the units it is predicted from; None when a header cannot be parsed."""
    try:
        sequence = _find_sequence_header((extradata or b"")[4:])
        slots, references = _ReferenceSlots(), []
        for position, packet in enumerate(packets):
            sequence = _find_sequence_header(packet) or sequence
            if sequence is None:
                return None
            needed: set[int] = set()
            for kind, payload in _iterate_obus(packet):
                if kind in (_FRAME_HEADER, _FRAME):
                    needed |= slots.update(_parse_frame_header(payload, sequence), position)
            references.append(frozenset(needed - {position}))
    except ValueError:
        return None
    return references


class _ReferenceSlots:
    """Which temporal unit wrote each of the eight reference slots, and whether it was a key frame."""

    def __init__(self) -> None:
        self._writers: list[tuple[int, bool]] = [(-1, False)] * 8

    def update(self, header: _FrameHeader, position: int) -> set[int]:
        """Return the positions of the units that a frame needs, and record the slots that it writes."""
        needed = {self._writers[slot][0] for slot in header.reference_slots} - {-1}
        is_key = header.is_key or (header.shown_slot is not None and self._writers[header.shown_slot][1])
        refresh_flags = 0xFF if header.shown_slot is not None and is_key else header.refresh_flags
        for slot in range(8):
            if refresh_flags >> slot & 1:
                self._writers[slot] = (position, is_key)
        return needed


def _iterate_obus(content: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, first 64 bytes of the payload) of each open bitstream unit; stops at the first malformed one."""
    offset = 0
    while offset < len(content):
        header = content[offset]
        offset += 2 if header & 4 else 1
        size = len(content) - offset
        if header & 2:
            size, offset = _read_leb128(content, offset)
        yield header >> 3 & 15, content[offset : offset + min(size, 64)]
        offset += size


def _parse_sequence_header(payload: bytes) -> _SequenceHeader | None:
    """None for still pictures and for sequences with a decoder model, which are not supported."""
    bits = BitReader(payload)
    bits.read(3)
    if bits.read(2):
        return None
    if bits.read(1):
        # timing information; a decoder model may follow
        bits.read(64)
        if bits.read(1) or bits.read(1):
            return None
    _skip_operating_points(bits)
    width_bits, height_bits = bits.read(4) + 1, bits.read(4) + 1
    bits.read(width_bits + height_bits)
    frame_id_bits = bits.read(4) + 2 + bits.read(3) + 1 if bits.read(1) else 0
    bits.read(7)
    has_order_hint = bits.read(1)
    bits.read(2 * has_order_hint)
    screen_content_tools = _SELECT if bits.read(1) else bits.read(1)
    integer_mv = _SELECT
    if screen_content_tools and not bits.read(1):
        integer_mv = bits.read(1)
    return _SequenceHeader(frame_id_bits, screen_content_tools, integer_mv, bits.read(3) + 1 if has_order_hint else 0)


def _parse_frame_header(payload: bytes, sequence: _SequenceHeader) -> _FrameHeader:
    bits = BitReader(payload)
    if bits.read(1):
        shown_slot = bits.read(3)
        return _FrameHeader(reference_slots=frozenset({shown_slot}), shown_slot=shown_slot)
    kind, is_shown = bits.read(2), bits.read(1)
    if not is_shown:
        bits.read(1)
    if kind == _KEY and is_shown:
        return _FrameHeader(refresh_flags=0xFF, is_key=True)
    if kind == _SWITCH:
        return _FrameHeader(refresh_flags=0xFF, reference_slots=_ALL_SLOTS)
    is_resilient = bits.read(1)
    bits.read(1)
    allows_screen = bits.read(1) if sequence.screen_content_tools == _SELECT else sequence.screen_content_tools
    if allows_screen and sequence.integer_mv == _SELECT:
        bits.read(1)
    bits.read(sequence.frame_id_bits + 1 + sequence.order_hint_bits)
    is_intra = kind in (_KEY, _INTRA_ONLY)
    if not is_intra and not is_resilient:
        bits.read(3)
    refresh_flags = bits.read(8)
    if is_intra:
        return _FrameHeader(refresh_flags=refresh_flags, is_key=kind == _KEY)
    slots = _read_reference_slots(bits, sequence, is_resilient=bool(is_resilient))
    return _FrameHeader(refresh_flags=refresh_flags, reference_slots=slots)


def _read_reference_slots(bits: BitReader, sequence: _SequenceHeader, *, is_resilient: bool) -> frozenset[int]:
    if is_resilient and sequence.order_hint_bits:
        bits.read(8 * sequence.order_hint_bits)
    has_short_signaling = bits.read(1) if sequence.order_hint_bits else 0
    if has_short_signaling or sequence.frame_id_bits:
        return _ALL_SLOTS
    return frozenset(bits.read(3) for _ in range(7))


def _skip_operating_points(bits: BitReader) -> None:
    has_delays = bits.read(1)
    for _ in range(bits.read(5) + 1):
        bits.read(12)
        if bits.read(5) > 7:
            bits.read(1)
        if has_delays and bits.read(1):
            bits.read(4)


def _find_sequence_header(content: bytes) -> _SequenceHeader | None:
    return next(
        (_parse_sequence_header(payload) for kind, payload in _iterate_obus(content) if kind == _SEQUENCE), None
    )


def _read_leb128(content: bytes, offset: int) -> tuple[int, int]:
    """(value, offset behind it) of a little-endian base-128 number (AV1 bitstream specification 4.10.5)."""
    value = 0
    for index in range(8):
        if offset + index >= len(content):
            raise ValueError("the LEB128 number is truncated")
        byte = content[offset + index]
        value |= (byte & 127) << 7 * index
        if not byte & 128:
            return value, offset + index + 1
    raise ValueError("not a LEB128 number")
