"""Which coded pictures must be decoded to obtain the wanted ones, bit-exact with a full decode."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vqmon.core.frames import additional_indices, sample_indices


@dataclass(frozen=True, slots=True, kw_only=True)
class CodedPicture:
    """One packet of a video stream, in decoding order."""

    # presentation time in seconds on the stream's own clock; None when the container does not give it
    time_seconds: float | None
    is_key: bool
    # False for a picture that an edit list cuts away
    is_shown: bool = True
    # no other picture is predicted from it
    is_droppable: bool = False
    # positions of the pictures it is directly predicted from; None when the headers do not tell
    references: frozenset[int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeRun:
    """Coded pictures to decode one after the other from a key picture; positions in decoding order."""

    positions: tuple[int, ...]
    # those of `positions` whose frames are wanted, in presentation order
    wanted: tuple[int, ...]


def presentation_order(pictures: Sequence[CodedPicture]) -> list[int] | None:
    """Positions of the shown pictures by presentation time; None when times are missing or not distinct."""
    shown = [(p.time_seconds, i) for i, p in enumerate(pictures) if p.is_shown]
    if any(time is None for time, _ in shown) or len({time for time, _ in shown}) != len(shown):
        return None
    return [position for _, position in sorted(shown, key=lambda pair: pair[0] or 0.0)]


def starts_with_key_picture(pictures: Sequence[CodedPicture], order: Sequence[int]) -> bool:
    """Whether the first coded picture is a key picture and the first one shown, so that all others can be decoded."""
    return bool(order) and order[0] == 0 and pictures[0].is_key


def sample_positions(
    pictures: Sequence[CodedPicture], order: Sequence[int], *, fps: float, density: int = 1, from_seconds: float = 0.0
) -> list[int]:
    """Positions of the pictures among `order` that `core.frames.sample_indices` chooses at this rate from then on.

    With a density above 1 those that `core.frames.additional_indices` adds to them.
    """
    times = [pictures[position].time_seconds or 0.0 for position in order]
    if density == 1:
        chosen = sample_indices(times, fps=fps, from_seconds=from_seconds)
    else:
        chosen = additional_indices(times, fps=fps, density=density)
    return [order[index] for index in chosen]


def plan_runs(pictures: Sequence[CodedPicture], wanted: Sequence[int]) -> list[DecodeRun]:
    """The shortest runs that decode the wanted pictures, each from a key picture.

    A picture that is shown before a key picture but coded after it (a leading picture of an open GOP) may be predicted
    from pictures before that key picture: it is decoded from the key picture that precedes it in both orders.
    """
    spans: list[tuple[int, int]] = []
    for start, end in sorted((_key_position(pictures, position), position) for position in wanted):
        if spans and start <= spans[-1][1]:
            spans[-1] = (spans[-1][0], max(end, spans[-1][1]))
        else:
            spans.append((start, end))
    return [_plan_run(pictures, start, end, wanted) for start, end in spans]


def _plan_run(pictures: Sequence[CodedPicture], start: int, end: int, wanted: Sequence[int]) -> DecodeRun:
    inside = {position for position in wanted if start <= position <= end}
    needed = _reference_closure(pictures, start, inside)
    if needed is None:
        needed = {i for i in range(start, end + 1) if i in inside or not pictures[i].is_droppable}
    return DecodeRun(
        positions=tuple(sorted(needed | {start})),
        wanted=tuple(sorted(inside, key=lambda i: pictures[i].time_seconds or 0.0)),
    )


def _reference_closure(pictures: Sequence[CodedPicture], start: int, wanted: Iterable[int]) -> set[int] | None:
    """The wanted pictures and all they depend on; None when that is not known or reaches back before `start`."""
    closure: set[int] = set()
    pending = list(wanted)
    while pending:
        position = pending.pop()
        references = pictures[position].references
        if references is None or position < start:
            return None
        if position not in closure:
            closure.add(position)
            pending.extend(references)
    return closure


def _key_position(pictures: Sequence[CodedPicture], position: int) -> int:
    """The last key picture that precedes a picture in decoding order and in presentation order."""
    time = pictures[position].time_seconds or 0.0
    for start in range(position, -1, -1):
        if pictures[start].is_key and (pictures[start].time_seconds or 0.0) <= time:
            return start
    return 0
