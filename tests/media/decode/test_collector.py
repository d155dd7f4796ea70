"""What is collected of single frames: samples, views, signals, thumbnails, fingerprints; and the limits on them."""

from typing import Any

import av
import av.filter
import numpy as np
import pytest

from vqmon.core.types import ClipSampling, Pixels, View
from vqmon.errors import DecodeError
from vqmon.media.decode.decoders.collector import FrameCollector
from vqmon.media.decode.decoders.frame_selection import DecodeStats, SelectedFrame
from vqmon.media.decode.protocol import DecodeLimits, DecodeRequest
from vqmon.media.images.resampling import FrameResampler
from vqmon.media.images.signals.meter import SignalMeter

VIEW = View(kind="stretch", width=8, height=4)
PQ = 16


def grey_frame(level: int = 126, *, width: int = 64, height: int = 36) -> av.VideoFrame:
    """A flat frame of one luma level, of limited range: 16 is black, 235 is white."""
    planes = np.full((height * 3 // 2, width), 128, np.uint8)
    planes[:height] = level
    return av.VideoFrame.from_ndarray(planes, format="yuv420p")


def selected(frame: av.VideoFrame, *, index: int = 0, time: float = 0.0, is_sampled: bool = True) -> SelectedFrame:
    return SelectedFrame(time_seconds=time, frame=frame, is_wanted=True, index=index, is_sampled=is_sampled)


class Collecting:
    """A collector, its shared memory, and the thumbnails that it encoded."""

    def __init__(self, *, memory_bytes: int = 10_000, sample_aspect_ratio: float = 1.0, **request: Any) -> None:
        self.request = DecodeRequest(**{"views": (VIEW,), "signals": ("black", "decode_errors"), **request})
        self.memory = np.zeros(memory_bytes, np.uint8)
        self.stats = DecodeStats()
        self.sample_aspect_ratio = sample_aspect_ratio
        self.thumbnail_shapes: list[tuple[int, ...]] = []
        self.meter = SignalMeter(self.request.signals)
        self.collector = FrameCollector(
            self.request,
            self.memory,
            resampler=FrameResampler(av.filter.Graph),
            encode_jpeg=self._encode,
            meter=self.meter,
            stats=self.stats,
        )

    def _encode(self, picture: Pixels) -> bytes:
        self.thumbnail_shapes.append(picture.shape)
        return b"jpeg%d" % len(self.thumbnail_shapes)

    def add(self, *frames: av.VideoFrame, **fields: Any) -> None:
        for frame in frames:
            self.collector.add_frame(selected(frame, **fields), sample_aspect_ratio=self.sample_aspect_ratio)

    @property
    def answer(self) -> dict[str, Any]:
        return self.collector.answer({"container": "mpegts"})


def refusal_of(collecting: Collecting, frame: av.VideoFrame) -> str:
    with pytest.raises(DecodeError) as caught:
        collecting.add(frame)
    return caught.value.reason


def test_a_sampled_frame_gives_a_view_signals_a_time_and_edges() -> None:
    """Rounded to microseconds; the facts of the container are added."""
    collecting = Collecting()
    collecting.add(grey_frame(16), time=0.12345678)
    collecting.add(grey_frame(235), index=25, time=1.0)
    answer = collecting.answer
    assert len(collecting.collector) == 2
    assert answer["ok"] is True
    assert answer["times"] == [0.123457, 1.0]
    assert answer["signals"] == {"black": [1.0, 0.0], "decode_errors": [0.0, 0.0]}
    assert answer["thumbnails"] == []
    assert answer["media"]["container"] == "mpegts"
    assert (answer["media"]["width"], answer["media"]["height"]) == (64, 36)
    assert answer["edges"][0] != answer["edges"][1]


def test_views_are_written_sample_after_sample() -> None:
    """In the order of the request, and nothing behind the last one."""
    second = View(kind="stretch", width=4, height=2)
    collecting = Collecting(views=(VIEW, second))
    collecting.add(grey_frame(16), grey_frame(235))
    per_sample = VIEW.row_bytes + second.row_bytes
    assert collecting.memory[:per_sample].max() == 0
    assert collecting.memory[per_sample : 2 * per_sample].min() == 255
    assert collecting.memory[2 * per_sample :].max() == 0


def test_the_edges_of_a_single_sample_are_the_same() -> None:
    collecting = Collecting()
    collecting.add(grey_frame())
    first, last = collecting.answer["edges"]
    assert first == last


def test_a_frame_of_a_clip_is_no_sample() -> None:
    """It is in the clip that began with the sample before it."""
    clip = View(kind="stretch", width=8, height=4, clip=ClipSampling(frames=2))
    collecting = Collecting(views=(clip,))
    collecting.add(grey_frame(16), index=0)
    collecting.add(grey_frame(235), index=1, time=0.04, is_sampled=False)
    collecting.collector.finish()
    assert len(collecting.collector) == 1
    assert collecting.answer["times"] == [0.0]
    pictures = collecting.memory[: clip.row_bytes].reshape(clip.row_shape)
    assert (pictures[0].max(), pictures[-1].min()) == (0, 255)


def test_the_damaged_share_counts_since_the_sample_before() -> None:
    """The share of the pictures that were sent, at most 1: a lost picture was never sent."""
    collecting = Collecting()
    for sent, damaged in [(4, 1), (10, 1), (10, 3), (12, 9)]:
        collecting.stats.sent_pictures, collecting.stats.damaged_pictures = sent, damaged
        collecting.add(grey_frame())
    assert collecting.answer["signals"]["decode_errors"] == [0.25, 0.0, 1.0, 1.0]


def test_damaged_packets_raise_the_share_of_damaged_pictures() -> None:
    """The larger of both counts; nothing is added when the frames have no times."""
    collecting = Collecting()
    for sent, damaged in [(4, 1), (8, 1)]:
        collecting.stats.sent_pictures, collecting.stats.damaged_pictures = sent, damaged
        frame = grey_frame()
        frame.pts = sent
        collecting.add(frame)
    assert collecting.collector.timestamps == [4, 8]
    collecting.collector.add_packet_damage([0.1, 0.2])
    assert collecting.answer["signals"]["decode_errors"] == [0.25, 0.2]
    collecting.collector.add_packet_damage([0.9])
    assert collecting.answer["signals"]["decode_errors"] == [0.25, 0.2]


def test_a_gap_between_intermediate_frames_is_passed_to_the_meter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flicker is not measured across it."""
    collecting, calls = Collecting(), list[object]()
    monkeypatch.setattr(collecting.meter, "mark_gap", lambda: calls.append("gap"))
    monkeypatch.setattr(collecting.meter, "add_intermediate", lambda luma, **_: calls.append(float(luma.mean())))
    for frame in (grey_frame(50), None, grey_frame(60)):
        collecting.collector.measure_intermediate(frame)
    assert calls == [50.0, "gap", 60.0]


@pytest.mark.parametrize(
    ("thumbnail_width", "sample_aspect_ratio", "shape"),
    [
        (32, 1.0, (18, 32, 3)),
        # never larger than the picture
        (640, 1.0, (36, 64, 3)),
        # even sides: 33 x 18.56
        (33, 1.0, (18, 32, 3)),
        # square pixels: the picture is shown at 128 x 36
        (64, 2.0, (18, 64, 3)),
        (1, 1.0, (2, 2, 3)),
    ],
)
def test_thumbnails_have_even_sides_and_square_pixels(
    thumbnail_width: int, sample_aspect_ratio: float, shape: tuple[int, ...]
) -> None:
    collecting = Collecting(thumbnail_width=thumbnail_width, sample_aspect_ratio=sample_aspect_ratio)
    collecting.add(grey_frame(), grey_frame())
    assert collecting.thumbnail_shapes == [shape, shape]
    assert collecting.collector.thumbnails == [b"jpeg1", b"jpeg2"]
    assert collecting.answer["thumbnails"] == [5, 5]


def test_the_facts_of_the_picture_are_those_of_the_first_frame() -> None:
    """A rendition does not change its size within a segment."""
    collecting = Collecting()
    collecting.add(grey_frame(width=64, height=36), grey_frame(width=32, height=18))
    media = collecting.answer["media"]
    assert (media["width"], media["height"], media["pixel_format"]) == (64, 36, "yuv420p")
    assert (media["rotation_degrees"], media["is_interlaced"], media["tone_mapping"]) == (0, False, None)


@pytest.mark.parametrize(("max_pixels", "is_refused"), [(64 * 36, False), (64 * 36 - 1, True)])
def test_a_picture_above_the_limit_is_refused(max_pixels: int, is_refused: bool) -> None:
    """With its size, before anything is computed of it."""
    collecting = Collecting(limits=DecodeLimits(max_pixels=max_pixels))
    if is_refused:
        assert refusal_of(collecting, grey_frame()) == "too_many_pixels"
    else:
        collecting.add(grey_frame())
    assert len(collecting.collector) == (not is_refused)


def test_more_samples_than_the_limit_are_refused() -> None:
    """Frames of clips do not count."""
    collecting = Collecting(limits=DecodeLimits(max_samples=2))
    collecting.add(grey_frame(), grey_frame())
    collecting.add(grey_frame(), index=3, is_sampled=False)
    assert refusal_of(collecting, grey_frame()) == "too_long"
    assert len(collecting.collector) == 2


def test_views_beyond_the_shared_memory_are_refused() -> None:
    """Nothing is written of a sample that does not fit."""
    collecting = Collecting(memory_bytes=2 * VIEW.row_bytes + VIEW.row_bytes - 1)
    collecting.add(grey_frame(235), grey_frame(235))
    assert refusal_of(collecting, grey_frame(235)) == "too_long"
    assert collecting.memory[2 * VIEW.row_bytes :].max() == 0


def test_hdr_is_refused_when_it_is_set_to_be() -> None:
    """SDR is not."""
    collecting = Collecting(hdr="refuse")
    collecting.add(grey_frame())
    frame = grey_frame()
    frame.color_trc = PQ
    assert refusal_of(collecting, frame) == "hdr"
