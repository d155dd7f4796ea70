"""AV1 temporal units that nothing else is predicted from: those whose frames refresh no reference slot.

Read are the first fields of the sequence header and of each frame header, AV1 bitstream specification 5.5, 5.9 and
5.11.1. Whatever is not understood counts as needed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_SEQUENCE, _FRAME_HEADER, _FRAME = 1, 3, 6
_KEY, _INTRA_ONLY, _SWITCH = 0, 2, 3
_SELECT = 2


@dataclass(frozen=True, slots=True)
class SequenceHeader:
    """What a frame header cannot be read without."""

    frame_id_bits: int
    screen_content_tools: int
    integer_mv: int
    order_hint_bits: int


class Bits:
    """Reads big-endian bit fields; raises ValueError behind the end."""

    def __init__(self, content: bytes) -> None:
        self._value = int.from_bytes(content, "big")
        self._left = len(content) * 8

    def take(self, count: int) -> int:
        self._left -= count
        if self._left < 0:
            raise ValueError("header ends early")
        return self._value >> self._left & (1 << count) - 1


def droppable(extradata: bytes | None, packets: Sequence[bytes]) -> list[bool]:
    """For each temporal unit, whether it can be left out."""
    sequence = _sequence_in((extradata or b"")[4:])
    found = []
    for packet in packets:
        sequence = _sequence_in(packet) or sequence
        found.append(sequence is not None and _is_unused(packet, sequence))
    return found


def obus(content: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, first 64 bytes of the payload) of each open bitstream unit; stops where the structure does."""
    at = 0
    while at < len(content):
        head = content[at]
        at += 2 if head & 4 else 1
        size = len(content) - at
        if head & 2:
            size, at = _leb128(content, at)
        yield head >> 3 & 15, content[at : at + min(size, 64)]
        at += size


def sequence_header(payload: bytes) -> SequenceHeader | None:
    """None for a sequence of a kind that is not read here: still pictures, or a decoder model."""
    bits = Bits(payload)
    bits.take(3)
    if bits.take(2):
        return None
    if bits.take(1):
        # timing information; a decoder model may follow
        bits.take(64)
        if bits.take(1) or bits.take(1):
            return None
    _skip_operating_points(bits)
    width_bits, height_bits = bits.take(4) + 1, bits.take(4) + 1
    bits.take(width_bits + height_bits)
    frame_id_bits = bits.take(4) + 2 + bits.take(3) + 1 if bits.take(1) else 0
    bits.take(7)
    has_order_hint = bits.take(1)
    bits.take(2 * has_order_hint)
    screen = _SELECT if bits.take(1) else bits.take(1)
    integer_mv = _SELECT
    if screen and not bits.take(1):
        integer_mv = bits.take(1)
    return SequenceHeader(frame_id_bits, screen, integer_mv, bits.take(3) + 1 if has_order_hint else 0)


def refreshes(payload: bytes, sequence: SequenceHeader) -> bool:
    """Whether a frame with this header becomes a reference, or shows one again."""
    bits = Bits(payload)
    if bits.take(1):
        return True
    kind, is_shown = bits.take(2), bits.take(1)
    if not is_shown:
        bits.take(1)
    is_shown_key = kind == _KEY and is_shown
    if kind == _SWITCH or is_shown_key:
        return True
    is_resilient = bits.take(1)
    bits.take(1)
    allows_screen = bits.take(1) if sequence.screen_content_tools == _SELECT else sequence.screen_content_tools
    if allows_screen and sequence.integer_mv == _SELECT:
        bits.take(1)
    bits.take(sequence.frame_id_bits + 1 + sequence.order_hint_bits)
    if kind not in (_KEY, _INTRA_ONLY) and not is_resilient:
        bits.take(3)
    return bits.take(8) != 0


def _skip_operating_points(bits: Bits) -> None:
    has_delays = bits.take(1)
    for _ in range(bits.take(5) + 1):
        bits.take(12)
        if bits.take(5) > 7:
            bits.take(1)
        if has_delays and bits.take(1):
            bits.take(4)


def _sequence_in(content: bytes) -> SequenceHeader | None:
    try:
        return next((sequence_header(payload) for kind, payload in obus(content) if kind == _SEQUENCE), None)
    except ValueError:
        return None


def _is_unused(packet: bytes, sequence: SequenceHeader) -> bool:
    frames = 0
    try:
        for kind, payload in obus(packet):
            if kind == _SEQUENCE:
                return False
            if kind in (_FRAME_HEADER, _FRAME):
                frames += 1
                if refreshes(payload, sequence):
                    return False
    except ValueError:
        return False
    return frames > 0


def _leb128(content: bytes, at: int) -> tuple[int, int]:
    value = 0
    for place in range(8):
        if at + place >= len(content):
            raise ValueError("length ends early")
        byte = content[at + place]
        value |= (byte & 127) << 7 * place
        if not byte & 128:
            return value, at + place + 1
    raise ValueError("not a length")
