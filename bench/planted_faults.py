"""Faults planted into natural pictures, one or more for each signal that alert rules read.

Each is a picture fault that people see, made in luma and encoded like the picture without it. Strengths are weak and
strong, so that a rule that only sees the strong one shows it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

Picture = np.ndarray
"""Luma of one frame: (height, width), levels 16..235."""

X264 = ("-c:v", "libx264", "-preset", "veryfast", "-crf", "23", "-g", "50")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One kind of fault in one strength."""

    # the signal that should show it
    signal: str
    name: str
    # the pictures with the fault
    plant: Callable[[Sequence[Picture]], Sequence[Picture]]
    encoding: tuple[str, ...] = X264
    # what happens to the encoded segment
    damage: Callable[[bytes], bytes] = bytes


def _same(frames: Sequence[Picture]) -> Sequence[Picture]:
    return frames


def _blank(level: float, noise: float) -> Callable[[Sequence[Picture]], Sequence[Picture]]:
    def plant(frames: Sequence[Picture]) -> Sequence[Picture]:
        random = np.random.default_rng(0)
        return [level + random.normal(0, noise, frame.shape) for frame in frames]

    return plant


def _darker(share: float, every: int) -> Callable[[Sequence[Picture]], Sequence[Picture]]:
    return lambda frames: [
        16 + (frame - 16.0) * (1 - share if number % every == 0 else 1) for number, frame in enumerate(frames)
    ]


def _shrunk(share: float) -> Callable[[Sequence[Picture]], Sequence[Picture]]:
    def plant(frames: Sequence[Picture]) -> Sequence[Picture]:
        height, width = frames[0].shape
        rows = (np.arange(round(height * share)) / share).astype(int)
        columns = (np.arange(round(width * share)) / share).astype(int)
        top, left = (height - len(rows)) // 2, (width - len(columns)) // 2
        made = []
        for frame in frames:
            picture = np.full(frame.shape, 16.0)
            picture[top : top + len(rows), left : left + len(columns)] = frame[rows][:, columns]
            made.append(picture)
        return made

    return plant


def _posterized(step: int) -> Callable[[Sequence[Picture]], Sequence[Picture]]:
    """Blurred over 33 x 33 pixels, then in steps of so many levels."""

    def plant(frames: Sequence[Picture]) -> Sequence[Picture]:
        return [np.round(_blurred(_blurred(frame.astype(float)).T).T / step) * step for frame in frames]

    return plant


def _blurred(rows: Picture) -> Picture:
    """The mean of 33 pixels of each row around each pixel."""
    sums = np.cumsum(np.pad(np.pad(rows, ((0, 0), (16, 16)), "edge"), ((0, 0), (1, 0))), axis=1)
    return (sums[:, 33:] - sums[:, :-33]) / 33


def _repeated(every: int) -> Callable[[Sequence[Picture]], Sequence[Picture]]:
    """Every so many frames one is shown twice and the next one left out."""
    return lambda frames: [
        frames[number - 1] if number % every == every - 1 else frame for number, frame in enumerate(frames)
    ]


def _boiling(levels: float) -> Callable[[Sequence[Picture]], Sequence[Picture]]:
    def plant(frames: Sequence[Picture]) -> Sequence[Picture]:
        grain = np.random.default_rng(0).choice([-1.0, 1.0], frames[0].shape)
        return [frame + levels * grain * (-1) ** number for number, frame in enumerate(frames)]

    return plant


def _flipped(count: int) -> Callable[[bytes], bytes]:
    """So many bits of the second half, never in the header of a packet of the transport stream."""

    def damage(media: bytes) -> bytes:
        random, content = np.random.default_rng(0), bytearray(media)
        for position in random.integers(len(content) // 2, len(content), count).tolist():
            if position % 188 >= 12:
                content[position] ^= 1 << int(random.integers(8))
        return bytes(content)

    return damage


def _lost_packets(count: int) -> Callable[[bytes], bytes]:
    """So many packets of the transport stream in a row, from its middle on."""

    def damage(media: bytes) -> bytes:
        at = len(media) // 376 * 188
        return media[:at] + media[at + 188 * count :]

    return damage


def _without(condition: str) -> tuple[str, ...]:
    """The encoding of a stream from whose timestamps these frames are missing, by ffmpeg's `select`."""
    return ("-vf", f"select=not({condition})", "-fps_mode", "passthrough", *X264)


_MPEG2 = ("-c:v", "mpeg2video", "-g", "12")

FAULTS = (
    Fault(signal="black", name="black", plant=_blank(16, 0)),
    Fault(signal="black", name="black, noise of 1 level", plant=_blank(17, 1)),
    Fault(signal="solid", name="one grey, noise of 4 levels", plant=_blank(110, 4)),
    Fault(signal="freeze", name="the first picture throughout", plant=lambda frames: [frames[0]] * len(frames)),
    Fault(signal="flicker", name="10 % darker, every second frame", plant=_darker(0.1, 2)),
    Fault(signal="flicker", name="20 % darker, every fifth frame", plant=_darker(0.2, 5)),
    Fault(signal="borders", name="the picture at 70 % of its size", plant=_shrunk(0.7)),
    Fault(signal="blockiness", name="MPEG-2 at quantiser 31", plant=_same, encoding=(*_MPEG2, "-q:v", "31")),
    Fault(signal="blockiness", name="MPEG-2 at quantiser 16", plant=_same, encoding=(*_MPEG2, "-q:v", "16")),
    Fault(signal="banding", name="smooth, steps of 16 levels", plant=_posterized(16)),
    Fault(signal="banding", name="smooth, steps of 8 levels", plant=_posterized(8)),
    Fault(signal="shimmer", name="boiling, 12 levels", plant=_boiling(12)),
    Fault(signal="shimmer", name="boiling, 25 levels", plant=_boiling(25)),
    Fault(signal="judder", name="every fourth frame repeated", plant=_repeated(4)),
    Fault(signal="repeated_frames", name="every second frame repeated", plant=_repeated(2)),
    Fault(
        signal="dropped_frames", name="half a second missing", plant=_same, encoding=_without("between(n\\,40\\,52)")
    ),
    Fault(
        signal="dropped_frames",
        name="three of every ten frames missing",
        plant=_same,
        encoding=_without("lt(mod(n\\,10)\\,3)"),
    ),
    Fault(signal="decode_errors", name="20 flipped bits", plant=_same, damage=_flipped(20)),
    Fault(signal="decode_errors", name="5 lost packets", plant=_same, damage=_lost_packets(5)),
)
