"""The encoder process: cuts an excerpt out of a clip, or encodes one; reads bytes and gives bytes, opens no file.

Runs as `python -m vqmon.media.encode.worker DESCRIPTOR MEMORY_BYTES`: the media is read from the descriptor, the
request is JSON on standard input, the answer is a line of JSON on standard output and then the bytes of the result.
"""

import io
import json
import os
import sys
from collections.abc import Iterator
from contextlib import closing
from fractions import Fraction
from typing import Any, BinaryIO

import av
import av.filter
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from vqmon.errors import DecodeError
from vqmon.media.decode.bitstream.containers.demuxing import CONTAINER_OPTIONS, choose_video_stream
from vqmon.media.decode.bitstream.containers.detection import detect_demuxer
from vqmon.media.decode.bitstream.packets import sample_aspect_ratio
from vqmon.media.decode.sandbox.jail import enter_jail
from vqmon.media.decode.worker import import_late_modules
from vqmon.media.encode.codecs import CODECS, EncodeSettings, gop_frames
from vqmon.media.images.resampling import Orientation, display_size
from vqmon.media.reference.sides import read_orientation

_MUXERS = {"mov": "mp4", "mpegts": "mpegts", "matroska": "matroska"}
_HEAD_BYTES = 4_000_000
_CLOCK = Fraction(1, 90_000)
_MAX_PIXELS = 8_847_360
_DEFAULT_FPS = Fraction(25)


def _cut_excerpt(media: BinaryIO, *, seconds: float, start_seconds: float | None) -> tuple[dict[str, Any], bytes]:
    """Copy the packets of an excerpt, without decoding them for it; from the middle where no start is given.

    It begins at a key frame near `start_seconds`, mostly the one before. Returns facts and bytes; raises DecodeError.
    """
    demuxer = detect_demuxer(media.read(_HEAD_BYTES))
    media.seek(0)
    with closing(_open(media, demuxer)) as container:
        stream = _video_stream(container)
        length = _length_seconds(container, stream)
        start = max(0.0, (length - seconds) / 2) if start_seconds is None else start_seconds
        if 0 < length <= start:
            raise DecodeError("no_frames", f"the clip ends at {length:.1f} s, there is nothing from {start:g} s on")
        if start > 0:
            first = stream.start_time or 0
            container.seek(first + round(start / _tick_seconds(stream)), stream=stream, backward=True)
        buffer = io.BytesIO()
        with av.open(buffer, "w", format=_MUXERS[demuxer]) as output:
            copy = output.add_stream_from_template(stream)
            begins: float | None = None
            for packet, origin in _packets_of(container, stream, seconds):
                begins = float((origin - (stream.start_time or 0)) * _tick_seconds(stream))
                packet.stream = copy
                output.mux(packet)
    if begins is None:
        raise DecodeError("no_frames", f"there is no key frame and so nothing from {start:g} s on")
    excerpt = buffer.getvalue()
    return {"start_seconds": begins, "length_seconds": length, **_facts(excerpt, seconds)}, excerpt


def _packets_of(
    container: "av.container.InputContainer", stream: VideoStream, seconds: float
) -> "Iterator[tuple[av.Packet[VideoStream], int]]":
    """The packets from the first key frame on, shifted to time 0, and the time of that frame in the clip's ticks."""
    origin: int | None = None
    for packet in container.demux(stream):
        if packet.dts is None or not packet.size:
            continue
        shown_at = packet.dts if packet.pts is None else packet.pts
        if origin is None:
            if not packet.is_keyframe:
                continue
            origin = shown_at
        if (packet.dts - origin) * _tick_seconds(stream) >= seconds:
            return
        # pictures that are shown before the key frame need frames that are not here
        if shown_at >= origin:
            packet.pts, packet.dts = shown_at - origin, packet.dts - origin
            yield packet, origin


