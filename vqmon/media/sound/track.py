"""Decoding of the sound track of a segment, and what is measured of it."""

import math
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import av
import av.filter
import numpy as np
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream

from vqmon.media.sound.levels import LevelMeter
from vqmon.media.sound.loudness import LoudnessMeter

SOUND_CODECS = (
    *("aac", "aac_latm", "ac3", "eac3", "mp3", "mp3float", "mp2", "mp2float", "opus", "libopus", "vorbis", "flac"),
    *("alac", "pcm_s16le", "pcm_s16be", "pcm_s24le"),
)
"""Names of the decoders that libav may open."""

_FORMAT = "fltp"
_MAX_SECONDS = 3600.0
_CLOCK_SECONDS = 2**33 / 90_000
"""After so long the clock of a transport stream begins anew (ISO/IEC 13818-1 2.4.3.7)."""


class _UnmeasuredError(Exception):
    """The sound of a segment cannot be measured: a key of `core.frames.UNMEASURED_AUDIO`."""


def measure_sound(
    container: "av.container.InputContainer", *, pictures: "PictureSpan | None" = None, clock_seconds: float = 0.0
) -> dict[str, Any] | str:
    """The fields of `core.frames.AudioFacts` for the track that a player would choose, or why there are none.

    The reason is a key of `core.frames.UNMEASURED_AUDIO`. The container may open the codecs of SOUND_CODECS. `pictures`
    are those that belong to the sound, None = those in the same container; `clock_seconds` is the time at which the
    container's clock is 0.
    """
    try:
        return _measure(container, _choose_stream(container), pictures, clock_seconds=clock_seconds)
    except _UnmeasuredError as error:
        return str(error)
    except av.error.MemoryError as error:
        raise MemoryError from error
    except (av.error.FFmpegError, ValueError):
        return "corrupt"


@dataclass(slots=True)
class PictureSpan:
    """Begin and end of the pictures in seconds on the container's clock, from the timestamps of the packets."""

    begins_at: float = math.inf
    ends_at: float = -math.inf

    @classmethod
    def of(cls, container: "av.container.InputContainer") -> "PictureSpan":
        """The span of all video tracks of a container; read to its end."""
        span = cls()
        if container.streams.video:
            for packet in container.demux(*container.streams.video):
                span.add(packet)
        return span

    def add(self, packet: "av.Packet[Any]") -> None:
        """Extend the span by a packet."""
        if packet.pts is None or packet.time_base is None:
            return
        begins_at = float(packet.pts * packet.time_base)
        self.begins_at = min(self.begins_at, begins_at)
        self.ends_at = max(self.ends_at, begins_at + float((packet.duration or 0) * packet.time_base))

    def offsets(self, starts_at: float, ends_at: float) -> dict[str, float | None]:
        """Begin and end of the sound minus those of the pictures; None when there are no pictures."""
        if self.ends_at < self.begins_at:
            return {"offset_seconds": None, "end_offset_seconds": None}
        # one of two transport streams may have begun anew at 0
        wraps_seconds = _CLOCK_SECONDS * round((starts_at - self.begins_at) / _CLOCK_SECONDS)
        return {
            "offset_seconds": round(starts_at - self.begins_at - wraps_seconds, 6),
            "end_offset_seconds": round(ends_at - self.ends_at - wraps_seconds, 6),
        }


class _SoundMeter:
    """Measures the frames of one track up to a change of its format."""

    def __init__(self) -> None:
        self._resampler = AudioResampler(format=_FORMAT)
        self._levels: LevelMeter | None = None
        self._loudness: LoudnessMeter | None = None
        self._format = (0, "")
        self._starts_at = self._ends_at = 0.0
        self._sample_count = 0

    def add(self, frame: Any) -> bool:
        """Note an audio frame; returns False when its format is another one, or the sound is too long."""
        frame_format = (frame.sample_rate, frame.layout.name)
        time = self._ends_at if frame.time is None else frame.time
        if self._levels is None or self._loudness is None:
            self._format, self._starts_at = frame_format, time
            self._levels = LevelMeter(rate_hz=frame.sample_rate)
            self._loudness = LoudnessMeter(
                av.filter.Graph, rate_hz=frame.sample_rate, layout=frame.layout.name, sample_format=_FORMAT
            )
        if frame_format != self._format or time - self._starts_at > _MAX_SECONDS:
            return False
        self._ends_at = time + frame.samples / frame.sample_rate
        for converted in self._resampler.resample(frame):
            self._levels.add(np.asarray(converted.to_ndarray(), np.float32))
            self._loudness.add(converted)
            self._sample_count += converted.samples
        return True

    def finish(self, pictures: PictureSpan, *, clock_seconds: float) -> dict[str, Any]:
        """What was measured."""
        if self._levels is None or self._loudness is None or not self._sample_count:
            raise _UnmeasuredError("corrupt")
        duration_seconds = self._sample_count / self._format[0]
        return {
            "sample_rate_hz": self._format[0],
            "duration_seconds": round(duration_seconds, 6),
            "gap_seconds": round(self._ends_at - self._starts_at - duration_seconds, 6),
            **pictures.offsets(self._starts_at + clock_seconds, self._ends_at + clock_seconds),
            **self._loudness.finish(),
            **self._levels.finish(),
        }


def _choose_stream(container: "av.container.InputContainer") -> AudioStream:
    """The default track, else the first."""
    streams = [stream for stream in container.streams.audio if stream.codec_context is not None]
    if not streams:
        raise _UnmeasuredError("no_audio" if not container.streams.audio else "unsupported_codec")
    stream = max(streams, key=lambda each: bool(each.disposition & av.stream.Disposition.default))
    if stream.codec_context.name not in SOUND_CODECS:
        raise _UnmeasuredError("unsupported_codec")
    return stream


def _measure(
    container: "av.container.InputContainer", stream: AudioStream, pictures: PictureSpan | None, *, clock_seconds: float
) -> dict[str, Any]:
    meter, own_pictures, is_measuring = _SoundMeter(), PictureSpan(), True
    with suppress(IndexError):
        for packet in container.demux([stream, *container.streams.video]):
            if packet.stream.type == "video":
                own_pictures.add(packet)
                continue
            with suppress(av.error.InvalidDataError):
                for frame in packet.decode():
                    is_measuring = is_measuring and meter.add(frame)
    facts = meter.finish(own_pictures if pictures is None else pictures, clock_seconds=clock_seconds)
    return {"codec": stream.codec_context.name, "channels": stream.codec_context.channels, **facts}
