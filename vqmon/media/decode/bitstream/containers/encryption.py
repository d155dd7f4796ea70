"""Common encryption in MP4 files (ISO/IEC 23001-7): whether the pictures of a file are encrypted, or only announced so.

A track that is encrypted later may begin in the clear: its fragments then refer to a second sample entry that is not
encrypted, or belong to a sample group (`seig`) that is not protected, or carry no initialization vectors.
"""

import struct
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from vqmon.media.decode.bitstream.containers.boxes import iterate_iso_boxes

_VISUAL_ENTRY_BYTES = 78
_HAS_DESCRIPTION_INDEX = 0x2
_HAS_BASE_OFFSET = 0x1
_GROUP_IN_FRAGMENT = 0x10000


@dataclass(frozen=True, slots=True, kw_only=True)
class _SampleEntry:
    """One sample entry of a video track."""

    is_protected: bool = False
    # samples have no initialization vectors of their own
    has_constant_iv: bool = False


@dataclass(slots=True)
class _Track:
    entries: list[_SampleEntry] = field(default_factory=list)
    default_entry: int = 1
    is_video: bool = False


def has_only_encrypted_video(media: bytes) -> bool:
    """Whether an MP4 file has an encrypted video track without any picture in the clear."""
    try:
        return _has_only_encrypted_video(media)
    except (struct.error, IndexError):
        return b"encv" in media


def is_in_clear_fragment(media: bytes) -> Callable[[int], bool]:
    """A function that tells whether the sample at an offset in an MP4 file belongs to a fragment in the clear."""
    try:
        _, fragments = _read(media)
    except (struct.error, IndexError):
        return lambda offset: False
    starts = [start for start, _ in fragments]

    def is_clear(offset: int) -> bool:
        # a fragment's samples lie behind its header and before the next one
        index = bisect_right(starts, offset) - 1
        return index >= 0 and not fragments[index][1]

    return is_clear


def _read(media: bytes) -> tuple[dict[int, _Track], list[tuple[int, bool]]]:
    """The tracks, and of each fragment with video its offset and whether it is encrypted."""
    tracks: dict[int, _Track] = {}
    fragments: list[tuple[int, bool]] = []
    for kind, start, end in iterate_iso_boxes(media):
        if kind == b"moov":
            tracks = _parse_tracks(media[start:end])
        elif kind == b"moof":
            runs = list(_runs_encrypted(media[start:end], tracks))
            fragments += [(start, any(runs))] if runs else []
    return tracks, fragments


def _has_only_encrypted_video(media: bytes) -> bool:
    tracks, fragments = _read(media)
    video = [track for track in tracks.values() if track.is_video]
    if not any(entry.is_protected for track in video for entry in track.entries):
        return False
    if fragments:
        return all(is_encrypted for _, is_encrypted in fragments)
    # without fragments the samples of a track with a clear entry are told apart by libav
    return all(entry.is_protected for track in video for entry in track.entries)


def _children(content: bytes, name: bytes) -> Iterator[bytes]:
    for kind, start, end in iterate_iso_boxes(content):
        if kind == name:
            yield content[start:end]


def _descend(content: bytes, *names: bytes) -> bytes:
    """The content of the first box at a path; empty when there is none."""
    for name in names:
        content = next(_children(content, name), b"")
    return content


def _parse_tracks(movie: bytes) -> dict[int, _Track]:
    tracks: dict[int, _Track] = {}
    for box in _children(movie, b"trak"):
        header = _descend(box, b"tkhd")
        (number,) = struct.unpack_from(">I", header, 20 if header[0] else 12)
        track = tracks[number] = _Track()
        track.is_video = _descend(box, b"mdia", b"hdlr")[8:12] == b"vide"
        descriptions = _descend(box, b"mdia", b"minf", b"stbl", b"stsd")[8:]
        for kind, start, end in iterate_iso_boxes(descriptions):
            track.entries.append(_parse_entry(descriptions[start:end]) if kind == b"encv" else _SampleEntry())
    for extends in _children(_descend(movie, b"mvex"), b"trex"):
        number, default_entry = struct.unpack_from(">II", extends, 4)
        if number in tracks:
            tracks[number].default_entry = default_entry
    return tracks


def _parse_entry(entry: bytes) -> _SampleEntry:
    """The protection of an `encv` sample entry; one without a scheme counts as protected."""
    scheme = _descend(entry[_VISUAL_ENTRY_BYTES:], b"sinf", b"schi", b"tenc")
    if len(scheme) < 8:
        return _SampleEntry(is_protected=True)
    return _SampleEntry(is_protected=bool(scheme[6]), has_constant_iv=scheme[7] == 0)


def _runs_encrypted(fragment: bytes, tracks: dict[int, _Track]) -> Iterator[bool]:
    """For each run of a video track in a movie fragment, whether it is encrypted."""
    for run in _children(fragment, b"traf"):
        header = _descend(run, b"tfhd")
        flags, number = struct.unpack_from(">II", header)
        track = tracks.get(number)
        if track is None or not track.is_video or not track.entries:
            continue
        index = track.default_entry
        if flags & _HAS_DESCRIPTION_INDEX:
            (index,) = struct.unpack_from(">I", header, 16 if flags & _HAS_BASE_OFFSET else 8)
        entry = track.entries[min(max(index, 1), len(track.entries)) - 1]
        has_vectors = any(_descend(run, name) for name in (b"senc", b"saiz"))
        yield entry.is_protected and not _is_group_clear(run) and (has_vectors or entry.has_constant_iv)


def _is_group_clear(run: bytes) -> bool:
    """Whether all samples of a run belong to sample groups that are not protected (`seig`, 23001-7 6)."""
    groups = next((box for box in _children(run, b"sgpd") if box[4:8] == b"seig"), b"")
    members = next((box for box in _children(run, b"sbgp") if box[4:8] == b"seig"), b"")
    if not groups or not members:
        return False
    protected = _parse_groups(groups)
    offset = 12 if members[0] else 8
    (count,) = struct.unpack_from(">I", members, offset)
    indexes = [struct.unpack_from(">II", members, offset + 4 + 8 * entry)[1] for entry in range(count)]
    numbers = [index - _GROUP_IN_FRAGMENT - 1 for index in indexes]
    return bool(numbers) and all(0 <= number < len(protected) and not protected[number] for number in numbers)


def _parse_groups(groups: bytes) -> list[bool]:
    """Whether each group description is protected."""
    version, offset, default_bytes = groups[0], 8, 0
    if version == 1:
        (default_bytes,) = struct.unpack_from(">I", groups, offset)
    if version >= 1:
        offset += 4
    (count,) = struct.unpack_from(">I", groups, offset)
    offset += 4
    protected = []
    for _ in range(min(count, 1000)):
        size = default_bytes
        if version == 1 and not default_bytes:
            (size,) = struct.unpack_from(">I", groups, offset)
            offset += 4
        protected.append(bool(groups[offset + 2]))
        offset += size or 20
    return protected
