"""Which frames are decoded and selected, on a scripted decoder that counts what it is sent."""

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from vqmon.core.types import ClipSampling
from vqmon.media.decode.bitstream.gop import CodedPicture, DecodeRun
from vqmon.media.decode.decoders.frame_selection import (
    DecodedFrameTap,
    DecodeStats,
    InterlacingFoundError,
    SelectedFrame,
    UnreliablePacketsError,
    select_exact,
    select_from_full_decode,
    select_keyframes,
    select_part,
)

FPS = 4


@dataclass(eq=False)
class Frame:
    """As much of a decoded frame as selection needs."""

    position: int
    time: float | None
    key_frame: bool = False
    interlaced_frame: bool = False
    pict_type: int = 1


@dataclass
class ScriptedDecoder:
    """Outputs one frame per packet in order: none for `hidden` packets, a frame of no packet for `unannounced` ones."""

    pictures: list[CodedPicture]
    hidden: frozenset[int] = frozenset()
    unannounced: frozenset[int] = frozenset()
    interlaced: bool = False
    is_interlaced: bool = False
    frame_tap: DecodedFrameTap | None = None
    sent: list[int] = field(default_factory=list)

    def decode(self, position: int) -> list[Any]:
        self.sent.append(position)
        picture = self.pictures[position]
        frame = Frame(position, picture.time_seconds, picture.is_key, self.interlaced, 1 if picture.is_key else 2)
        if self.frame_tap is not None:
            self.frame_tap.pass_frame(frame, position)  # type: ignore[arg-type]
        return [] if position in self.hidden else [frame]

    def flush(self) -> list[Any]:
        return []

    def packet_position(self, frame: Any) -> int | None:
        return None if frame.position in self.unannounced else int(frame.position)

    def time_seconds(self, frame: Any) -> float | None:
        time: float | None = frame.time
        return time


def stream(seconds: int, *, gop: int = FPS, first: float = 10.0) -> list[CodedPicture]:
    """Pictures at 4 fps without reordering, a key picture every `gop` of them."""
    return [CodedPicture(time_seconds=first + i / FPS, is_key=i % gop == 0) for i in range(seconds * FPS)]


def times(frames: list[SelectedFrame]) -> list[float]:
    return [selected.time_seconds for selected in frames]


def test_exact_sampling_decodes_only_the_groups_with_wanted_frames() -> None:
    """At one frame per second and a group per second just the key pictures are sent."""
    decoder, stats = ScriptedDecoder(stream(3)), DecodeStats()
    frames = list(select_exact(decoder, decoder.pictures, stats, fps=1.0))
    assert times(frames) == [0.0, 1.0, 2.0]
    assert decoder.sent == [0, 4, 8]
    assert stats.sent_pictures == 3
    assert [selected.index for selected in frames] == [0, 4, 8]


def test_frames_of_clips_are_wanted_but_not_sampled() -> None:
    """A clip of three frames after each sample brings two more frames."""
    decoder = ScriptedDecoder(stream(2))
    clips = (ClipSampling(frames=3),)
    frames = list(select_exact(decoder, decoder.pictures, DecodeStats(), fps=1.0, clips=clips))
    assert times(frames) == [0.0, 0.25, 0.5, 1.0, 1.25, 1.5]
    assert [selected.is_sampled for selected in frames] == [True, False, False, True, False, False]


def test_keyframe_sampling_takes_the_first_key_picture_at_or_after_each_sample_time() -> None:
    """With a key picture every 1.5 s and one sample per second: 0, 1.5, 3."""
    decoder = ScriptedDecoder(stream(4, gop=6))
    frames = list(select_keyframes(decoder, decoder.pictures, DecodeStats(), fps=1.0))
    assert times(frames) == [0.0, 1.5, 3.0]


@pytest.mark.parametrize("gop", [8, 4, 5])
def test_neighbours_are_set_where_they_are_consecutive(gop: int) -> None:
    """An interlaced picture gets its neighbours in presentation order, also in other groups; at the ends only one."""
    decoder = ScriptedDecoder(stream(2, gop=gop), interlaced=True, is_interlaced=True)
    frames = list(select_exact(decoder, decoder.pictures, DecodeStats(), fps=1.0))
    neighbours = [
        (getattr(selected.previous, "position", None), getattr(selected.following, "position", None))
        for selected in frames
    ]
    assert neighbours == [(None, 1), (3, 5)]


def test_the_last_frame_of_a_group_is_followed_by_the_first_of_the_next_one() -> None:
    """Where the frame that follows is asked for; sampled are the frames 0 and 4."""
    decoder = ScriptedDecoder(stream(2, gop=5))
    frames = list(select_exact(decoder, decoder.pictures, DecodeStats(), fps=1.0, with_following=True))
    assert times(frames) == [0.0, 1.0]
    assert [getattr(selected.following, "position", None) for selected in frames] == [1, 5]


def test_interlaced_frames_that_were_not_announced_restart_the_decoding() -> None:
    """The decoder is marked, so that the second attempt asks for neighbours."""
    decoder = ScriptedDecoder(stream(2), interlaced=True)
    with pytest.raises(InterlacingFoundError):
        list(select_exact(decoder, decoder.pictures, DecodeStats(), fps=1.0))
    assert decoder.is_interlaced


