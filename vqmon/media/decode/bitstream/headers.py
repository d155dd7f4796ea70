"""What the headers of coded pictures say: which are hidden, and which nothing else is predicted from.

Sources: ITU-T H.264 7.4.1 (nal_ref_idc), ITU-T H.265 7.4.2.2 and table 7-1 (sub-layer non-reference pictures),
ISO/IEC 13818-2 6.3.9 (picture_coding_type), RFC 6386 9.1 (VP8 show_frame), VP9 bitstream specification 6.2 and annex B.
"""

from collections.abc import Iterator, Sequence

from vqmon.media.decode.bitstream import h264

_HEVC_LAST_NON_REFERENCE = 14
_MPEG2_B = 3


def droppable(codec: str, extradata: bytes | None, packets: Sequence[bytes]) -> list[bool]:
    """For each packet, whether it can be left out; all False for a codec whose headers are not read here.

    `extradata` tells whether H.264 and HEVC come with length fields or with start codes.
    """
    if codec == "h264":
        length_bytes = _length_bytes(extradata, at=4)
        return [_h264(nal_units(packet, length_bytes)) for packet in packets]
    if codec == "hevc":
        length_bytes = _length_bytes(extradata, at=21)
        layers = [_hevc_layer(nal_units(packet, length_bytes)) for packet in packets]
        # "non-reference" is said within one temporal layer: only in the highest one is it the whole truth
        top = max((layer for layer, _ in layers), default=0)
        return [is_unused and layer == top for layer, is_unused in layers]
    if codec in ("mpeg2video", "mpeg1video"):
        return [_mpeg2(packet) for packet in packets]
    return [False] * len(packets)


def tells_everything(codec: str, extradata: bytes | None, *, pixel_format: str | None) -> bool:
    """Whether libav learns nothing about a track by decoding its first pictures that headers have not told it."""
    if codec == "h264":
        return h264.tells_reordering(extradata)
    return codec == "hevc" or (codec == "libdav1d" and pixel_format is not None)


def hidden(codec: str, packet: bytes | memoryview) -> bool:
    """True for a packet of VP8 or VP9 that holds a picture only for others to be predicted from."""
    if not len(packet):
        return False
    if codec == "vp8":
        return not packet[0] & 0x10
    if codec != "vp9" or packet[-1] & 0xE0 == 0xC0 or packet[0] >> 6 != 2:
        # a superframe ends in a picture that is shown
        return False
    bits = (packet[0] << 8 | packet[min(1, len(packet) - 1)]) >> 3
    at = 7 if packet[0] & 0x30 == 0x30 else 8
    shows_existing, shows = bits >> at & 1, bits >> at - 2 & 1
    return not shows_existing and not shows


def nal_units(packet: bytes, length_bytes: int) -> Iterator[bytes]:
    """The first two bytes of each NAL unit; `length_bytes` is 0 for start codes."""
    if length_bytes:
        at = 0
        while at + length_bytes < len(packet):
            size = int.from_bytes(packet[at : at + length_bytes], "big")
            at += length_bytes
            yield packet[at : at + 2]
            at += size
        return
    at = packet.find(b"\0\0\1")
    while at >= 0:
        yield packet[at + 3 : at + 5]
        at = packet.find(b"\0\0\1", at + 3)


def _length_bytes(extradata: bytes | None, *, at: int) -> int:
    if extradata and len(extradata) > at and extradata[0] == 1:
        return (extradata[at] & 3) + 1
    return 0


def _h264(units: Iterator[bytes]) -> bool:
    slices = 0
    for unit in units:
        if not unit:
            return False
        kind, importance = unit[0] & 31, unit[0] >> 5
        if kind in (1, 2, 3, 4, 5):
            slices += 1
            if importance or kind == 5:
                return False
        elif kind in (7, 8, 13, 15):
            # parameter sets must reach the decoder
            return False
    return slices > 0


def _hevc_layer(units: Iterator[bytes]) -> tuple[int, bool]:
    """(temporal layer, whether all slices are of non-reference pictures)."""
    top, slices, is_unused = 0, 0, True
    for unit in units:
        if len(unit) < 2:
            return top, False
        kind, layer, temporal = unit[0] >> 1 & 63, (unit[0] & 1) << 5 | unit[1] >> 3, (unit[1] & 7) - 1
        if kind < 32:
            slices += 1
            top = max(top, temporal)
            is_unused &= kind <= _HEVC_LAST_NON_REFERENCE and kind % 2 == 0 and layer == 0
        elif kind in (32, 33, 34):
            is_unused = False
    return top, is_unused and slices > 0


def _mpeg2(packet: bytes) -> bool:
    at = packet.find(b"\0\0\1\0")
    if at < 0 or len(packet) < at + 6 or packet.find(b"\0\0\1\xb3") >= 0:
        return False
    return packet[at + 5] >> 3 & 7 == _MPEG2_B