def _facts(excerpt: bytes, seconds: float) -> dict[str, Any]:
    """Frames, their size as displayed, and the frame rate."""
    count, first, times = 0, None, []
    with closing(_open(io.BytesIO(excerpt), detect_demuxer(excerpt))) as container:
        stream = _video_stream(container)
        ratio = sample_aspect_ratio(stream)
        for frame, time in _decoded(container, stream, seconds):
            first, count = first or frame, count + 1
            times.append(time)
    if first is None or count < 3:
        raise DecodeError("no_frames", f"the excerpt has {count} frames; a ladder needs 3 or more")
    width, height = display_size(
        first.width, first.height, orientation=read_orientation(first), sample_aspect_ratio=ratio
    )
    span = times[-1] - times[0]
    return {
        "frames": count,
        "width": width,
        "height": height,
        "seconds": span * count / (count - 1),
        "fps": (count - 1) / span if span > 0 else float(_DEFAULT_FPS),
        "bits": first.format.components[0].bits,
    }


def _encode(excerpt: bytes, settings: EncodeSettings, *, fps: float) -> tuple[dict[str, Any], bytes]:
    """Encode the beginning of an excerpt as MP4; returns facts and bytes, raises DecodeError."""
    buffer = io.BytesIO()
    with (
        closing(_open(io.BytesIO(excerpt), detect_demuxer(excerpt))) as container,
        av.open(buffer, "w", format="mp4") as output,
    ):
        stream = _video_stream(container)
        copy: VideoStream | None = None
        picture_bytes = frames = 0
        for frame in _filtered(container, stream, settings):
            if copy is None:
                copy = _add_stream(output, frame, settings, fps)
            frame.pict_type = 0
            for packet in copy.encode(frame):
                picture_bytes += packet.size
                output.mux(packet)
            frames += 1
        if copy is None:
            raise DecodeError("no_frames")
        for packet in copy.encode(None):
            picture_bytes += packet.size
            output.mux(packet)
        facts = {"frames": frames, "picture_bytes": picture_bytes, "width": copy.width, "height": copy.height}
    return facts, buffer.getvalue()


def _filtered(
    container: "av.container.InputContainer", stream: VideoStream, settings: EncodeSettings
) -> "Iterator[av.VideoFrame]":
    """The frames of a rendition, on a clock of 90 kHz."""
    graph: Any = None
    source: Any = None
    sink: Any = None
    for frame, time in _decoded(container, stream, settings.seconds):
        if graph is None:
            graph, source, sink = _open_graph(frame, sample_aspect_ratio(stream), settings)
        frame.pts, frame.time_base = round(time / _CLOCK), _CLOCK
        source.push(frame)
        yield from _pulled(sink)
    if graph is not None:
        source.push(None)
        yield from _pulled(sink)


def _pulled(sink: Any) -> "Iterator[av.VideoFrame]":
    while True:
        try:
            yield sink.pull()
        except (BlockingIOError, EOFError, av.error.EOFError):
            return


def _open_graph(frame: av.VideoFrame, ratio: float, settings: EncodeSettings) -> tuple[Any, Any, Any]:
    """(graph, source, sink) that make a decoded frame upright, progressive, and of the size and pixel format."""
    orientation = read_orientation(frame)
    width, height = display_size(frame.width, frame.height, orientation=orientation, sample_aspect_ratio=ratio)
    chain = [("bwdif", "mode=send_frame:deint=interlaced"), *_turns(orientation)]
    chain += settings.filters(max(2, round(width * settings.lines / height / 2) * 2))
    is_deep = min(frame.format.components[0].bits, settings.max_bits) > 8 and CODECS[settings.codec].has_10_bits
    chain += [("format", "yuv420p10le" if is_deep else "yuv420p"), ("setsar", "1")]
    graph = av.filter.Graph()
    graph.threads = 1
    spaces, ranges = {0: "gbr", 2: "unknown", 3: "unknown"}, {1: "tv", 2: "pc"}
    arguments = f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}:time_base={_CLOCK}"
    arguments += f":colorspace={spaces.get(frame.colorspace, frame.colorspace)}"
    arguments += f":range={ranges.get(frame.color_range, 'unknown')}"
    last = source = graph.add("buffer", arguments)
    for name, options in [*chain, ("buffersink", "")]:
        node = graph.add(name, options) if options else graph.add(name)
        last.link_to(node)
        last = node
    graph.configure()
    return graph, source, last


