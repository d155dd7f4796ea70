"""Tiles of decoded frames for training, made by the resampler that the daemon serves with."""

from pathlib import Path

import av
import av.filter
import numpy as np
from numpy.typing import NDArray

from vqmon.core.types import View
from vqmon.media.images.active_area import ActiveArea
from vqmon.media.images.colour import Colour, describe_colour
from vqmon.media.images.resampling import FrameResampler, Orientation, TileLayout
from vqmon.media.images.views import ViewRenderer

Pixels = NDArray[np.uint8]


class FrameTiler:
    """Cuts tiles from frames; not to be shared by threads."""

    def __init__(self) -> None:
        self._resampler = FrameResampler(av.filter.Graph)

    def cut(self, frame: av.VideoFrame, layout: TileLayout) -> Pixels:
        """(tiles, height, width, 3) of the whole frame on a canvas; YUV is read as BT.709."""
        area = ActiveArea(left=0, top=0, width=frame.width, height=frame.height)
        return self._resampler.to_tiles(
            frame, layout, colour=_colour(frame), orientation=Orientation(), area=area
        )  # fmt: skip

    def view(self, picture: Pixels | av.VideoFrame, view: View) -> Pixels:
        """A view (height, width, 3) of a frame, or of a picture (height, width, 3)."""
        frame = picture
        if not isinstance(frame, av.VideoFrame):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        renderer = ViewRenderer(
            self._resampler, frame, colour=_colour(frame), orientation=Orientation(), sample_aspect_ratio=1.0, seed=0
        )
        return renderer.render(view, 0)


def _colour(frame: av.VideoFrame) -> Colour:
    return describe_colour(
        colorspace=1, color_range=frame.color_range, color_trc=frame.color_trc, pixel_format=frame.format.name
    )


def decode_frame(clip: Path, number: int) -> av.VideoFrame | None:
    """The frame of a number from 0, or the last one that can be decoded before it; None without any."""
    frame: av.VideoFrame | None = None
    with av.open(str(clip)) as container:
        stream = container.streams.video[0]
        stream.thread_count = 1
        try:
            for index, decoded in enumerate(container.decode(stream)):
                frame = decoded
                if index == number:
                    break
        except av.error.FFmpegError:
            pass
    return frame
