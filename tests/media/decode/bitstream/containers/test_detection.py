"""Detection of container formats from bytes."""

import pytest

from tests.media.clips import clip, x264
from vqmon.errors import DecodeError
from vqmon.media.decode.bitstream.containers.detection import detect_demuxer, ends_within_packet

# a frame of AAC of 16 bytes, and a tag that holds 3
ADTS = b"\xff\xf1\x50\x80\x02\x00\xfc" + bytes(9)
ID3 = b"ID3\x04\0\0\0\0\0\x03abc"

MXF = bytes.fromhex("060e2b34020501010d0102010102")


@pytest.mark.parametrize(
    ("media", "reason"),
    [
        (b"", "empty"),
        (b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/secret.ts\n", "not_media"),
        (b"v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n", "not_media"),
        (b"concat:/etc/hostname|/etc/passwd", "not_media"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", "not_media"),
        (bytes(5000), "not_media"),
        (b"\x1f\x43\xb6\x75" + bytes(50), "missing_init"),
        (b"\x00\x00\x00\x10moof" + bytes(8) + b"\x00\x00\x00\x10mdat" + bytes(8), "missing_init"),
        # boxes of 435 and 442 bytes, whose lengths are start codes of MPEG video
        (b"\0\0\1\xb3emsg" + bytes(427) + b"\0\0\0\x10moof" + bytes(8), "missing_init"),
        (b"\0\0\1\xbamoof" + bytes(434), "missing_init"),
        (b"\0\0\0\x18moov\0\0\0\x10trak\0\0\0\x08encv", "encrypted"),
        ((b"\x47\x01\x00\x90" + bytes(184)) * 50, "encrypted"),
        (ADTS * 3, "no_video"),
        (ID3 + ADTS * 3, "no_video"),
        (ID3 + b"\x0b\x77" + bytes(100), "no_video"),
        (ID3 + b"\xff\xfb\x90\x44" + bytes(100), "no_video"),
        (b"RIFF\x24\0\0\0WAVEfmt ", "no_video"),
        (b"OggS" + bytes(24) + b"OpusHead" + bytes(30), "no_video"),
        (b"OggS" + bytes(24) + b"\x80theora" + bytes(30), "not_media"),
        (ADTS[:5] + b"\x1f" + ADTS[6:] + bytes(40), "not_media"),
    ],
)
def test_text_fragments_without_header_and_encrypted_media_are_refused(media: bytes, reason: str) -> None:
    """None of these bytes ever reach libav."""
    with pytest.raises(DecodeError) as caught:
        detect_demuxer(media)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"hello world\n", "text"),
        ("\ufeffGr\u00fc\u00dfe".encode(), "text"),
        ("hello".encode("utf-16"), "text"),
        # cut off within a character at the end of the sample
        (b"a" * 1023 + "\u00fc".encode(), "text"),
        (b"\n#EXTM3U\n", "an HLS playlist"),
        (b'<?xml version="1.0"?>\n<MPD xmlns="x">', "a DASH manifest"),
        (b"<!doctype HTML>\n<html>", "a web page"),
        (b'<?xml version="1.0"?><Error><Code>NoSuchKey</Code></Error>', "XML"),
        (b'{"error": 404}', "JSON"),
        (b"WEBVTT\n\n", "WebVTT subtitles"),
        (b"\x00\x01 text with control characters", None),
        (b"\xe9t\xe9 in Latin-1", None),
    ],
)
def test_text_is_named_and_other_bytes_are_shown(content: bytes, kind: str | None) -> None:
    """A file named `text.mp4` that holds text is explained as text."""
    with pytest.raises(DecodeError) as caught:
        detect_demuxer(content)
    assert caught.value.reason == "not_media"
    shown = f"the content is {kind}, not media" if kind else f"the bytes start with {content[:8].hex(' ')}, as no"
    assert caught.value.detail.startswith(shown)


@pytest.mark.parametrize(
    ("container", "demuxer"), [("mpegts", "mpegts"), ("mp4", "mov"), ("matroska", "matroska"), ("webm", "matroska")]
)
def test_the_demuxer_follows_from_the_bytes(container: str, demuxer: str) -> None:
    """Each container that FFmpeg writes is recognized."""
    options = ("-c:v", "libvpx", "-b:v", "300k") if container == "webm" else x264()
    assert detect_demuxer(clip(*options, container=container, seconds=0.2)) == demuxer


