"""Collection of the outputs for the sampled frames of one segment: views, signals, thumbnails, fingerprints."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vqmon.core.frames import DetailGrid
from vqmon.core.types import Pixels
from vqmon.errors import DecodeError
from vqmon.media.decode.decoders.frame_selection import DecodeStats, SelectedFrame
from vqmon.media.decode.protocol import DecodeRequest, SharedMemory, check_size
from vqmon.media.images.clips import ClipBuffer
from vqmon.media.images.colour import Colour, describe_frame_colour
from vqmon.media.images.frames import frame_side_data, luma_plane
from vqmon.media.images.resampling import FrameResampler, Orientation, display_size, subsample_luma
from vqmon.media.images.signals.detail import measure_detail, measure_detail_fast
from vqmon.media.images.signals.detail_steps import DetailSteps
from vqmon.media.images.signals.meter import SignalMeter, compute_fingerprint
from vqmon.media.images.tone_mapping import TONE_MAPPING
from vqmon.media.images.views import ViewRenderer
from vqmon.media.reference.measures.alone import AloneMeter, SampledFrame
from vqmon.media.reference.sides import SampleListener, read_orientation

if TYPE_CHECKING:
    import av

JpegEncoder = Callable[[Pixels], bytes]
"""(height, width, 3) RGB -> the bytes of a JPEG file."""


class FrameCollector:
    """Collects the outputs of one segment frame by frame: views go to shared memory, the rest into `answer`."""

    def __init__(
        self,
        request: DecodeRequest,
        shared_memory: SharedMemory,
        *,
        resampler: FrameResampler,
        encode_jpeg: JpegEncoder,
        meter: SignalMeter,
        stats: DecodeStats,
        orientation: Orientation | None = None,
        on_sample: SampleListener | None = None,
        stream_seconds: Callable[[av.VideoFrame], float | None] = lambda frame: None,
    ) -> None:
        # the time of a frame on the stream's own clock
        self._stream_seconds = stream_seconds
        self._on_sample = on_sample
        self._shared_memory = shared_memory
        self._request = request
        self._resampler = resampler
        self._encode_jpeg = encode_jpeg
        self._meter = meter
        self._alone_meter = AloneMeter(request.measures, resampler)
        self.stats = stats
        # None: each frame's own display matrix tells
        self._orientation = orientation
        # (pictures sent, pictures damaged) at the sampled frame before
        self._measured_counts = (0, 0)
        self._clip_buffer = ClipBuffer()
        self._times: list[float] = []
        # presentation timestamps of the sampled frames that have one
        self.timestamps: list[int] = []
        # None: not measured
        self._signals: list[dict[str, float | None]] = []
        # JPEG files; sent as the raw bytes behind the answer
        self.thumbnails: list[bytes] = []
        # (seconds, grid) of the sampled frames; without a time when the frame has none
        self._details: list[tuple[float | None, DetailGrid]] = []
        self._detail_steps = DetailSteps()
        # whether a frame was, of those that are compared
        self._is_interlaced = False
        # fingerprints of the first and the last sampled frame
        self._edges: list[str] = []
        self._picture_facts: dict[str, Any] = {}
        # display size and colour of the last picture
        self._appearance: tuple[str, str] = ("", "")

    def __len__(self) -> int:
        return len(self._times)

    def add_frame(self, selected: SelectedFrame, *, sample_aspect_ratio: float = 1.0) -> None:
        """Process one selected frame, sampled or of a clip.

        `sample_aspect_ratio` is the width over the height of its pixels. Raises DecodeError beyond a limit, for refused
        HDR, and for colours that cannot be shown.
        """
        frame, timestamp = selected.frame, selected.frame.pts
        check_size(frame.width, frame.height, self._request.limits.max_pixels)
        colour = describe_frame_colour(frame)
        if colour.transfer != "sdr" and self._request.hdr == "refuse":
            raise DecodeError("hdr", f"the transfer is {colour.transfer_name}, and HDR is set to be refused")
        orientation = self._orientation or read_orientation(frame)
        size = display_size(frame.width, frame.height, orientation=orientation, sample_aspect_ratio=sample_aspect_ratio)
        self._describe_picture(frame, colour, orientation, size=size, time_seconds=selected.time_seconds)
        frame = self._resampler.deinterlace(frame, previous=selected.previous, following=selected.following)
        renderer = ViewRenderer(
            self._resampler,
            frame,
            colour=colour,
            orientation=orientation,
            sample_aspect_ratio=sample_aspect_ratio,
            seed=self._request.seed,
        )
        if selected.is_sampled:
            self._picture_facts["has_captions"] |= frame_side_data(selected.frame, "A53_CC") is not None
            self._check_memory()
            self._write_views(renderer, frame_index=selected.index)
            luma = self._measure_signals(frame, colour, timestamp)
            if self._request.with_heat_maps:
                self._details.append((self._stream_seconds(selected.frame), measure_detail(orientation.apply(luma))))
            self._alone_meter.add_frame(
                SampledFrame(selected.frame, selected.following, frame, colour, orientation, size)
            )
            if self._request.thumbnail_width:
                self.thumbnails.append(self._encode_jpeg(self._render_thumbnail(frame, colour, orientation, size)))
            self._times.append(round(selected.time_seconds, 6))
            if timestamp is not None:
                self.timestamps.append(timestamp)
            if self._on_sample is not None:
                self._on_sample(selected.time_seconds, selected.frame, frame, orientation)
        self._clip_buffer.add_frame(selected.index, time_seconds=selected.time_seconds, render=renderer.render)

    def finish(self) -> None:
        """Complete the clips that have not ended, and the signals of the last sample, when there are no more frames."""
        self._clip_buffer.finish()
        for name, value in self._meter.finish().items():
            if self._signals and self._signals[-1][name] is None:
                self._signals[-1][name] = value

    def _write_views(self, renderer: ViewRenderer, *, frame_index: int) -> None:
        """Write the views of a sampled frame to shared memory, and start the clips that begin with it."""
        sample = len(self._times)
        offset = self._request.bytes_per_sample * sample
        for view in self._request.views:
            destination = self._shared_memory[offset : offset + view.row_bytes].reshape(view.row_shape)
            if view.clip is None:
                destination[...] = renderer.render(view, sample)
            else:
                self._clip_buffer.start_clip(view, destination, sample=sample, first_index=frame_index)
            offset += view.row_bytes

    def measure_intermediate(self, frame: av.VideoFrame | None, index: int | None = None) -> None:
        """Note a frame that is decoded before the next sampled one, for signals of several frames; None for a gap.

        `index` counts the frames of the segment in presentation order; None when all of them are decoded.
        """
        if frame is None:
            self._meter.mark_gap()
            return
        if self._request.with_heat_maps:
            self._compare_detail(frame)
        luma = subsample_luma(frame)
        self._meter.add_intermediate(luma, is_key=bool(frame.key_frame), timestamp=frame.pts)
        # of interlaced pictures one field: both show different moments
        step = 2 if frame.interlaced_frame else 1
        self._meter.add_native(luma, index=index, read_luma=lambda: luma_plane(frame)[::step])

    def _compare_detail(self, frame: av.VideoFrame) -> None:
        """Compare the detail of a decoded frame with that of the one before."""
        time_seconds = self._stream_seconds(frame)
        if time_seconds is None:
            return
        if frame.interlaced_frame and not self._is_interlaced:
            # from now on one field is read, also of progressive frames between: combs are detail that movement makes
            self._is_interlaced, self._detail_steps = True, DetailSteps()
        step = 2 if self._is_interlaced else 1
        orientation = self._orientation or read_orientation(frame)
        self._detail_steps.add_frame(
            time_seconds, lambda: measure_detail_fast(orientation.apply(luma_plane(frame)[::step]))
        )

    def packed_details(self) -> list[bytes]:
        """A packed `DetailGrid` per sampled frame, sent behind the thumbnails."""
        losses = self._detail_steps.losses([math.nan if time is None else time for time, _ in self._details])
        if losses is None:
            return [grid.pack() for _, grid in self._details]
        return [replace(grid, lost=lost).pack() for (_, grid), lost in zip(self._details, losses, strict=True)]

    def add_packet_damage(self, shares: Sequence[float]) -> None:
        """Raise `decode_errors` to the shares of damaged packets, one per sampled frame, unless these have no times."""
        if "decode_errors" in self._request.signals and len(shares) == len(self._signals):
            for values, share in zip(self._signals, shares, strict=True):
                values["decode_errors"] = round(max(values["decode_errors"] or 0.0, share), 6)

    def add_dropped_frames(self, shares: Sequence[float]) -> None:
        """Set `dropped_frames`, one share per sampled frame, unless these have no times."""
        if "dropped_frames" in self._request.signals and len(shares) == len(self._signals):
            for values, share in zip(self._signals, shares, strict=True):
                values["dropped_frames"] = round(share, 6)

    def answer(self, stream_facts: dict[str, Any]) -> dict[str, Any]:
        """The JSON of the worker's answer, with the facts that the container gives."""
        names = self._request.signals
        return {
            "ok": True,
            "times": self._times,
            "signals": {name: _filled([values[name] for values in self._signals]) for name in names},
            "measures": self._alone_meter.answer(),
            "thumbnails": [len(thumbnail) for thumbnail in self.thumbnails],
            "media": {
                **self._picture_facts,
                **stream_facts,
                "notes": [*self.stats.notes, *self._alone_meter.notes()],
            },
            "edges": [self._edges[0], self._edges[-1]],
        }

    def _check_memory(self) -> None:
        limits = self._request.limits
        if len(self._times) >= limits.max_samples:
            raise DecodeError("too_long", f"more than {limits.max_samples} sampled frames")
        if self._request.bytes_per_sample * (len(self._times) + 1) > len(self._shared_memory):
            raise DecodeError("too_long", "the views of all sampled frames need more memory than allowed")

    def _measure_signals(self, frame: av.VideoFrame, colour: Colour, timestamp: int | None) -> NDArray[np.uint8]:
        """Append the signals of a sampled frame; returns its luma, as coded."""
        planes = self._resampler.to_planes(frame, colour=colour)
        sent = self.stats.sent_pictures - self._measured_counts[0]
        damaged = self.stats.damaged_pictures - self._measured_counts[1]
        self._measured_counts = (self.stats.sent_pictures, self.stats.damaged_pictures)
        damaged_share = min(1.0, damaged / max(sent, 1))
        self._signals.append(self._meter.measure(planes, damaged_share=damaged_share, timestamp=timestamp))
        if len(self._signals) == 2 and "flicker" in self._request.signals:
            # nothing is decoded before the first frame
            self._signals[0]["flicker"] = self._signals[1]["flicker"]
        self._edges[1:] = [compute_fingerprint(planes)]
        return planes.y

    def _render_thumbnail(
        self, frame: av.VideoFrame, colour: Colour, orientation: Orientation, size: tuple[int, int]
    ) -> Pixels:
        """The picture of a display size (width, height), made smaller to the width of thumbnails."""
        scale = min(1.0, self._request.thumbnail_width / size[0])
        width, height = (max(2, round(side * scale / 2) * 2) for side in size)
        return self._resampler.to_rgb(frame, (width, height), colour=colour, orientation=orientation)

    def _describe_picture(
        self,
        frame: av.VideoFrame,
        colour: Colour,
        orientation: Orientation,
        *,
        size: tuple[int, int],
        time_seconds: float,
    ) -> None:
        """Take the facts of the first picture, and note where a later one has another size or colour."""
        appearance = (f"{size[0]}x{size[1]}", f"{colour.name} {colour.transfer_name}")
        if self._picture_facts:
            changes = [
                f"from {old} to {new}" for old, new in zip(self._appearance, appearance, strict=True) if old != new
            ]
            if changes:
                self.stats.notes.append(f"the pictures change {', '.join(changes)} at {time_seconds:.1f} s")
            self._appearance = appearance
            return
        self._appearance = appearance
        self._picture_facts = {
            "width": size[0],
            "height": size[1],
            "pixel_format": frame.format.name,
            "colour": colour.name,
            "transfer": colour.transfer_name,
            "rotation_degrees": orientation.rotation_degrees,
            "is_interlaced": bool(frame.interlaced_frame),
            "has_captions": False,
            "tone_mapping": None if colour.transfer == "sdr" else TONE_MAPPING,
        }


def _filled(values: Sequence[float | None]) -> list[float]:
    """The values; one that was not measured is the one before, or else the first one, or 0 when there is none."""
    last = next((value for value in values if value is not None), 0.0)
    filled = []
    for value in values:
        last = last if value is None else value
        filled.append(last)
    return filled
