"""The Dolby Vision profile, as each container and the pictures themselves tell it."""

import pytest

from vqmon.media.decode.bitstream.containers.dolby_vision import DolbyVision, find_dolby_vision


def record(profile: int, compatibility: int = 0) -> bytes:
    """The configuration record: version 1.0, level 6, RPU and base layer present."""
    return bytes([1, 0, profile << 1, 6 << 3 | 0b101, compatibility << 4]) + bytes(19)


def box(kind: bytes, content: bytes) -> bytes:
    return (len(content) + 8).to_bytes(4, "big") + kind + content


def element(name: bytes, content: bytes) -> bytes:
    return name + (1 << 28 | len(content)).to_bytes(4, "big") + content


def mp4(profile: int, compatibility: int = 0) -> bytes:
    return box(b"moov", box(b"trak", box(b"dvcC", record(profile, compatibility))))


def matroska(profile: int, compatibility: int = 0) -> bytes:
    mapping = element(b"\x41\xe7", b"dvcC") + element(b"\x41\xed", record(profile, compatibility))
    entry = element(b"\xd7", b"\1") + element(b"\x41\xe4", mapping)
    tracks = element(b"\x16\x54\xae\x6b", element(b"\xae", entry))
    return element(b"\x1a\x45\xdf\xa3", b"") + element(b"\x18\x53\x80\x67", tracks)


def transport_stream(profile: int, compatibility: int = 0) -> bytes:
    """A programme association table, and a programme map table that is longer than a packet."""
    descriptor = b"\xb0\x05" + record(profile, compatibility)[:5]
    stream = b"\x24\xe1\x00" + (0xF000 | len(descriptor)).to_bytes(2, "big") + descriptor
    padding = b"\x0f\xfe" + bytes(254)
    info = (0xF000 | len(padding)).to_bytes(2, "big") + padding
    body = b"\x00\x01\xc1\x00\x00\xe1\x00" + info + stream + bytes(4)
    section = b"\0\x02" + (0xB000 | len(body)).to_bytes(2, "big") + body
    association = b"\0\0\xb0\x0d\x00\x01\xc1\x00\x00\x00\x01\xf0\x00" + bytes(4)
    packets = [b"\x47\x40\x00\x10" + association.ljust(184, b"\xff"), b"\x47\x50\x00\x10" + section[:184]]
    packets.append(b"\x47\x10\x00\x11" + section[184:].ljust(184, b"\xff"))
    return b"".join(packets) + (b"\x47\x01\x00\x10" + bytes(184)) * 20


def rpu_picture(*, is_full_range: bool) -> bytes:
    """A picture of HEVC with start codes and the metadata of profile 5 or, with limited range, of another one."""
    bits = f"{25:08b}{2:06b}{18:011b}{0:04b}{1:04b}1" + "0" + "00" + f"{24:09b}" + "01" + f"{is_full_range:b}"
    bits += "0" * (-len(bits) % 8)
    payload = int(bits, 2).to_bytes(len(bits) // 8, "big")
    return b"\0\0\0\1\x26\x01\xaf" + b"\0\0\0\1" + bytes([62 << 1, 1]) + payload


@pytest.mark.parametrize(("demuxer", "build"), [("mov", mp4), ("matroska", matroska), ("mpegts", transport_stream)])
@pytest.mark.parametrize(
    ("profile", "compatibility", "is_shown"), [(5, 0, False), (8, 1, True), (8, 4, True), (10, 0, False), (10, 1, True)]
)
def test_every_container_tells_the_profile(  # type: ignore[no-untyped-def]
    demuxer: str, build, profile: int, compatibility: int, is_shown: bool
) -> None:
    """And whether the pictures can be shown without their metadata."""
    media = build(profile, compatibility)
    found = find_dolby_vision(media, demuxer, codec="hevc", extradata=None, packets=[])
    assert found == DolbyVision(profile=profile, compatibility=compatibility)
    assert found.has_shown_base_layer == is_shown
    other = {"mov": "matroska", "matroska": "mpegts", "mpegts": "mov"}[demuxer]
    assert find_dolby_vision(media, other, codec="hevc", extradata=None, packets=[]) is None


def test_pictures_tell_the_profile_where_the_container_does_not() -> None:
    """By the full range of a base layer that nobody else can show; in the first pictures, and in HEVC alone."""
    picture = rpu_picture(is_full_range=True)
    found = find_dolby_vision(b"", "hevc", codec="hevc", extradata=None, packets=[picture])
    assert found is not None
    assert not found.has_shown_base_layer
    with_lengths = b"\0\0\0\3\x26\x01\xaf" + len(picture[11:]).to_bytes(4, "big") + picture[11:]
    extradata = b"\1" + bytes(20) + b"\xff"
    assert find_dolby_vision(b"", "mov", codec="hevc", extradata=extradata, packets=[with_lengths]) == found
    for packets, codec in (([rpu_picture(is_full_range=False)], "hevc"), ([picture], "h264"), ([picture[:14]], "hevc")):
        assert find_dolby_vision(b"", "hevc", codec=codec, extradata=None, packets=packets) is None
