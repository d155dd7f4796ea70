"""The decoder process: the only code that imports av. Untrusted bytes in, checked arrays out.

Runs as `python -m vqmon.media.decode.worker MEMORY_BYTES THREADS BOARD BOARD_BYTES`, speaks `protocol` over the
socket that is its standard input, and ends when that ends. libav never gets an address, never guesses the format, and
knows a short list of codecs.
"""

import contextlib
import gc
import io
import json
import mmap
import os
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import Any, BinaryIO

import av
import av.filter
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from vqmon.core.types import Pixels
from vqmon.errors import DecodeError
from vqmon.media.decode.bitstream.container import demuxer_of, dolby_vision_profile
from vqmon.media.decode.bitstream.headers import tells_everything
from vqmon.media.decode.bitstream.packets import (
    Track,
    facts_of,
    heal_jumps,
    linked,
    pictures_of,
    sample_aspect_ratio,
    span_seconds,
)
from vqmon.media.decode.collector import Look
from vqmon.media.decode.frame_selection import FieldsFound, Shown, Tally, Unsafe, Watch, among_all, exact, keyframes
from vqmon.media.decode.protocol import HEAD, Board, DecodeLimits, DecodeRequest, head_and_json, lengths_of
from vqmon.media.decode.sandbox import die_with_parent, give_up_rights, take_over_line
from vqmon.media.images.resampling import Darkroom
from vqmon.media.images.signals import SignalMeter

_CODECS = ("h264", "hevc", "libdav1d", "vp9", "vp8", "mpeg2video", "mpeg1video", "mpeg4")
# audio and subtitles are never decoded, but libav reads far ahead for a track whose codec it may not open
_CONTAINER_OPTIONS = {
    "protocol_whitelist": "none",
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,mpegts,matroska,webm",
    "codec_whitelist": ",".join(_CODECS),
    "probesize": "5000000",
    "analyzeduration": "2000000",
    "fflags": "+genpts",
}
# AVFieldOrder: TT, BB, TB, BT
_FIELD_ORDERS = (2, 3, 4, 5)
_JPEG_SCALE = 4 * 118
_DEFAULT_TRACK_BONUS = 5_000_000


class LibavCodec:
    """A libav decoder over the packets of one track; see `frames.Codec`."""

    def __init__(self, track: Track, *, limits: DecodeLimits) -> None:
        self._track = track
        self.tally = Tally()
        self.watch: Watch | None = None
        context = track.stream.codec_context
        context.options = {"max_pixels": str(limits.max_pixels), "threads": str(limits.threads)}
        context.thread_count = limits.threads
        self._context: VideoCodecContext = context
        self._positions = {packet.pts: i for i, packet in enumerate(track.packets) if packet.pts is not None}
        self.is_interlaced = context.field_order in _FIELD_ORDERS

    def send(self, position: int) -> list[av.VideoFrame]:
        packet = self._track.packets[position]
        return self._decoded(packet, is_damaged=packet.is_corrupt)

    def drain(self) -> list[av.VideoFrame]:
        frames = self._decoded(None, is_damaged=False)
        self._context.flush_buffers()
        if self.watch is not None:
            self.watch.jump()
        return frames

    def position_of(self, frame: av.VideoFrame) -> int | None:
        return None if frame.pts is None else self._positions.get(frame.pts)

    def time_of(self, frame: av.VideoFrame) -> float | None:
        tick = self._track.seconds_per_tick
        return None if frame.pts is None else frame.pts * tick.numerator / tick.denominator

    def _decoded(self, packet: "av.Packet[VideoStream] | None", *, is_damaged: bool) -> list[av.VideoFrame]:
        try:
            frames = self._context.decode(packet)
        except av.error.EOFError:
            return []
        except (av.error.FFmpegError, ValueError) as error:
            if isinstance(error, av.error.MemoryError):
                raise MemoryError from error
            frames, is_damaged = [], True
        self.tally.damaged += is_damaged or any(frame.is_corrupt for frame in frames)
        if self.watch is not None:
            for frame in frames:
                self.watch.see(frame, self.position_of(frame))
        return frames


