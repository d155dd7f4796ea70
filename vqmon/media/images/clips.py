"""Clips under construction: every rendered frame is written into each clip that contains it."""

from collections.abc import Callable
from dataclasses import dataclass

from vqmon.core.frames import MAX_CLIP_GAP_SECONDS
from vqmon.core.types import Pixels, View

RenderView = Callable[[View, int], Pixels]
"""(view, index of the sampled frame) -> the view of the current frame, (height, width, 3)."""


@dataclass(slots=True)
class _Clip:
    view: View
    # index of the sampled frame with which the clip begins
    sample: int
    # (frames, height, width, 3), where the clip is written
    destination: Pixels
    # index in presentation order of the frame that the clip needs next
    next_index: int
    frame_count: int = 0
    last_seconds: float = 0.0

    def repeat_last_frame(self) -> None:
        """Fill the rest of the clip with its last frame."""
        self.destination[self.frame_count :] = self.destination[self.frame_count - 1]


class ClipBuffer:
    """Writes clips as `core.frames.clip_indices` defines them while frames arrive in presentation order.

    It holds no frame: each one is rendered and written at once.
    """

    def __init__(self) -> None:
        self._clips: list[_Clip] = []

    def start_clip(self, view: View, destination: Pixels, *, sample: int, first_index: int) -> None:
        """Start a clip at the frame with this index in presentation order, which must be added next."""
        self._clips.append(_Clip(view=view, sample=sample, destination=destination, next_index=first_index))

    def add_frame(self, index: int, *, time_seconds: float, render: RenderView) -> None:
        """Write one frame into the clips that contain it; `index` counts all frames in presentation order."""
        self._clips = [clip for clip in self._clips if self._extend(clip, index, time_seconds, render)]

    def finish(self) -> None:
        """Complete all clips at the end of the segment."""
        for clip in self._clips:
            clip.repeat_last_frame()
        self._clips = []

    def _extend(self, clip: _Clip, index: int, time_seconds: float, render: RenderView) -> bool:
        """Whether the clip needs further frames."""
        if index < clip.next_index:
            return True
        if clip.frame_count and time_seconds - clip.last_seconds > MAX_CLIP_GAP_SECONDS:
            clip.repeat_last_frame()
            return False
        stride = clip.view.clip.stride if clip.view.clip is not None else 1
        clip.destination[clip.frame_count] = render(clip.view, clip.sample)
        clip.frame_count, clip.last_seconds, clip.next_index = clip.frame_count + 1, time_seconds, index + stride
        return clip.frame_count < len(clip.destination)