def test_a_part_leaves_out_droppable_pictures_that_are_not_chosen() -> None:
    """All frames have their times; where all are chosen or pictures are interlaced there is no part."""
    pictures = [replace(picture, is_droppable=index % 2 == 1) for index, picture in enumerate(stream(2))]
    decoder = ScriptedDecoder(pictures)
    part = select_part(decoder, pictures, DecodeStats(), choose=lambda times, is_droppable: [0, 2, 3, 4, 6])
    assert part is not None
    assert part[0] == [0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75]
    assert [(selected.index, selected.time_seconds) for selected in part[1]] == [
        (0, 0.0), (2, 0.5), (3, 0.75), (4, 1.0), (6, 1.5)
    ]  # fmt: skip
    assert decoder.sent == [0, 2, 3, 4, 6]
    assert select_part(decoder, pictures, DecodeStats(), choose=lambda times, _: range(len(times))) is None
    interlaced = ScriptedDecoder(pictures, is_interlaced=True)
    assert select_part(interlaced, pictures, DecodeStats(), choose=lambda times, _: [0]) is None


def without_times() -> ScriptedDecoder:
    return ScriptedDecoder([CodedPicture(time_seconds=None, is_key=True)])


@pytest.mark.parametrize(
    ("decoder", "message"),
    [
        (without_times(), "does not tell the times"),
        (ScriptedDecoder(stream(2), hidden=frozenset({4})), "does not come out"),
        (ScriptedDecoder(stream(2), unannounced=frozenset({4})), "does not announce"),
    ],
    ids=["no-times", "missing-frame", "unannounced-frame"],
)
def test_packets_that_do_not_match_the_output_are_unreliable(decoder: ScriptedDecoder, message: str) -> None:
    """Then everything must be decoded."""
    with pytest.raises(UnreliablePacketsError, match=message):
        list(select_exact(decoder, decoder.pictures, DecodeStats(), fps=1.0))


def test_keyframe_sampling_needs_marked_key_pictures() -> None:
    """A stream with intra refresh marks none."""
    pictures = [CodedPicture(time_seconds=float(i), is_key=False) for i in range(3)]
    with pytest.raises(UnreliablePacketsError, match="no key pictures"):
        list(select_keyframes(ScriptedDecoder(pictures), pictures, DecodeStats(), fps=1.0))


def test_a_full_decode_selects_the_same_frames() -> None:
    """Both ways of selection agree on times and indices."""
    pictures = stream(3)
    exact = list(select_exact(ScriptedDecoder(pictures), pictures, DecodeStats(), fps=1.0))
    decoder, stats = ScriptedDecoder(pictures), DecodeStats()
    full = list(select_from_full_decode(decoder, len(pictures), stats, fps=1.0, step_seconds=1 / FPS, sampling="exact"))
    assert [(f.time_seconds, f.index) for f in full] == [(f.time_seconds, f.index) for f in exact]
    assert stats.sent_pictures == len(pictures)


def test_frames_without_times_follow_the_frame_before_by_a_step() -> None:
    """Eight frames without any time at 4 fps give two samples."""
    pictures = [CodedPicture(time_seconds=None, is_key=i == 0) for i in range(8)]
    frames = list(
        select_from_full_decode(
            ScriptedDecoder(pictures), 8, DecodeStats(), fps=1.0, step_seconds=0.25, sampling="exact"
        )
    )
    assert times(frames) == [0.0, 1.0]


def test_a_full_decode_with_keyframe_sampling_selects_key_frames_and_the_first_frame() -> None:
    """Other frames are never sampled, however late the next key frame is."""
    pictures = [CodedPicture(time_seconds=i / FPS, is_key=i == 6) for i in range(12)]
    frames = list(
        select_from_full_decode(
            ScriptedDecoder(pictures), 12, DecodeStats(), fps=1.0, step_seconds=0.25, sampling="keyframes"
        )
    )
    assert times(frames) == [0.0, 1.5]


def test_a_tap_marks_a_gap_before_each_run_and_ignores_other_frames() -> None:
    """Frames that only clips need are not passed on."""
    passed: list[Any] = []
    tap = DecodedFrameTap(lambda frame, index: passed.append(frame and (frame.position, index)))  # type: ignore[union-attr]
    tap.restrict_to([DecodeRun(positions=(1, 2), wanted=(2,)), DecodeRun(positions=(5,), wanted=(5,))], {1: 1, 2: 3})
    for position in range(6):
        tap.pass_frame(Frame(position, None), position)  # type: ignore[arg-type]
    assert passed == [None, (1, 1), (2, 3), None, (5, None)]


def test_a_tap_without_restriction_passes_every_frame() -> None:
    """Gaps are marked where the decoder is flushed."""
    passed: list[Any] = []
    tap = DecodedFrameTap(lambda frame, _: passed.append(frame))
    first, second = Frame(1, None), Frame(2, None)
    tap.pass_frame(first, None)  # type: ignore[arg-type]
    tap.mark_gap()
    tap.pass_frame(second, 7)  # type: ignore[arg-type]
    assert passed == [first, None, second]
