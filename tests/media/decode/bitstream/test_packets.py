"""Timestamps, durations and facts of the packets of a video stream."""

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import pytest

from vqmon.media.decode.bitstream.gop import CodedPicture
from vqmon.media.decode.bitstream.packets import (
    PixelAspect,
    VideoPackets,
    drop_unreliable_times,
    duration_seconds,
    packet_damage,
    sample_aspect_ratio,
    stream_facts,
)


@dataclass
class Packet:
    """As much of a packet as timestamps need."""

    pts: int | None
    dts: int | None
    duration: int | None = 3600
    is_corrupt: bool = False
    is_keyframe: bool = False


@dataclass
class Context:
    name: str = "h264"


@dataclass
class Stream:
    """As much of a libav stream as is read here."""

    time_base: Fraction | None = Fraction(1, 90_000)
    average_rate: Fraction | None = Fraction(25)
    guessed_rate: Fraction | None = Fraction(25)
    sample_aspect_ratio: Fraction | None = None
    codec_context: Context = field(default_factory=Context)


def video(*packets: Packet, stream: Any = None) -> VideoPackets:
    pictures = [
        CodedPicture(time_seconds=None if packet.pts is None else packet.pts / 90_000, is_key=i == 0)
        for i, packet in enumerate(packets)
    ]
    return VideoPackets(stream=stream or Stream(), packets=list(packets), pictures=pictures, demuxer="mpegts")  # type: ignore[arg-type]


def test_the_duration_includes_the_last_picture() -> None:
    """By its packet's duration, else by the average distance of the pictures."""
    assert duration_seconds(video(Packet(0, 0), Packet(3600, 3600))) == pytest.approx(0.08)
    assert duration_seconds(video(Packet(0, 0, 0), Packet(9000, 9000, 0), Packet(18000, 18000, 0))) == pytest.approx(
        0.3
    )
    assert duration_seconds(video()) == 0.0


def test_without_times_the_frame_rate_tells_the_duration() -> None:
    """Of all pictures; that of the parameter sets where the container has none."""
    stream = Stream(average_rate=Fraction(25), guessed_rate=Fraction(30))
    packets = video(Packet(None, None), Packet(None, None), Packet(None, None), stream=stream)
    assert duration_seconds(packets) == pytest.approx(0.12)
    packets.demuxer = "h264"
    assert duration_seconds(packets) == pytest.approx(0.1)
    assert stream_facts(packets)["fps"] == pytest.approx(30)
    assert duration_seconds(video(Packet(None, None), Packet(0, 0))) == pytest.approx(0.08)


def test_only_times_that_are_made_up_are_dropped() -> None:
    """AVI has none; where every picture is a key picture, their order is known."""
    for demuxer, keys, expected in (("avi", (0,), [None, None]), ("avi", (0, 1), [0, 1]), ("flv", (0,), [0, 1])):
        packets = video(*(Packet(pts=i, dts=i, is_keyframe=i in keys) for i in range(2)))
        packets.demuxer = demuxer
        drop_unreliable_times(packets)
        assert [packet.pts for packet in packets.packets] == expected


def test_the_pixel_aspect_of_the_container_holds_until_the_bitstream_changes() -> None:
    """And that of the bitstream where the container has none, or carries none."""
    wide, narrow = Fraction(16, 11), Fraction(12, 11)
    for demuxer, declared, expected in (
        ("mov", Fraction(4, 3), (4 / 3, 4 / 3, 12 / 11)),
        ("mov", None, (16 / 11, 16 / 11, 12 / 11)),
        ("mpegts", Fraction(4, 3), (16 / 11, 16 / 11, 12 / 11)),
    ):
        packets = video(stream=Stream(sample_aspect_ratio=declared))
        packets.demuxer = demuxer
        aspect = PixelAspect(packets)
        for position, ratio in enumerate((wide, None, narrow)):
            aspect.note_picture(position, ratio)
        assert tuple(aspect.at(position) for position in range(3)) == pytest.approx(expected)
        # a picture that no packet announces
        assert aspect.at(None) == pytest.approx(expected[0])


def test_facts_use_the_names_of_the_events() -> None:
    """libav's names of demuxers and decoders do not appear in events."""
    packets = video(Packet(0, 0), Packet(3600, 3600), stream=Stream(codec_context=Context("libdav1d")))
    packets.demuxer = "mov"
    facts = stream_facts(packets)
    known = {"container": "mp4", "codec": "av1", "fps": 25.0, "duration_seconds": 0.08, "frame_count": 2}
    assert facts == {**known, "splices": []}


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [(None, 1.0), (Fraction(4, 3), 4 / 3), (Fraction(0), 1.0), (Fraction(100), 1.0), (Fraction(1, 16), 1 / 16)],
)
def test_an_implausible_sample_aspect_ratio_is_ignored(ratio: Fraction | None, expected: float) -> None:
    """From 1:16 to 16:1 it is applied."""
    assert sample_aspect_ratio(Stream(sample_aspect_ratio=ratio)) == pytest.approx(expected)  # type: ignore[arg-type]


def test_packet_damage_counts_up_to_each_sampled_frame() -> None:
    """In presentation order; what comes after the last one, and what is missing there, counts for that one."""
    packets = [Packet(pts=n, dts=n, is_corrupt=n in (1, 2, 9)) for n in (0, 4, 1, 2, 3, 5, 6, 7, 8, 9)]
    video = VideoPackets(stream=Stream(), packets=packets, pictures=[], demuxer="mpegts")  # type: ignore[arg-type]
    assert packet_damage(video, [0, 4, 8]) == [0.0, 0.5, 0.2]
    video.missing_pictures = 5
    assert packet_damage(video, [0, 4, 8]) == [0.0, 0.5, 0.6]
    packets.append(Packet(pts=None, dts=None, is_corrupt=True))
    assert packet_damage(video, [8]) == [pytest.approx(8 / 15)]