@pytest.mark.parametrize(
    ("media", "demuxer"),
    [
        (b"RIFF\x24\0\0\0AVI LIST", "avi"),
        (b"FLV\x01\x05", "flv"),
        (b"DKIF\0\0", "ivf"),
        (b"YUV4MPEG2 W16 H16\n", "yuv4mpegpipe"),
        (MXF, "mxf"),
        (bytes(65_536) + MXF, "mxf"),
        (b"\0\0\0\1\x67\x64", "h264"),
        (b"\0\0\1\x09\x10", "h264"),
        (b"\0\0\0\1\x40\x01", "hevc"),
        (b"\0\0\1\x46\x01", "hevc"),
        (b"\0\0\0\1\x00\x79", "vvc"),
        (b"\0\0\1\xba\x44", "mpeg"),
        (b"\0\0\1\xb3\x14", "mpegvideo"),
        (b"\x12\0\x0a\x0b", "obu"),
        # behind too much of a run-in; parameter sets of a layer of its own; without a start code
        (bytes(65_537) + MXF, None),
        (b"\0\0\1\x40\x09", None),
        (b"\x67\x64\0\x28", None),
    ],
)
def test_other_containers_begin_with_a_name_of_their_own(media: bytes, demuxer: str | None) -> None:
    """Raw video with a parameter set or a delimiter behind a start code."""
    media += bytes(64)
    if demuxer is not None:
        assert detect_demuxer(media) == demuxer
        return
    with pytest.raises(DecodeError) as caught:
        detect_demuxer(media)
    assert caught.value.reason == "not_media"


@pytest.mark.parametrize(
    ("muxer", "options", "name"),
    [
        ("ogg", ("-c:v", "libtheora"), "Ogg"),
        ("asf", ("-c:v", "wmv2"), "ASF"),
        ("nut", x264(), "NUT"),
        ("wtv", ("-c:v", "mpeg2video"), "WTV"),
        ("dv", ("-s", "720x576", "-r", "25", "-pix_fmt", "yuv420p", "-c:v", "dvvideo"), "raw DV"),
        ("m4v", ("-c:v", "mpeg4"), "raw MPEG-4 video"),
    ],
)
def test_formats_that_are_not_read_are_refused_by_name(muxer: str, options: tuple[str, ...], name: str) -> None:
    """And by the setting that names what is read."""
    with pytest.raises(DecodeError, match=f"{name}.*decode.containers") as caught:
        detect_demuxer(clip(*options, container=muxer, seconds=0.2))
    assert caught.value.reason == "not_media"


@pytest.mark.parametrize("prefix_bytes", [0, 1, 700])
@pytest.mark.parametrize("stride", [188, 192, 204])
def test_transport_streams_may_start_late_and_have_longer_packets(prefix_bytes: int, stride: int) -> None:
    """Bytes before the first packet, and packets with timestamps or parity, do not matter."""
    packet = b"\x47\x01\x00\x10" + bytes(184) + bytes(stride - 188)
    assert detect_demuxer(bytes(prefix_bytes) + packet * 40) == "mpegts"


def test_a_transport_stream_with_some_damaged_packets_is_recognized() -> None:
    """Up to a quarter of the sync bytes may be missing."""
    packet = b"\x47\x01\x00\x10" + bytes(184)
    damaged = b"\x00" + packet[1:]
    assert detect_demuxer((packet * 3 + damaged) * 10) == "mpegts"
    with pytest.raises(DecodeError):
        detect_demuxer((packet + damaged) * 20)


@pytest.mark.parametrize("container", ["mpegts", "matroska", "webm"])
def test_a_file_that_was_cut_off_ends_within_a_packet(container: str) -> None:
    """Wherever it was cut, apart from the end of a packet of a transport stream; a whole file does not."""
    options = ("-c:v", "libvpx", "-b:v", "300k") if container == "webm" else x264()
    media = clip(*options, container=container, seconds=1)
    demuxer = detect_demuxer(media)
    assert not ends_within_packet(media, demuxer)
    cuts = [len(media) * percent // 100 for percent in range(30, 100, 7)]
    found = [ends_within_packet(media[:cut], demuxer) for cut in cuts if container != "mpegts" or cut % 188]
    assert found == [True] * len(found)
    assert len(found) > 5


def test_what_follows_a_transport_stream_is_no_cut_packet() -> None:
    """Padding does not begin with the sync byte; timestamps before packets and parity after them are no rest."""
    media = clip(*x264(), seconds=0.4)
    packets = [media[start : start + 188] for start in range(0, len(media), 188)]
    for whole in (media + bytes(12), b"".join(bytes(4) + p for p in packets), b"".join(p + bytes(16) for p in packets)):
        assert not ends_within_packet(whole, "mpegts")
    assert ends_within_packet(b"".join(bytes(4) + p for p in packets)[:-7], "mpegts")
    assert not ends_within_packet(media[:-7], "mov")


@pytest.mark.parametrize(
    ("tail", "is_cut"),
    [
        (b"", False),
        # an element of 3 bytes, of which 2 are there; a header of which half is there; a size of which nothing is
        (b"\xec\x83\x00\x00", True),
        (b"\x1f\x43", True),
        (b"\xec", True),
        # a cluster of unknown size holds elements; any other element of unknown size, or zeros, cannot be followed
        (b"\x1f\x43\xb6\x75\xff\xec\x81\x00", False),
        (b"\x1f\x43\xb6\x75\xff\xec\x82\x00", True),
        (b"\xec\xff\x00", False),
        (bytes(3), False),
    ],
)
def test_matroska_elements_are_followed_to_the_end(tail: bytes, is_cut: bool) -> None:
    """A segment of unknown size is entered."""
    media = b"\x1a\x45\xdf\xa3\x81\x00" + b"\x18\x53\x80\x67\x01" + b"\xff" * 7 + tail
    assert ends_within_packet(media, "matroska") == is_cut