def observe(media: bytes, request: DecodeRequest, board: Board, darkroom: Darkroom) -> tuple[Look, dict[str, Any]]:
    """Look at one segment and put its views on the board. Raises DecodeError."""
    demuxer = demuxer_of(media)
    if demuxer == "mov" and dolby_vision_profile(media) == 5:
        raise DecodeError("hdr", "Dolby Vision profile 5 has no picture that can be shown without its metadata")
    with _opened(media, demuxer, request.limits) as container:
        track = _demuxed(container, demuxer, request.limits)
        codec = LibavCodec(track, limits=request.limits)
        try:
            with contextlib.suppress(FieldsFound):
                return _looked(codec, track, request, board, darkroom, strategy=_chosen)
            return _looked(codec, track, request, board, darkroom, strategy=_chosen)
        except Unsafe as doubt:
            track.notes.append(f"decoded in full: {doubt}")
        return _looked(codec, track, request, board, darkroom, strategy=_among_all)


Strategy = Callable[[LibavCodec, Track, DecodeRequest], Iterator[Shown]]


def _looked(
    codec: LibavCodec, track: Track, request: DecodeRequest, board: Board, darkroom: Darkroom, *, strategy: Strategy
) -> tuple[Look, dict[str, Any]]:
    codec.tally = Tally(notes=list(track.notes))
    meter = SignalMeter(request.signals)
    look = Look(
        request,
        board,
        darkroom=darkroom,
        jpeg=_jpeg,
        sar=sample_aspect_ratio(track.stream),
        meter=meter,
        tally=codec.tally,
    )
    codec.watch = Watch(look.glance) if "flicker" in request.signals else None
    try:
        for shown in strategy(codec, track, request):
            look.see(shown)
        look.finish()
    except av.error.FFmpegError as error:
        raise DecodeError("corrupt", "the decoded pictures cannot be read") from error
    finally:
        codec.watch = None
        codec.drain()
    if not len(look):
        raise DecodeError("corrupt" if codec.tally.damaged else "no_frames", "not one picture could be decoded")
    return look, facts_of(track)


def _chosen(codec: LibavCodec, track: Track, request: DecodeRequest) -> Iterator[Shown]:
    if request.sampling == "exact":
        return exact(codec, linked(track), codec.tally, fps=request.fps, clips=request.clips)
    return keyframes(codec, track.pictures, codec.tally, fps=request.fps, clips=request.clips)


def _among_all(codec: LibavCodec, track: Track, request: DecodeRequest) -> Iterator[Shown]:
    step, count, clips = 1 / float(track.stream.average_rate or 25), len(track.packets), request.clips
    how = request.sampling
    return among_all(codec, count, codec.tally, fps=request.fps, step_seconds=step, sampling=how, clips=clips)


def _opened(media: bytes, demuxer: str, limits: DecodeLimits) -> "av.container.InputContainer":
    """The container with its tracks; without decoding a picture, unless something can be learned from that alone."""
    container = _probed(media, demuxer, limits, skip_frame="all")
    contexts = [stream.codec_context for stream in container.streams.video]
    if all(one and tells_everything(one.name, one.extradata, pixel_format=one.pix_fmt) for one in contexts):
        return container
    container.close()
    return _probed(media, demuxer, limits, skip_frame="default")


def _probed(media: bytes, demuxer: str, limits: DecodeLimits, *, skip_frame: str) -> "av.container.InputContainer":
    options = {"max_pixels": str(limits.max_pixels), "threads": "1", "skip_frame": skip_frame}
    try:
        return av.open(io.BytesIO(media), "r", format=demuxer, container_options=_CONTAINER_OPTIONS, options=options)
    except (av.error.FFmpegError, ValueError, UnicodeError) as error:
        raise DecodeError("corrupt", "the container cannot be read") from error


def _demuxed(container: "av.container.InputContainer", demuxer: str, limits: DecodeLimits) -> Track:
    stream = _video_of(container)
    _check_codec(stream, limits)
    packets: list[av.Packet[VideoStream]] = []
    try:
        for packet in container.demux(stream):
            if packet.size == 0:
                continue
            packets.append(packet)
            if len(packets) > limits.max_frames:
                raise DecodeError("too_long", f"more than {limits.max_frames} frames")
    except (av.error.FFmpegError, IndexError):
        # what came before the damage is still worth a look; PyAV 18.1 stumbles at the end of a file in which
        # tracks turned up late
        pass
    if not packets:
        raise DecodeError("no_frames", "the video track holds no frames")
    if any(packet.has_sidedata("encryption_info") for packet in packets[:8]):
        raise DecodeError("encrypted", "the frames are encrypted")
    track = Track(stream=stream, packets=packets, pictures=[], demuxer=demuxer)
    if demuxer == "mpegts":
        heal_jumps(track)
    track.pictures = pictures_of(track)
    if (seconds := span_seconds(track)) > limits.max_duration_seconds:
        raise DecodeError("too_long", f"{seconds:.0f} s; at most {limits.max_duration_seconds:.0f} s are decoded")
    return track