def _turns(orientation: Orientation) -> Iterator[tuple[str, str]]:
    if orientation.transposes:
        yield "transpose", "cclock_flip"
    if orientation.flips_x:
        yield "hflip", ""
    if orientation.flips_y:
        yield "vflip", ""


def _add_stream(
    output: "av.container.OutputContainer", frame: av.VideoFrame, settings: EncodeSettings, fps: float
) -> VideoStream:
    codec = CODECS[settings.codec]
    rate = Fraction(fps).limit_denominator(1001)
    stream: Any = output.add_stream(codec.encoder, rate=rate, options=settings.encoder_options())
    stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, frame.format.name
    context: VideoCodecContext = stream.codec_context
    # MPEG-2 counts frames
    context.time_base = 1 / rate if codec.scale == "Q" else _CLOCK
    context.thread_count = 1
    context.gop_size = gop_frames(fps)
    context.bit_rate = settings.rate_kbps * 1000
    context.color_range, context.colorspace = frame.color_range, frame.colorspace
    context.color_trc, context.color_primaries = frame.color_trc, frame.color_primaries
    return stream  # type: ignore[no-any-return]


def _open(media: BinaryIO, demuxer: str) -> "av.container.InputContainer":
    options = {"max_pixels": str(_MAX_PIXELS), "threads": "1"}
    try:
        return av.open(media, "r", format=demuxer, container_options=CONTAINER_OPTIONS, options=options)
    except (av.error.FFmpegError, ValueError) as error:
        raise DecodeError("corrupt", "the container cannot be read") from error


def _video_stream(container: "av.container.InputContainer") -> VideoStream:
    """The stream that a decoder would score; raises DecodeError for none, and for a codec that is not allowed."""
    stream = choose_video_stream(container)
    name = stream.codec_context.name
    if name not in CONTAINER_OPTIONS["codec_whitelist"].split(","):
        raise DecodeError("unsupported_codec", f"the codec {name} is not on the list of those allowed")
    return stream


def _tick_seconds(stream: VideoStream) -> Fraction:
    """The unit of the stream's times."""
    return stream.time_base or _CLOCK


def _length_seconds(container: "av.container.InputContainer", stream: VideoStream) -> float:
    """0 where the container does not tell."""
    if stream.duration:
        return float(stream.duration * _tick_seconds(stream))
    return (container.duration or 0) / 1e6


def _decoded(
    container: "av.container.InputContainer", stream: VideoStream, seconds: float
) -> "Iterator[tuple[av.VideoFrame, float]]":
    """The frames of the first seconds and their times after the first one."""
    stream.codec_context.thread_count = 1
    first: Fraction | None = None
    for frame in container.decode(stream):
        if frame.pts is None:
            continue
        time = frame.pts * _tick_seconds(stream)
        first = time if first is None else first
        if time - first >= seconds - 1e-6:
            return
        yield frame, float(time - first)


def main() -> None:
    """Answer the request."""
    descriptor, memory_bytes = map(int, sys.argv[1:])
    request = json.loads(sys.stdin.buffer.read())
    av.logging.set_libav_level(av.logging.PANIC)
    import_late_modules()
    result = b""
    with os.fdopen(descriptor, "rb") as media:
        # the encoders create threads
        enter_jail("best", memory_bytes=memory_bytes, threads=2)
        try:
            if "settings" in request:
                settings = EncodeSettings(**request["settings"])
                answer, result = _encode(media.read(), settings, fps=request["fps"])
            else:
                answer, result = _cut_excerpt(media, seconds=request["seconds"], start_seconds=request["start_seconds"])
        except DecodeError as error:
            answer = {"reason": error.reason, "detail": error.detail}
        except (av.error.FFmpegError, MemoryError, ValueError) as error:
            answer = {"reason": "corrupt", "detail": f"{type(error).__name__}: {error}"}
    sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n" + result)


if __name__ == "__main__":
    main()
