"""Common encryption: what is encrypted, and what is only announced to be."""

import struct
from collections.abc import Iterator

import pytest

from tests.media.clips import MOTION, ffmpeg, x264
from tests.media.decode.rig import decode_in_process
from vqmon.core.types import View
from vqmon.errors import DecodeError
from vqmon.media.decode.bitstream.containers.boxes import iterate_iso_boxes
from vqmon.media.decode.bitstream.containers.encryption import has_only_encrypted_video

VIEW = View(kind="stretch", width=32, height=18)
CENC = ("-encryption_scheme", "cenc-aes-ctr", "-encryption_key", "00" * 16, "-encryption_kid", "11" * 16)


def boxes(media: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(type, whole box) of each top-level box."""
    offset = 0
    for kind, _, end in iterate_iso_boxes(media):
        yield kind, media[offset:end]
        offset = end


def fragments(*options: str) -> tuple[bytes, list[bytes]]:
    """The initialization section of a clip of two seconds, and each movie fragment with its media."""
    pattern = MOTION.format(size="64x36", rate=25, seconds=2)
    flags = ("-movflags", "frag_keyframe+empty_moov+default_base_moof", "-f", "mp4")
    media = ffmpeg("-f", "lavfi", "-i", pattern, *x264(bframes=0), *options, *flags, "-")
    parts = [(kind, box) for kind, box in boxes(media) if kind in (b"ftyp", b"moov", b"moof", b"mdat")]
    head = b"".join(box for kind, box in parts if kind in (b"ftyp", b"moov"))
    rest = [box for kind, box in parts if kind in (b"moof", b"mdat")]
    return head, [rest[index] + rest[index + 1] for index in range(0, len(rest), 2)]


@pytest.fixture(scope="module")
def clear() -> tuple[bytes, list[bytes]]:
    return fragments()


@pytest.fixture(scope="module")
def encrypted() -> tuple[bytes, list[bytes]]:
    return fragments(*CENC)


Parts = tuple[bytes, list[bytes]]


def test_encrypted_fragments_are_encrypted(encrypted: Parts) -> None:
    """All of them, and the reason is not damage."""
    media = encrypted[0] + b"".join(encrypted[1])
    assert has_only_encrypted_video(media)
    with pytest.raises(DecodeError) as caught:
        decode_in_process(media, VIEW)
    assert caught.value.reason == "encrypted"


def test_a_clear_lead_of_an_encrypted_track_is_decoded(clear: Parts, encrypted: Parts) -> None:
    """As the same fragments with their own header."""
    announced = decode_in_process(encrypted[0] + b"".join(clear[1]), VIEW)
    plain = decode_in_process(clear[0] + b"".join(clear[1]), VIEW)
    assert announced.times_seconds == plain.times_seconds
    assert (announced.views[VIEW] == plain.views[VIEW]).all()


def test_of_a_file_that_becomes_encrypted_the_clear_part_is_decoded(clear: Parts, encrypted: Parts) -> None:
    """And the rest is said to be left out."""
    decoded = decode_in_process(encrypted[0] + clear[1][0] + encrypted[1][1], VIEW)
    assert decoded.times_seconds == (0.0,)
    assert "25 encrypted frames are left out" in decoded.media.notes


def box(kind: bytes, *content: bytes) -> bytes:
    body = b"".join(content)
    return struct.pack(">I4s", len(body) + 8, kind) + body


def movie(*entries: bytes, default_entry: int = 1) -> bytes:
    """A movie box with one video track, number 1."""
    header = box(b"tkhd", bytes(12), struct.pack(">I", 1), bytes(60))
    table = box(b"stsd", bytes(4), struct.pack(">I", len(entries)), *entries)
    media = box(b"mdia", box(b"hdlr", bytes(8), b"vide", bytes(13)), box(b"minf", box(b"stbl", table)))
    extends = box(b"mvex", box(b"trex", bytes(4), struct.pack(">II", 1, default_entry), bytes(12)))
    return box(b"moov", box(b"trak", header, media), extends)


def entry(*, protected: int = 1, iv_bytes: int = 8) -> bytes:
    scheme = box(b"tenc", bytes(4), bytes([0, 0, protected, iv_bytes]), bytes(16))
    return box(b"encv", bytes(78), box(b"sinf", box(b"schi", scheme)))


def run(*content: bytes, index: int | None = None) -> bytes:
    flags, extra = (0, b"") if index is None else (2, struct.pack(">I", index))
    return box(b"moof", box(b"traf", box(b"tfhd", struct.pack(">II", flags, 1), extra), *content))


SENC = box(b"senc", bytes(8))
PLAIN = box(b"avc1", bytes(78))
CLEAR_GROUP = (
    box(b"sgpd", struct.pack(">I4sII", 1 << 24, b"seig", 20, 1), bytes(20)),
    box(b"sbgp", bytes(4), b"seig", struct.pack(">III", 1, 50, 0x10001)),
)
PROTECTED_GROUP = (box(b"sgpd", struct.pack(">I4sII", 1 << 24, b"seig", 20, 1), b"\0\0\1" + bytes(17)), CLEAR_GROUP[1])


@pytest.mark.parametrize(
    ("media", "is_encrypted"),
    [
        (movie(PLAIN) + run(), False),
        (movie(entry()) + run(SENC), True),
        (movie(entry()) + run(), False),
        (movie(entry(iv_bytes=0)) + run(), True),
        (movie(entry(protected=0)) + run(SENC), False),
        (movie(entry(), PLAIN) + run(SENC, index=1), True),
        (movie(entry(), PLAIN) + run(index=2), False),
        (movie(entry(), PLAIN, default_entry=2) + run(), False),
        (movie(entry()) + run(SENC, *CLEAR_GROUP), False),
        (movie(entry()) + run(SENC, *PROTECTED_GROUP), True),
        (movie(entry()) + run() + run(SENC), False),
        (movie(entry()), True),
        (movie(entry(), PLAIN), False),
        (box(b"moov", box(b"trak", box(b"tkhd", b"\0"), b"encv")), True),
        (b"", False),
    ],
)
def test_entries_groups_and_vectors_tell_what_is_encrypted(media: bytes, is_encrypted: bool) -> None:
    """Of a damaged header that names an encrypted entry nothing is believed."""
    assert has_only_encrypted_video(media) is is_encrypted
