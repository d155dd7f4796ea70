"""Which coded pictures must be decoded to see the wanted ones, bit for bit as a full decode shows them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vqmon.core.frames import sample_indices


@dataclass(frozen=True, slots=True, kw_only=True)
class CodedPicture:
    """One packet of the video track, in decoding order."""

    # seconds, on the track's own clock; None when the container does not tell
    time_seconds: float | None
    is_key: bool
    # False for what an edit list cuts away
    is_shown: bool = True
    # nothing else is predicted from it
    is_droppable: bool = False
    # positions of what it is directly predicted from; None when its headers do not tell
    needs: frozenset[int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Coded pictures to decode one after the other from a clean start; positions in decoding order."""

    sends: tuple[int, ...]
    # those whose pictures we want to see, in the order of their times
    wanted: tuple[int, ...]


def shown_order(pictures: Sequence[CodedPicture]) -> list[int] | None:
    """Positions of the shown pictures in the order of their times; None when the times do not tell them apart."""
    shown = [(p.time_seconds, i) for i, p in enumerate(pictures) if p.is_shown]
    if any(time is None for time, _ in shown) or len({time for time, _ in shown}) != len(shown):
        return None
    return [position for _, position in sorted(shown, key=lambda pair: pair[0] or 0.0)]


def starts_clean(pictures: Sequence[CodedPicture], order: Sequence[int]) -> bool:
    """True when the first coded picture is a key picture and the first one shown, so that all others can be seen."""
    return bool(order) and order[0] == 0 and pictures[0].is_key


def samples(pictures: Sequence[CodedPicture], order: Sequence[int], *, fps: float) -> list[int]:
    """Positions of the pictures that sampling chooses among `order`."""
    times = [pictures[position].time_seconds or 0.0 for position in order]
    return [order[index] for index in sample_indices(times, fps=fps)]


def runs(pictures: Sequence[CodedPicture], wanted: Sequence[int]) -> list[Run]:
    """The shortest stretches to decode, from a key picture each.

    A picture that is shown before a key picture but coded after it (a leading picture of an open GOP) may be predicted
    from what came before that key picture: it is decoded from the key picture that precedes it in both orders.
    """
    stretches: list[tuple[int, int]] = []
    for start, end in sorted((_entry(pictures, position), position) for position in wanted):
        if stretches and start <= stretches[-1][1]:
            stretches[-1] = (stretches[-1][0], max(end, stretches[-1][1]))
        else:
            stretches.append((start, end))
    return [_run(pictures, start, end, wanted) for start, end in stretches]


def _run(pictures: Sequence[CodedPicture], start: int, end: int, wanted: Sequence[int]) -> Run:
    inside = {position for position in wanted if start <= position <= end}
    chain = _ancestors(pictures, start, inside)
    if chain is None:
        chain = {i for i in range(start, end + 1) if i in inside or not pictures[i].is_droppable}
    return Run(
        sends=tuple(sorted(chain | {start})),
        wanted=tuple(sorted(inside, key=lambda i: pictures[i].time_seconds or 0.0)),
    )


def _ancestors(pictures: Sequence[CodedPicture], start: int, wanted: Iterable[int]) -> set[int] | None:
    """The wanted pictures and all that they need; None when that is not known or begins before `start`."""
    found: set[int] = set()
    open_ends = list(wanted)
    while open_ends:
        position = open_ends.pop()
        needed = pictures[position].needs
        if needed is None or position < start:
            return None
        if position not in found:
            found.add(position)
            open_ends.extend(needed)
    return found


def _entry(pictures: Sequence[CodedPicture], position: int) -> int:
    time = pictures[position].time_seconds or 0.0
    for start in range(position, -1, -1):
        if pictures[start].is_key and (pictures[start].time_seconds or 0.0) <= time:
            return start
    return 0
