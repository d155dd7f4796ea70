"""Bursts of consecutive pictures: at samples, and cheap."""

from vqmon.media.decode.bitstream.bursts import BURST_PICTURES, plan_bursts
from vqmon.media.decode.bitstream.gop import CodedPicture


def group_of_pictures(length: int, count: int) -> list[CodedPicture]:
    """Groups of a key picture and then P, b in decoding order, shown as b P, without anything predicted from b."""
    pictures = []
    for start in range(0, length * count, length):
        pictures.append(CodedPicture(time_seconds=float(start), is_key=True))
        for shown in range(start + 2, start + length, 2):
            pictures.append(CodedPicture(time_seconds=float(shown), is_key=False))
            pictures.append(CodedPicture(time_seconds=float(shown - 1), is_key=False, is_droppable=True))
    return pictures


def planned_bursts(pictures: list[CodedPicture], sampled_times: list[int], planned: set[int]) -> list[float]:
    """The times of the pictures of the bursts."""
    order = sorted(range(len(pictures)), key=lambda position: pictures[position].time_seconds or 0.0)
    sampled = [order[time] for time in sampled_times]
    bursts = plan_bursts(pictures, order, sampled, planned=planned)
    return sorted(pictures[position].time_seconds or 0.0 for position in bursts)


def test_a_burst_is_consecutive_and_ends_where_most_is_decoded_anyway() -> None:
    """Before the sample only the droppable pictures are missing, behind it all."""
    pictures = group_of_pictures(51, 1)
    planned = {
        position
        for position, picture in enumerate(pictures)
        if not picture.is_droppable and (picture.time_seconds or 0.0) <= 30
    }
    assert planned_bursts(pictures, [30], planned) == list(range(23, 31))


def test_where_only_key_pictures_are_decoded_one_burst_follows_one() -> None:
    """A second one would cost too much of a look at six pictures."""
    pictures = group_of_pictures(25, 6)
    planned = {position for position, picture in enumerate(pictures) if picture.is_key}
    times = planned_bursts(pictures, [0, 25, 50, 75, 100, 125], planned)
    assert times == [float(number) for number in range(BURST_PICTURES)]


def test_bursts_of_a_full_decode_cost_nothing() -> None:
    """Every sample has one; at the ends of the segment too."""
    pictures = group_of_pictures(51, 1)
    times = planned_bursts(pictures, [0, 25, 50], set(range(len(pictures))))
    assert {0.0, 7.0, 25.0, 18.0, 43.0, 50.0} <= set(times)
    assert len(times) == 3 * BURST_PICTURES


def test_a_single_picture_has_no_burst() -> None:
    """There is nothing to compare it with."""
    assert planned_bursts([CodedPicture(time_seconds=0.0, is_key=True)], [0], {0}) == []
