"""Dolby Vision: which profile a track has, from its container or from the metadata in its pictures.

Sources: Dolby Vision Streams within the ISO Base Media File Format 2.4 (configuration record), within the MPEG-2
Transport Stream Format 1.2 (descriptor 0xB0), Matroska (RFC 9559, BlockAdditionMapping); ETSI GS CCM 001 (RPU).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from vqmon.media.decode.bitstream.bits import BitReader
from vqmon.media.decode.bitstream.containers.boxes import iterate_elements, iterate_iso_boxes
from vqmon.media.decode.bitstream.containers.transport_stream import program_streams
from vqmon.media.decode.bitstream.headers import nal_units

_CONFIGURATION_BOXES = (b"dvcC", b"dvvC", b"dvwC")
_DESCRIPTOR = 0xB0
_RPU_UNIT = 62
_RPU_PREFIX = 25
_PROBED_PICTURES = 8
# without a base layer that other players can show: always, or when no compatibility is declared
_PROPRIETARY, _PROPRIETARY_WITHOUT_COMPATIBILITY = (5,), (10, 20)
# Segment, Tracks, TrackEntry, BlockAdditionMapping; BlockAddIDExtraData, BlockAddIDType
_MAPPING_PATH = (b"\x18\x53\x80\x67", b"\x16\x54\xae\x6b", b"\xae", b"\x41\xe4")
_EXTRA_DATA, _ID_TYPE = b"\x41\xed", b"\x41\xe7"


@dataclass(frozen=True, slots=True, kw_only=True)
class DolbyVision:
    """The profile, and with which base layer it is compatible (0 = none)."""

    profile: int
    compatibility: int

    @property
    def has_shown_base_layer(self) -> bool:
        """Whether the pictures can be shown without their metadata."""
        return self.profile not in _PROPRIETARY and (
            self.profile not in _PROPRIETARY_WITHOUT_COMPATIBILITY or self.compatibility != 0
        )


def find_dolby_vision(
    media: bytes, demuxer: str, *, codec: str, extradata: bytes | None, packets: Sequence[bytes]
) -> DolbyVision | None:
    """What the container declares, else what the first pictures hold (HEVC); None without either."""
    finders = {"mov": _from_iso, "matroska": _from_matroska, "mpegts": _from_transport_stream}
    declared = finders[demuxer](media) if demuxer in finders else None
    if declared is not None or codec != "hevc":
        return declared
    for packet in islice(packets, _PROBED_PICTURES):
        for unit in nal_units(packet, extradata):
            if len(unit) > 3 and unit[0] >> 1 & 63 == _RPU_UNIT:
                return _from_rpu(unit[2:])
    return None


def _from_iso(media: bytes) -> DolbyVision | None:
    for kind, start, end in iterate_iso_boxes(media):
        if kind == b"moov":
            header = media[start:end]
            for name in _CONFIGURATION_BOXES:
                if (offset := header.find(name)) >= 0:
                    return _parse_record(header[offset + 4 :])
    return None


def _from_matroska(media: bytes) -> DolbyVision | None:
    for start, end in _elements_at(media, _MAPPING_PATH, 0, len(media)):
        children = {name: media[first:last] for name, first, last in iterate_elements(media, start, end)}
        if children.get(_ID_TYPE) in _CONFIGURATION_BOXES:
            return _parse_record(children.get(_EXTRA_DATA, b""))
    return None


def _elements_at(media: bytes, path: Sequence[bytes], start: int, end: int) -> Iterator[tuple[int, int]]:
    """(start, end) of the content of each element at a path of names."""
    for name, first, last in iterate_elements(media, start, end):
        if name == path[0]:
            if len(path) == 1:
                yield first, last
            else:
                yield from _elements_at(media, path[1:], first, last)
                if name == _MAPPING_PATH[1]:
                    # clusters follow; there is one list of tracks
                    return


def _from_transport_stream(media: bytes) -> DolbyVision | None:
    for stream in program_streams(media):
        for tag, content in stream.descriptors:
            if tag == _DESCRIPTOR:
                return _parse_descriptor(content)
    return None


def _parse_record(record: bytes) -> DolbyVision | None:
    """DOVIDecoderConfigurationRecord: version (2 bytes), profile (7 bits), level (6), 3 flags, compatibility (4)."""
    if len(record) < 5:
        return None
    return DolbyVision(profile=record[2] >> 1, compatibility=record[4] >> 4)


def _parse_descriptor(content: bytes) -> DolbyVision | None:
    """DOVI_video_stream_descriptor: as the record, and a dependency when there is no base layer in the stream."""
    if len(content) < 4:
        return None
    offset = 4 if content[3] & 1 else 6
    compatibility = content[offset] >> 4 if len(content) > offset else 0
    return DolbyVision(profile=content[2] >> 1, compatibility=compatibility)


def _from_rpu(payload: bytes) -> DolbyVision | None:
    """Profile 5 from the header of a reference processing unit: RPU profile 0 with a full-range base layer."""
    bits = BitReader(payload.replace(b"\0\0\3", b"\0\0")[:32])
    try:
        if bits.read(8) != _RPU_PREFIX or bits.read(6) != 2:
            return None
        bits.read(11)
        rpu_profile = bits.read(4)
        bits.read(4)
        if not bits.read(1):
            return None
        bits.read(1)
        if bits.read(2) == 0:
            bits.read_exp_golomb()
        bits.read(2)
        is_full_range = bits.read(1)
    except ValueError:
        return None
    return DolbyVision(profile=5, compatibility=0) if rpu_profile == 0 and is_full_range else None