def _video_of(container: "av.container.InputContainer") -> VideoStream:
    streams = [
        stream
        for stream in container.streams.video
        if not stream.disposition & av.stream.Disposition.attached_pic and stream.codec_context is not None
    ]
    if not streams:
        raise DecodeError("no_video")
    return max(streams, key=_importance)


def _importance(stream: VideoStream) -> int:
    """As the ffmpeg command chooses: the largest picture, unless another track is marked as the default."""
    is_default = bool(stream.disposition & av.stream.Disposition.default)
    return stream.codec_context.width * stream.codec_context.height + _DEFAULT_TRACK_BONUS * is_default


def _check_codec(stream: VideoStream, limits: DecodeLimits) -> None:
    context = stream.codec_context
    if context.name not in _CODECS:
        raise DecodeError("unsupported_codec", f"the codec {context.name} is not on the list of those allowed")
    if context.width * context.height > limits.max_pixels:
        raise DecodeError("too_many_pixels", f"{context.width}x{context.height}; at most {limits.max_pixels} pixels")


def _jpeg(picture: Pixels) -> bytes:
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
    frame = frame.reformat(format="yuvj420p", dst_colorspace="itu601", dst_color_range="JPEG", threads=1)
    encoder = av.CodecContext.create("mjpeg", "w")
    assert isinstance(encoder, VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt = frame.width, frame.height, "yuvj420p"
    encoder.time_base = Fraction(1, 25)
    encoder.thread_count = 1
    encoder.qscale = True
    encoder.global_quality = _JPEG_SCALE
    frame.pts = 0
    return b"".join(bytes(packet) for packet in (*encoder.encode(frame), *encoder.encode(None)))


def main() -> None:
    """Answer requests until the input ends."""
    memory_bytes, threads, board_handle, board_bytes = map(int, sys.argv[1:])
    die_with_parent()
    board = np.frombuffer(mmap.mmap(board_handle, board_bytes), np.uint8)
    os.close(board_handle)
    requests, answers = take_over_line()
    av.logging.set_libav_level(av.logging.PANIC)
    give_up_rights(memory_bytes=memory_bytes + board_bytes, threads=threads)
    darkroom = Darkroom(av.filter.Graph)
    _send(answers, _versions())
    gc.freeze()
    while len(head := requests.read(HEAD.size)) == HEAD.size:
        json_bytes, media_bytes = lengths_of(head, max_raw_bytes=1 << 40)
        request = DecodeRequest.from_fields(json.loads(requests.read(json_bytes)))
        _answer(answers, requests.read(media_bytes), request, board, darkroom)
        # PyAV's objects point at each other: left alone, the pictures of several segments stay in memory at once
        gc.collect()


def _answer(answers: BinaryIO, media: bytes, request: DecodeRequest, board: Board, darkroom: Darkroom) -> None:
    try:
        look, facts = observe(media, request, board, darkroom)
    except DecodeError as error:
        _send(answers, {"ok": False, "reason": error.reason, "detail": error.detail})
    except MemoryError:
        detail = f"decoding needs more than {request.limits.memory_bytes >> 20} MB of memory"
        _send(answers, {"ok": False, "reason": "too_many_pixels", "detail": detail})
    else:
        _send(answers, look.answer(facts), look.thumbnails)


def _send(answers: BinaryIO, content: dict[str, Any], raw: Sequence[bytes] = ()) -> None:
    answers.write(head_and_json(content, raw_bytes=sum(map(len, raw))))
    for part in raw:
        answers.write(part)
    answers.flush()


def _versions() -> dict[str, str]:
    libraries = {name: ".".join(map(str, version)) for name, version in av.library_versions.items()}
    return {"av": av.__version__, **libraries, "numpy": np.__version__, "python": platform.python_version()}


if __name__ == "__main__":
    main()
