"""The streams for the program: blocks of neighbours, where the reference begins and ends, and what cannot be."""

from dataclasses import asdict
from typing import Any

import av
import numpy as np
import pytest

from vqmon.media.reference.libvmaf.measures import FrameContext
from vqmon.media.reference.libvmaf.pictures import PictureStore, StoredPictures, parse_layout

SIDE = 16
LAST = 9
CONTEXT = FrameContext(before=2, after=1)


def frame(value: int) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(np.full((SIDE * 3 // 2, SIDE), value, np.uint8), format="yuv420p")


def stored(*partners: int) -> StoredPictures:
    """The segment's frames have the value 100 + partner, those of the reference their index, 0 to LAST."""
    store = PictureStore(np.zeros(100_000, np.uint8), CONTEXT)
    store.begin(width=SIDE, height=SIDE, pixel_format="yuv420p")
    reference = {index: frame(index) for index in range(LAST + 1)}
    for partner in partners:
        store.add(frame(100 + partner), reference, partner=partner, frame_count=LAST + 1)
    assert store.layout is not None
    return StoredPictures(memory=store.memory, layout=store.layout, context=CONTEXT)


def streams(pictures: StoredPictures) -> tuple[list[int], list[int]]:
    """The value of each picture of both streams."""
    parts = [list(stream) for stream in (pictures.segment_stream(), pictures.reference_stream())]
    assert {len(picture) for part in parts for picture in part} == {SIDE * SIDE * 3 // 2}
    return [picture[0] for picture in parts[0]], [picture[0] for picture in parts[1]]


def test_compared_frames_stand_at_every_period_among_their_neighbours() -> None:
    pictures = stored(3, 7)
    segment, reference = streams(pictures)

    assert list(pictures.indices) == [4, 8]
    assert reference == [3, 3, 1, 2, 3, 4, 5, 6, 7, 8]
    assert segment == [103, 103, 103, 103, 103, 103, 107, 107, 107, 107]


def test_the_first_frame_of_the_reference_is_the_first_of_its_stream_and_nothing_follows_the_last() -> None:
    """Neither has a neighbour there, so the program must not see one."""
    pictures = stored(0, LAST)
    _, reference = streams(pictures)

    assert list(pictures.indices) == [0, 4]
    assert reference == [0, 1, 7, 8, 9]


def test_neighbours_that_are_missing_within_the_stream_are_made_from_those_that_are_there() -> None:
    """Two samples may have one partner: before the first frame stands itself, after the last the one before it."""
    assert streams(stored(1, 1))[1] == [1, 1, 0, 0, 1, 2, 0, 0, 1, 2]
    assert streams(stored(LAST, LAST))[1] == [9, 9, 7, 8, 9, 8, 7, 8, 9]


def test_memory_bounds_the_number_of_pictures() -> None:
    """Five pictures of 384 bytes per compared frame; ten bits take twice as much."""
    store = PictureStore(np.zeros(2 * 5 * 384 + 1, np.uint8), CONTEXT)

    assert store.begin(width=SIDE, height=SIDE, pixel_format="yuv420p") == 2
    assert store.begin(width=SIDE, height=SIDE, pixel_format="yuv420p10le") == 1
    assert store.begin(width=4 * SIDE, height=SIDE, pixel_format="yuv420p10le") == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"width": 17},
        {"height": 1 << 14},
        {"width": 64.0},
        {"count": 0},
        {"count": 3},
        {"count": True},
        {"missing_at_end": -1},
        {"starts_at_first": 1},
        {"pixel_format": "rgb24"},
        {"pixel_format": None},
    ],
)
def test_a_layout_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    """It comes from a decoder process, which an attacker may control."""
    pictures = stored(3, 7)
    content = asdict(pictures.layout)
    memory = pictures.memory[: 2 * 5 * 384]

    assert parse_layout(content) == pictures.layout
    with pytest.raises((ValueError, KeyError, TypeError)):
        StoredPictures(memory=memory, layout=parse_layout({**content, **wrong}), context=CONTEXT)
