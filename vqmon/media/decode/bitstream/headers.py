"""What the headers of coded pictures tell: which are hidden, and from which no other picture is predicted.

Sources: ITU-T H.264 7.4.1 (nal_ref_idc), ITU-T H.265 7.4.2.2 and table 7-1 (sub-layer non-reference pictures),
ISO/IEC 13818-2 6.3.9 (picture_coding_type), RFC 6386 9.1 (VP8 show_frame), VP9 bitstream specification 6.2 and annex B.
"""

from collections.abc import Iterator, Sequence

from vqmon.media.decode.bitstream import h264

_HEVC_LAST_NON_REFERENCE = 14
_MPEG2_B = 3


def find_droppable(codec: str, extradata: bytes | None, packets: Sequence[bytes]) -> list[bool]:
    """For each packet, whether no other picture is predicted from it; all False for codecs that are not supported here.

    `extradata` tells whether the NAL units of H.264 and HEVC have length fields or start codes.
    """
    if codec == "h264":
        length_bytes = _nal_length_bytes(extradata, offset=4)
        return [_is_droppable_h264(_nal_unit_headers(packet, length_bytes)) for packet in packets]
    if codec == "hevc":
        length_bytes = _nal_length_bytes(extradata, offset=21)
        layers = [_hevc_layer(_nal_unit_headers(packet, length_bytes)) for packet in packets]
        # "non-reference" holds within one temporal layer: it is decisive in the highest layer only
        top_layer = max((layer for layer, _ in layers), default=0)
        return [is_non_reference and layer == top_layer for layer, is_non_reference in layers]
    if codec in ("mpeg2video", "mpeg1video"):
        return [_is_droppable_mpeg2(packet) for packet in packets]
    return [False] * len(packets)


def headers_suffice(codec: str, extradata: bytes | None, *, pixel_format: str | None) -> bool:
    """Whether the headers tell libav about a stream as much as decoding its first pictures would."""
    if codec == "h264":
        return h264.declares_reordering(extradata)
    return codec == "hevc" or (codec == "libdav1d" and pixel_format is not None)


def is_hidden(codec: str, packet: bytes | memoryview) -> bool:
    """True for a packet of VP8 or VP9 whose picture is never shown and serves as a reference only."""
    if not len(packet):
        return False
    if codec == "vp8":
        return not packet[0] & 0x10
    if codec != "vp9" or packet[-1] & 0xE0 == 0xC0 or packet[0] >> 6 != 2:
        # a superframe ends in a picture that is shown
        return False
    bits = (packet[0] << 8 | packet[min(1, len(packet) - 1)]) >> 3
    shift = 7 if packet[0] & 0x30 == 0x30 else 8
    shows_existing, shows = bits >> shift & 1, bits >> shift - 2 & 1
    return not shows_existing and not shows


def nal_units(packet: bytes, extradata: bytes | None) -> Iterator[bytes]:
    """The NAL units of a picture of HEVC, with length fields or start codes as `extradata` tells."""
    length_bytes = _nal_length_bytes(extradata, offset=21)
    if not length_bytes:
        yield from packet.split(b"\0\0\1")[1:]
        return
    offset = 0
    while offset + length_bytes < len(packet):
        start = offset + length_bytes
        offset = start + int.from_bytes(packet[offset:start], "big")
        yield packet[start:offset]


def _nal_unit_headers(packet: bytes, length_bytes: int) -> Iterator[bytes]:
    """The first two bytes of each NAL unit; `length_bytes` is 0 for start codes."""
    if length_bytes:
        offset = 0
        while offset + length_bytes < len(packet):
            size = int.from_bytes(packet[offset : offset + length_bytes], "big")
            offset += length_bytes
            yield packet[offset : offset + 2]
            offset += size
        return
    offset = packet.find(b"\0\0\1")
    while offset >= 0:
        yield packet[offset + 3 : offset + 5]
        offset = packet.find(b"\0\0\1", offset + 3)


def _nal_length_bytes(extradata: bytes | None, *, offset: int) -> int:
    """The size of the length fields that an avcC or hvcC record declares at `offset`; 0 for start codes."""
    if extradata and len(extradata) > offset and extradata[0] == 1:
        return (extradata[offset] & 3) + 1
    return 0


def _is_droppable_h264(headers: Iterator[bytes]) -> bool:
    slices = 0
    for header in headers:
        if not header:
            return False
        kind, reference_idc = header[0] & 31, header[0] >> 5
        if kind in (1, 2, 3, 4, 5):
            slices += 1
            if reference_idc or kind == 5:
                return False
        elif kind in (7, 8, 13, 15):
            # parameter sets must reach the decoder
            return False
    return slices > 0


def _hevc_layer(headers: Iterator[bytes]) -> tuple[int, bool]:
    """(temporal layer, whether all slices are of non-reference pictures)."""
    top, slices, is_non_reference = 0, 0, True
    for header in headers:
        if len(header) < 2:
            return top, False
        kind, layer, temporal = header[0] >> 1 & 63, (header[0] & 1) << 5 | header[1] >> 3, (header[1] & 7) - 1
        if kind < 32:
            slices += 1
            top = max(top, temporal)
            is_non_reference &= kind <= _HEVC_LAST_NON_REFERENCE and kind % 2 == 0 and layer == 0
        elif kind in (32, 33, 34):
            is_non_reference = False
    return top, is_non_reference and slices > 0


def _is_droppable_mpeg2(packet: bytes) -> bool:
    offset = packet.find(b"\0\0\1\0")
    if offset < 0 or len(packet) < offset + 6 or packet.find(b"\0\0\1\xb3") >= 0:
        return False
    return packet[offset + 5] >> 3 & 7 == _MPEG2_B
