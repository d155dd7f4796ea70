"""What each AV1 temporal unit is predicted from, by the reference slots that its frame headers name.

Read are the first fields of the sequence header and of each frame header, AV1 bitstream specification 5.5, 5.9 and
5.11.1; the slots follow its reference frame update process (7.20). A frame that does not name its references one by
one is taken to need all slots. Whatever is not understood makes the whole answer None.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_SEQUENCE, _FRAME_HEADER, _FRAME = 1, 3, 6
_KEY, _INTRA_ONLY, _SWITCH = 0, 2, 3
_SELECT = 2
_ALL_SLOTS = frozenset(range(8))


@dataclass(frozen=True, slots=True)
class SequenceHeader:
    """What a frame header cannot be read without."""

    frame_id_bits: int
    screen_content_tools: int
    integer_mv: int
    order_hint_bits: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameHeader:
    """`uses`: slots predicted from; `refreshes`: bit mask of slots written; `shows`: a slot that is shown again."""

    uses: frozenset[int] = frozenset()
    refreshes: int = 0
    is_key: bool = False
    shows: int | None = None


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


def needs(extradata: bytes | None, packets: Sequence[bytes]) -> list[frozenset[int]] | None:
    """For each temporal unit, the positions of those that it is predicted from; None when that cannot be told."""
    try:
        sequence = _sequence_in((extradata or b"")[4:])
        slots, found = _Slots(), []
        for position, packet in enumerate(packets):
            sequence = _sequence_in(packet) or sequence
            if sequence is None:
                return None
            used: set[int] = set()
            for kind, payload in obus(packet):
                if kind in (_FRAME_HEADER, _FRAME):
                    used |= slots.take(frame_header(payload, sequence), position)
            found.append(frozenset(used - {position}))
    except ValueError:
        return None
    return found


class _Slots:
    """Which temporal unit wrote each of the eight reference slots, and whether it was a key frame."""

    def __init__(self) -> None:
        self._written: list[tuple[int, bool]] = [(-1, False)] * 8

    def take(self, header: FrameHeader, position: int) -> set[int]:
        """The units that a frame needs; notes what it writes."""
        used = {self._written[slot][0] for slot in header.uses} - {-1}
        is_key = header.is_key or (header.shows is not None and self._written[header.shows][1])
        refreshed = 0xFF if header.shows is not None and is_key else header.refreshes
        for slot in range(8):
            if refreshed >> slot & 1:
                self._written[slot] = (position, is_key)
        return used


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


def frame_header(payload: bytes, sequence: SequenceHeader) -> FrameHeader:
    """The references that a frame names and the slots that it writes."""
    bits = Bits(payload)
    if bits.take(1):
        shows = bits.take(3)
        return FrameHeader(uses=frozenset({shows}), shows=shows)
    kind, is_shown = bits.take(2), bits.take(1)
    if not is_shown:
        bits.take(1)
    if kind == _KEY and is_shown:
        return FrameHeader(refreshes=0xFF, is_key=True)
    if kind == _SWITCH:
        return FrameHeader(refreshes=0xFF, uses=_ALL_SLOTS)
    is_resilient = bits.take(1)
    bits.take(1)
    allows_screen = bits.take(1) if sequence.screen_content_tools == _SELECT else sequence.screen_content_tools
    if allows_screen and sequence.integer_mv == _SELECT:
        bits.take(1)
    bits.take(sequence.frame_id_bits + 1 + sequence.order_hint_bits)
    is_intra = kind in (_KEY, _INTRA_ONLY)
    if not is_intra and not is_resilient:
        bits.take(3)
    refreshes = bits.take(8)
    if is_intra:
        return FrameHeader(refreshes=refreshes, is_key=kind == _KEY)
    return FrameHeader(refreshes=refreshes, uses=_references(bits, sequence, is_resilient=bool(is_resilient)))


def _references(bits: Bits, sequence: SequenceHeader, *, is_resilient: bool) -> frozenset[int]:
    if is_resilient and sequence.order_hint_bits:
        bits.take(8 * sequence.order_hint_bits)
    is_short = bits.take(1) if sequence.order_hint_bits else 0
    if is_short or sequence.frame_id_bits:
        return _ALL_SLOTS
    return frozenset(bits.take(3) for _ in range(7))


def _skip_operating_points(bits: Bits) -> None:
    has_delays = bits.take(1)
    for _ in range(bits.take(5) + 1):
        bits.take(12)
        if bits.take(5) > 7:
            bits.take(1)
        if has_delays and bits.take(1):
            bits.take(4)


def _sequence_in(content: bytes) -> SequenceHeader | None:
    return next((sequence_header(payload) for kind, payload in obus(content) if kind == _SEQUENCE), None)


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
