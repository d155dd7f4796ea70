"""Sections of transport streams."""

from vqmon.media.decode.bitstream.containers.transport_stream import iterate_sections


def test_sections_may_begin_anywhere_in_a_packet_and_go_on_in_others() -> None:
    """futzu/threefive #16: several in one packet, one over several, behind adaptation fields, up to stuffing."""
    short, long = b"\xfc\xb0\x04\1\2\3\4", b"\xfc\xb1\x2c" + bytes(300)

    def packet(payload: bytes, *, begins: bool, pid: int = 0x1F0) -> bytes:
        room = 184 - len(payload)
        head = b"\x47" + ((0x4000 if begins else 0) | pid).to_bytes(2, "big")
        # the rest is an adaptation field
        field = b"" if not room else bytes([room - 1]) + (b"\0" + b"\xff" * (room - 2) if room > 1 else b"")
        return head + (b"\x30" if room else b"\x10") + field + payload

    stream = b"".join(
        [
            packet(b"\0" + short + short + long[:100], begins=True),
            packet(b"\0" + b"\xff" * 20, begins=True, pid=0x1F1),
            packet(long[100:200], begins=False),
            # the rest of it, then another one
            packet(bytes([103]) + long[200:] + short + b"\xff" * 8, begins=True),
            packet(b"lost its beginning", begins=False, pid=0x1F2),
        ]
    )
    stream += b"".join(packet(b"\xff", begins=False, pid=0x1FFF) for _ in range(4))
    assert list(iterate_sections(stream, {0x1F0, 0x1F1, 0x1F2})) == [short, short, long, short]
    assert list(iterate_sections(stream[:188], {0x1F1})) == []
