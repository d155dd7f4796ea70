"""Clips under way: each frame goes, already reduced, to its place in every clip that it belongs to."""

from collections.abc import Callable
from dataclasses import dataclass

from vqmon.core.frames import GAP_SECONDS
from vqmon.core.types import Pixels, View

Make = Callable[[View, int], Pixels]
"""One picture of a view, for so manieth a sampled frame."""


@dataclass(slots=True)
class _Clip:
    view: View
    row: int
    # (frames, height, width, 3), where the answer is written
    into: Pixels
    # the frame that comes next, by its place in the segment
    due: int
    filled: int = 0
    last_seconds: float = 0.0

    def end(self) -> None:
        """Repeat the last frame in what is left."""
        self.into[self.filled :] = self.into[self.filled - 1]


class Reel:
    """Follows `core.frames.clip_indices` as frames come, in the order of their times; keeps no frame."""

    def __init__(self) -> None:
        self._clips: list[_Clip] = []

    def begin(self, view: View, row: int, into: Pixels, *, rank: int) -> None:
        """A clip that starts with the frame which is shown next."""
        self._clips.append(_Clip(view=view, row=row, into=into, due=rank))

    def see(self, *, rank: int, time_seconds: float, make: Make) -> None:
        """Take one frame, which is the segment's so manieth."""
        self._clips = [clip for clip in self._clips if self._goes_on(clip, rank, time_seconds, make)]

    def finish(self) -> None:
        """The segment is over."""
        for clip in self._clips:
            clip.end()
        self._clips = []

    def _goes_on(self, clip: _Clip, rank: int, time_seconds: float, make: Make) -> bool:
        if rank < clip.due:
            return True
        if clip.filled and time_seconds - clip.last_seconds > GAP_SECONDS:
            clip.end()
            return False
        stride = clip.view.clip.stride if clip.view.clip is not None else 1
        clip.into[clip.filled] = make(clip.view, clip.row)
        clip.filled, clip.last_seconds, clip.due = clip.filled + 1, time_seconds, rank + stride
        return clip.filled < len(clip.into)
