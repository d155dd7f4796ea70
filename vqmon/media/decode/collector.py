"""Looking at the sampled frames of one segment: views, signals, thumbnails, fingerprints."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from vqmon.core.types import Pixels
from vqmon.errors import DecodeError
from vqmon.media.decode.frame_selection import Shown, Tally
from vqmon.media.decode.protocol import Board, DecodeRequest
from vqmon.media.images.clips import Reel
from vqmon.media.images.colour import TONE_MAPPING, Colour, colour_of
from vqmon.media.images.resampling import Darkroom, Turn, display_size, thin_luma
from vqmon.media.images.signals import SignalMeter, fingerprint
from vqmon.media.images.views import Prints

if TYPE_CHECKING:
    import av

Jpeg = Callable[[Pixels], bytes]


class Look:
    """What is seen of one segment, frame by frame: the views go on the board, `answer` tells of the rest."""

    def __init__(
        self,
        request: DecodeRequest,
        board: Board,
        *,
        darkroom: Darkroom,
        jpeg: Jpeg,
        sar: float,
        meter: SignalMeter,
        tally: Tally,
    ) -> None:
        self._board = board
        self._request = request
        self._darkroom = darkroom
        self._jpeg = jpeg
        self._sar = sar
        self._meter = meter
        self.tally = tally
        self._counted = (0, 0)
        self._reel = Reel()
        self._times: list[float] = []
        self._signals: list[dict[str, float]] = []
        # they follow the answer as raw bytes
        self.thumbnails: list[bytes] = []
        self._edges: list[str] = []
        self._facts: dict[str, Any] = {}

    def __len__(self) -> int:
        return len(self._times)

    def see(self, shown: Shown) -> None:
        """Take one frame, sampled or of a clip. Raises DecodeError when it is too much or HDR is refused."""
        frame = shown.frame
        self._check_size(frame)
        colour = colour_of(
            colorspace=frame.colorspace,
            color_range=frame.color_range,
            color_trc=frame.color_trc,
            pixel_format=frame.format.name,
        )
        if colour.transfer != "sdr" and self._request.hdr == "refuse":
            raise DecodeError("hdr", f"the transfer is {colour.transfer_name}, and HDR is set to be refused")
        turn = turn_of(frame)
        if not self._facts:
            self._facts = self._first_facts(frame, colour, turn)
        frame = self._darkroom.deinterlaced(frame, before=shown.before, after=shown.after)
        seed = self._request.seed
        prints = Prints(self._darkroom, frame, colour=colour, turn=turn, sar=self._sar, seed=seed)
        if shown.is_sampled:
            self._check_room()
            self._place(prints, rank=shown.rank)
            self._measure(frame, colour)
            if self._request.thumbnail_width:
                self.thumbnails.append(self._jpeg(self._thumbnail(frame, colour, turn)))
            self._times.append(round(shown.time_seconds, 6))
        self._reel.see(rank=shown.rank, time_seconds=shown.time_seconds, make=prints.view)

    def finish(self) -> None:
        """There are no more frames: clips that are under way end here."""
        self._reel.finish()

    def _place(self, prints: Prints, *, rank: int) -> None:
        """Put a sampled frame's views on the board, and open the clips that begin with it."""
        row = len(self._times)
        at = self._request.bytes_per_sample * row
        for view in self._request.views:
            into = self._board[at : at + view.row_bytes].reshape(view.row_shape)
            if view.clip is None:
                into[...] = prints.view(view, row)
            else:
                self._reel.begin(view, row, into, rank=rank)
            at += view.row_bytes

    def glance(self, frame: av.VideoFrame | None) -> None:
        """Notice a frame that is decoded on the way to a sampled one; None where decoding jumps."""
        if frame is None:
            self._meter.jump()
        else:
            self._meter.glance(thin_luma(frame))

    def answer(self, facts: dict[str, Any]) -> dict[str, Any]:
        """Everything but the pixels; `facts` are those that the container tells."""
        names = self._request.signals
        return {
            "ok": True,
            "times": self._times,
            "signals": {name: [values[name] for values in self._signals] for name in names},
            "thumbnails": [len(one) for one in self.thumbnails],
            "media": {**self._facts, **facts, "notes": self.tally.notes},
            "edges": [self._edges[0], self._edges[-1]],
        }

    def _check_size(self, frame: av.VideoFrame) -> None:
        limits = self._request.limits
        if frame.width * frame.height > limits.max_pixels:
            raise DecodeError("too_many_pixels", f"{frame.width}x{frame.height}; at most {limits.max_pixels} pixels")

    def _check_room(self) -> None:
        limits = self._request.limits
        if len(self._times) >= limits.max_samples:
            raise DecodeError("too_long", f"more than {limits.max_samples} sampled frames")
        if self._request.bytes_per_sample * (len(self._times) + 1) > len(self._board):
            raise DecodeError("too_long", "the views of all sampled frames need more memory than allowed")

    def _measure(self, frame: av.VideoFrame, colour: Colour) -> None:
        planes = self._darkroom.planes(frame, colour=colour)
        sent, damaged = self.tally.sent - self._counted[0], self.tally.damaged - self._counted[1]
        self._counted = (self.tally.sent, self.tally.damaged)
        self._signals.append(self._meter.measure(planes, damaged_share=min(1.0, damaged / max(sent, 1))))
        self._edges[1:] = [fingerprint(planes)]

    def _thumbnail(self, frame: av.VideoFrame, colour: Colour, turn: Turn) -> Pixels:
        width, height = display_size(frame.width, frame.height, turn=turn, sar=self._sar)
        scale = min(1.0, self._request.thumbnail_width / width)
        size = (max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2))
        return self._darkroom.rgb(frame, *size, colour=colour, turn=turn)

    def _first_facts(self, frame: av.VideoFrame, colour: Colour, turn: Turn) -> dict[str, Any]:
        width, height = display_size(frame.width, frame.height, turn=turn, sar=self._sar)
        return {
            "width": width,
            "height": height,
            "pixel_format": frame.format.name,
            "colour": colour.name,
            "transfer": colour.transfer_name,
            "rotation_degrees": turn.degrees,
            "is_interlaced": bool(frame.interlaced_frame),
            "tone_mapping": None if colour.transfer == "sdr" else TONE_MAPPING,
        }


def turn_of(frame: av.VideoFrame) -> Turn:
    """How a frame must be turned to be upright."""
    matrix: Any = frame.side_data.get("DISPLAYMATRIX", b"")
    return Turn.of(bytes(matrix))
