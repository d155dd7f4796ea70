"""AVIF files: the primary picture, its alpha channel and its properties.

Sources: ISO/IEC 14496-12 8.11 (metadata boxes), ISO/IEC 23008-12 (HEIF) 6.5 and 9.3, AV1 Image File Format 1.1.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

from vqmon.errors import DecodeError
from vqmon.media.decode.bitstream.containers.boxes import iterate_iso_boxes
from vqmon.media.decode.stills.still import CodedColour, StillPicture, animation_error
from vqmon.media.images.resampling import Orientation

_ALPHA_URNS = (b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0", b"urn:mpeg:hevc:2015:auxid:1\0")
_MAX_EXTENTS = 256
_SIZE_FORMATS = {0: "", 4: "I", 8: "Q"}


@dataclass(slots=True)
class _Metadata:
    """The contents of a `meta` box; items are named by their id."""

    primary: int | None = None
    kinds: dict[int, bytes] = field(default_factory=dict)
    # item -> (whether in the `idat` box, [(offset, length or 0 for the rest)])
    locations: dict[int, tuple[bool, list[tuple[int, int]]]] = field(default_factory=dict)
    properties: list[tuple[bytes, bytes]] = field(default_factory=list)
    associations: dict[int, list[int]] = field(default_factory=dict)
    # (kind, from, to)
    references: list[tuple[bytes, int, int]] = field(default_factory=list)
    item_data: bytes = b""

    def properties_of(self, item: int) -> Mapping[bytes, bytes]:
        """The properties of an item by their type, colour by its kind ("nclx", "prof"), of which there may be two."""
        indices = self.associations.get(item, ())
        chosen = [self.properties[index - 1] for index in indices if 0 < index <= len(self.properties)]
        return {content[:4] if kind == b"colr" else kind: content for kind, content in chosen}


def is_picture_file(media: bytes) -> bool:
    """Whether an ISO file holds pictures as items, which are no tracks (AVIF, HEIC)."""
    if media[4:8] != b"ftyp":
        return False
    kinds = {kind for kind, _, _ in iterate_iso_boxes(media)}
    return b"meta" in kinds and (b"moov" not in kinds or not _brands(media).isdisjoint((b"avif", b"avis")))


def read_avif(media: bytes) -> StillPicture:
    """Describe the primary picture; raises DecodeError: corrupt, unsupported_codec (animated, tiles, other codecs)."""
    if b"avis" in _brands(media):
        raise animation_error("AVIF")
    try:
        metadata = _read_metadata(media)
        return _primary_picture(media, metadata)
    except (struct.error, IndexError):
        raise DecodeError("corrupt", "the metadata of the AVIF file is damaged") from None


def _primary_picture(media: bytes, metadata: _Metadata) -> StillPicture:
    primary = metadata.primary
    if primary is None or primary not in metadata.kinds:
        raise DecodeError("corrupt", "the file names no primary picture")
    kind = metadata.kinds[primary]
    if kind != b"av01":
        name = {b"grid": "a picture of tiles", b"hvc1": "an HEIC picture"}.get(kind, f"a picture of kind {kind!r}")
        raise DecodeError("unsupported_codec", f"{name}; AVIF pictures in one part are decoded")
    properties = metadata.properties_of(primary)
    width, height = struct.unpack_from(">II", properties.get(b"ispe", b""), 4)
    alpha = _alpha_item(metadata, primary)
    return StillPicture(
        format="avif",
        codec="libdav1d",
        width=width,
        height=height,
        payload=_item_bytes(media, metadata, primary),
        orientation=_orientation(properties),
        has_icc_profile=b"prof" in properties or b"rICC" in properties,
        alpha_payload=None if alpha is None else _item_bytes(media, metadata, alpha),
        is_premultiplied=(b"prem", primary, alpha) in metadata.references,
        colour=_coded_colour(properties),
        notes=("the clean aperture of the picture is not applied",) if b"clap" in properties else (),
    )


def _alpha_item(metadata: _Metadata, primary: int) -> int | None:
    for kind, item, target in metadata.references:
        auxiliary = metadata.properties_of(item).get(b"auxC", b"")[4:]
        if kind == b"auxl" and target == primary and auxiliary.startswith(_ALPHA_URNS):
            if metadata.kinds.get(item) != b"av01":
                raise DecodeError("unsupported_codec", "the alpha channel of the AVIF picture is made of tiles")
            return item
    return None


def _orientation(properties: Mapping[bytes, bytes]) -> Orientation:
    """Rotation (counter-clockwise quarter turns), then mirroring; Exif metadata does not count in AVIF."""
    turns = properties.get(b"irot", b"\0")[0] & 3
    flips_x, flips_y = turns in (2, 3), turns in (1, 2)
    if b"imir" in properties:
        mirrors_columns = bool(properties[b"imir"][0] & 1)
        flips_x, flips_y = flips_x ^ mirrors_columns, flips_y ^ (not mirrors_columns)
    return Orientation(transposes=turns in (1, 3), flips_x=flips_x, flips_y=flips_y)


def _coded_colour(properties: Mapping[bytes, bytes]) -> CodedColour | None:
    if b"nclx" not in properties:
        return None
    transfer, matrix, flags = struct.unpack_from(">HHB", properties[b"nclx"], 6)
    return CodedColour(transfer=transfer, matrix=matrix, is_full_range=bool(flags & 0x80))


def _item_bytes(media: bytes, metadata: _Metadata, item: int) -> bytes:
    if item not in metadata.locations:
        raise DecodeError("corrupt", "the AVIF file does not tell where its picture is")
    is_in_metadata, extents = metadata.locations[item]
    source = metadata.item_data if is_in_metadata else media
    parts = []
    for offset, length in extents:
        stop = offset + length if length else len(source)
        if stop > len(source) or offset >= stop:
            raise DecodeError("corrupt", f"the AVIF file is cut off: its picture ends at byte {stop} of {len(source)}")
        parts.append(source[offset:stop])
    return b"".join(parts)


def _brands(media: bytes) -> set[bytes]:
    """The major and the compatible brands."""
    size = min(int.from_bytes(media[:4], "big"), 1024)
    return {media[8:12], *(media[offset : offset + 4] for offset in range(16, size - 3, 4))}


def _read_metadata(media: bytes) -> _Metadata:
    metadata = _Metadata()
    readers = {
        b"pitm": _read_primary_item,
        b"iinf": _read_item_kinds,
        b"iloc": _read_locations,
        b"iprp": _read_properties,
        b"iref": _read_references,
    }
    top = [(start, end) for kind, start, end in iterate_iso_boxes(media) if kind == b"meta"]
    for kind, start, end in iterate_iso_boxes(media, top[0][0] + 4, top[0][1]):
        if kind == b"idat":
            metadata.item_data = media[start:end]
        elif kind in readers:
            readers[kind](metadata, media[start:end])
    return metadata


def _read_primary_item(metadata: _Metadata, content: bytes) -> None:
    (metadata.primary,) = struct.unpack_from(">I" if content[:1] != b"\0" else ">H", content, 4)


def _read_item_kinds(metadata: _Metadata, content: bytes) -> None:
    first = 8 if content[:1] != b"\0" else 6
    for kind, start, _ in iterate_iso_boxes(content, first):
        version = content[start]
        if kind == b"infe" and version in (2, 3):
            item_format = ">I" if version == 3 else ">H"
            (item,) = struct.unpack_from(item_format, content, start + 4)
            offset = start + 4 + struct.calcsize(item_format) + 2
            (metadata.kinds[item],) = struct.unpack_from("4s", content, offset)


def _read_locations(metadata: _Metadata, content: bytes) -> None:
    version, sizes, index_sizes = content[0], content[4], content[5]
    read = partial(_unpack, content)
    try:
        offset_format, length_format = _SIZE_FORMATS[sizes >> 4], _SIZE_FORMATS[sizes & 15]
        base_format = _SIZE_FORMATS[index_sizes >> 4]
        index_format = _SIZE_FORMATS[index_sizes & 15] if version else ""
    except KeyError:
        raise DecodeError("corrupt", "the AVIF file does not tell where its picture is") from None
    id_format = "I" if version == 2 else "H"
    (count,), position = read(id_format, 6)
    for _ in range(count):
        header, position = read(f"{id_format}{'H' if version else ''}H{base_format}", position)
        base = header[-1] if base_format else 0
        (extent_count,), position = read("H", position)
        extent_format = index_format + offset_format + length_format
        if extent_count > _MAX_EXTENTS or not extent_format:
            raise DecodeError("corrupt", f"a picture of the AVIF file has {extent_count} parts")
        extents = []
        for _ in range(extent_count):
            extent, position = read(extent_format, position)
            offset = extent[len(index_format)] if offset_format else 0
            extents.append((base + offset, extent[-1] if length_format else 0))
        metadata.locations[header[0]] = (bool(version) and header[1] & 15 == 1, extents)


def _unpack(content: bytes, layout: str, position: int) -> tuple[tuple[int, ...], int]:
    """The big-endian integers at a position, and the position behind them."""
    return struct.unpack_from(f">{layout}", content, position), position + struct.calcsize(f">{layout}")


def _read_properties(metadata: _Metadata, content: bytes) -> None:
    for kind, start, end in iterate_iso_boxes(content):
        if kind == b"ipco":
            metadata.properties += [(name, content[a:b]) for name, a, b in iterate_iso_boxes(content, start, end)]
        elif kind == b"ipma":
            _read_associations(metadata, content[start:end])


def _read_associations(metadata: _Metadata, content: bytes) -> None:
    has_long_indices = content[3] & 1
    position = 8
    (count,) = struct.unpack_from(">I", content, 4)
    for _ in range(count):
        (item,), position = _unpack(content, "I" if content[0] else "H", position)
        (length,), position = _unpack(content, "B", position)
        indices, position = _unpack(content, ("H" if has_long_indices else "B") * length, position)
        metadata.associations[item] = [index & (0x7FFF if has_long_indices else 0x7F) for index in indices]


def _read_references(metadata: _Metadata, content: bytes) -> None:
    item_format = "I" if content[:1] != b"\0" else "H"
    for kind, start, _ in iterate_iso_boxes(content, 4):
        (item, count), position = _unpack(content, f"{item_format}H", start)
        targets, _ = _unpack(content, item_format * count, position)
        metadata.references += [(kind, item, target) for target in targets]
