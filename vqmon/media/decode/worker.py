"""The decoder process, whose modules alone import av: untrusted bytes in, views and signals out.

Runs as `python -m vqmon.media.decode.worker MEMORY_BYTES THREADS DESCRIPTOR SHARED_BYTES ISOLATION [GPU]`, answers
requests in the format of `protocol` on the socket that is its standard input, and ends when that is closed. Before the
first request it enters a jail (`sandbox`) in which nothing can be opened. libav never gets an address, never guesses
the format, and may open a short list of codecs only.
"""

import contextlib
import ctypes
import gc
import importlib
import io
import json
import mmap
import os
import platform
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial
from typing import Any, BinaryIO, cast

import av
import av.filter
import numpy as np
from av.video.codeccontext import VideoCodecContext

from vqmon.core.types import Pixels
from vqmon.errors import DecodeError
from vqmon.media.decode.bitstream.containers.demuxing import CONTAINER_OPTIONS, demux_video, open_container
from vqmon.media.decode.bitstream.containers.detection import detect_demuxer
from vqmon.media.decode.bitstream.containers.packed_audio import find_packed_audio
from vqmon.media.decode.bitstream.packets import (
    VideoPackets,
    coded_pictures_with_references,
    dropped_frames,
    packet_damage,
    stream_facts,
)
from vqmon.media.decode.decoders.collector import FrameCollector
from vqmon.media.decode.decoders.frame_selection import (
    DecodedFrameTap,
    DecodeStats,
    InterlacingFoundError,
    SelectedFrame,
    UnreliablePacketsError,
    select_additional_from_full_decode,
    select_exact,
    select_from_full_decode,
    select_keyframes,
    select_part,
)
from vqmon.media.decode.decoders.hardware import HardwareDecoder, open_nvdec, take_container_colours
from vqmon.media.decode.decoders.libav import LibavDecoder
from vqmon.media.decode.protocol import (
    CONTAINERS,
    HEADER,
    START_ID,
    DecodeLimits,
    DecodeRequest,
    SharedMemory,
    check_size,
    pack_message_start,
    unpack_header,
)
from vqmon.media.decode.sandbox.jail import Isolation, detach_standard_streams, enter_jail, stay_outside
from vqmon.media.decode.stills.detection import read_still
from vqmon.media.decode.stills.picture import decode_still_packet, set_still_colour, without_alpha
from vqmon.media.decode.stills.still import StillPicture, still_facts
from vqmon.media.images.colour import describe_frame_colour
from vqmon.media.images.resampling import FrameResampler, Orientation
from vqmon.media.images.signals.meter import SignalMeter
from vqmon.media.images.signals.temporal import TEMPORAL_SIGNALS
from vqmon.media.measures.no_reference import integrated, natural_statistics
from vqmon.media.reference.answer import pack_unscored
from vqmon.media.reference.canvas import SideFrame
from vqmon.media.reference.comparison import SegmentSide
from vqmon.media.reference.partial import PartialReadingError, ReferencePart, ReferenceWindow, choose_frames
from vqmon.media.reference.sides import (
    ReferenceTools,
    frame_listener,
    read_orientation,
    sample_listener,
    side_frames,
    still_side,
)
from vqmon.media.sound.track import SOUND_CODECS, PictureSpan, measure_sound

# libav's HEVC decoder tells of a damaged slice only when asked to stop there; crccheck compares a picture with its hash
_STRICT_OPTIONS = {"hevc": {"err_detect": "explode+crccheck"}}
_JPEG_QUALITY = 4 * 118  # FF_QP2LAMBDA
# PyAV and numpy import these when they are first needed: too late in the jail, where nothing can be opened
_LATE_MODULES = (
    "av.audio.codeccontext",
    "av.audio.format",
    "av.audio.frame",
    "av.audio.layout",
    "av.audio.plane",
    "av.audio.resampler",
    "av.audio.stream",
    "av.sidedata.encparams",
    "av.sidedata.motionvectors",
    "av.subtitles.codeccontext",
    "av.subtitles.stream",
    "numpy.fft",
    "numpy.linalg",
    "numpy.ma",
    "numpy.random",
)
_TURNING_DEMUXERS = (CONTAINERS["mp4"], CONTAINERS["matroska"])
_EVERY_FRAME_FPS = 240.0  # above every frame rate: no frame of a reference is left out


def decode_segment(
    media: bytes,
    request: DecodeRequest,
    shared_memory: SharedMemory,
    resampler: FrameResampler,
    *,
    side: SegmentSide | None = None,
    hardware: HardwareDecoder | None = None,
) -> tuple[FrameCollector, dict[str, Any]]:
    """Decode one segment, write its views to shared memory and give its frames to `side`; raises DecodeError.

    Returns what was collected and the stream's facts, from which `FrameCollector.answer` makes the answer.
    """
    if (still := read_still(media)) is not None:
        return _decode_still(still, request, shared_memory, resampler, side=side)
    demuxer = detect_demuxer(media)
    if hardware is not None:
        decode_on_hardware = partial(_decode_on_hardware, hardware, media, demuxer, request, shared_memory, resampler)
        if (collected := decode_on_hardware(side=side)) is not None:
            return collected
    damaged_positions: set[int | None] = set()
    with open_container(media, demuxer, request.limits) as container:
        video = demux_video(container, media, demuxer, request.limits)
        options = _STRICT_OPTIONS.get(video.stream.codec_context.name, {})
        decoder = LibavDecoder(video, damaged_positions, limits=request.limits, options=options)
        with contextlib.suppress(DecodeError) if options else contextlib.nullcontext():
            collected = _decode_selected(decoder, video, request, shared_memory, resampler, side=side)
            if not options or not damaged_positions:
                return collected
    # a strict decoder tells which packets are damaged but drops more of their pictures than a player does
    with open_container(media, demuxer, request.limits) as container:
        video = demux_video(container, media, demuxer, request.limits)
        decoder = LibavDecoder(video, damaged_positions, limits=request.limits, options={})
        return _decode_selected(decoder, video, request, shared_memory, resampler, side=side)


def _decode_on_hardware(
    hardware: HardwareDecoder,
    media: bytes,
    demuxer: str,
    request: DecodeRequest,
    shared_memory: SharedMemory,
    resampler: FrameResampler,
    *,
    side: SegmentSide | None,
) -> tuple[FrameCollector, dict[str, Any]] | None:
    """As `decode_segment`; None where the CPU shall decode.

    That is another codec, damage, a device that fails, or a display matrix in the container.
    """
    with (
        contextlib.suppress(DecodeError, MemoryError, av.error.FFmpegError, ValueError),
        open_container(media, demuxer, request.limits) as container,
    ):
        video = demux_video(container, media, demuxer, request.limits)
        if _is_turned(video, request.limits) or (context := hardware.new_context(video.stream)) is None:
            return None
        take_container_colours(context, video.stream.codec_context)
        video.notes.append("decoded on the GPU")
        damaged_positions: set[int | None] = set()
        decoder = LibavDecoder(video, damaged_positions, limits=request.limits, options={}, hardware=context)
        collected = _decode_selected(decoder, video, request, shared_memory, resampler, side=side)
        if not damaged_positions and not decoder.stats.damaged_pictures:
            return collected
    return None


def _is_turned(video: VideoPackets, limits: DecodeLimits) -> bool:
    """Whether the container turns the pictures, or its first one does not say: the CPU decodes these."""
    if video.demuxer not in _TURNING_DEMUXERS:
        return False
    decoder = LibavDecoder(video, set(), limits=limits, options={})
    frames = [*decoder.decode(0), *decoder.flush()]
    return not frames or read_orientation(frames[0]) != Orientation.from_display_matrix(b"")


def _decode_selected(
    decoder: LibavDecoder,
    video: VideoPackets,
    request: DecodeRequest,
    shared_memory: SharedMemory,
    resampler: FrameResampler,
    *,
    side: SegmentSide | None,
) -> tuple[FrameCollector, dict[str, Any]]:
    collect = partial(_collect, decoder, video, request, shared_memory, resampler, side=side)
    try:
        with contextlib.suppress(InterlacingFoundError):
            return collect(select=_select_by_packets)
        return collect(select=_select_by_packets)
    except UnreliablePacketsError as error:
        video.notes.append(f"decoded in full: {error}")
    return collect(select=_select_by_output)


_FrameSelector = Callable[[LibavDecoder, VideoPackets, DecodeRequest], Iterator[SelectedFrame]]


def _collect(
    decoder: LibavDecoder,
    video: VideoPackets,
    request: DecodeRequest,
    shared_memory: SharedMemory,
    resampler: FrameResampler,
    *,
    select: _FrameSelector,
    side: SegmentSide | None = None,
) -> tuple[FrameCollector, dict[str, Any]]:
    decoder.stats = DecodeStats(notes=list(video.notes))
    collector = FrameCollector(
        request,
        shared_memory,
        resampler=resampler,
        encode_jpeg=_encode_jpeg,
        meter=SignalMeter(request.signals),
        stats=decoder.stats,
        on_sample=None if side is None else sample_listener(side, decoder),
        stream_seconds=decoder.time_seconds,
    )
    decoder.on_frame = None if side is None else frame_listener(side, decoder)
    decoder.frame_tap = (
        DecodedFrameTap(collector.measure_intermediate)
        if request.with_heat_maps or {"flicker", "freeze", *TEMPORAL_SIGNALS} & set(request.signals)
        else None
    )
    try:
        for selected in select(decoder, video, request):
            collector.add_frame(selected, sample_aspect_ratio=decoder.sample_aspect_ratio(selected.frame))
        collector.finish()
    except av.error.FFmpegError as error:
        raise DecodeError("corrupt", "the decoded pictures cannot be read") from error
    finally:
        decoder.frame_tap = decoder.on_frame = None
        decoder.flush()
    if not len(collector):
        reason = "corrupt" if decoder.stats.damaged_pictures else "no_frames"
        raise DecodeError(reason, "not one picture could be decoded")
    collector.add_packet_damage(packet_damage(video, collector.timestamps))
    collector.add_dropped_frames(dropped_frames(video, collector.timestamps))
    return collector, stream_facts(video)


def _compare(
    side: SegmentSide,
    media: bytes,
    request: DecodeRequest,
    tools: ReferenceTools,
    *,
    shared_memory: SharedMemory,
    used_bytes: int,
) -> dict[str, Any]:
    """The answer about the reference; whatever is wrong with it is said there."""
    try:
        if (still := read_still(media)) is not None:
            frames_of_still = _still_frames(still, request.limits, DecodeStats())
            return tools.compare_still(
                side,
                still_side(*frames_of_still, still.orientation),
                request.reference,
                memory=shared_memory,
                used_bytes=used_bytes,
            )
        demuxer = detect_demuxer(media)
        with open_container(media, demuxer, request.limits) as container:
            video = demux_video(container, media, demuxer, request.limits)
            decoder = LibavDecoder(video, set(), limits=request.limits, options={})
            frames = partial(_reference_frames, decoder, video)
            return tools.compare(
                side,
                frames,
                request.reference,
                times=[picture.time_seconds for picture in video.pictures],
                part=partial(_reference_part, decoder, video),
                memory=shared_memory,
                used_bytes=used_bytes,
            )
    except (DecodeError, MemoryError, av.error.FFmpegError) as error:
        return pack_unscored("decode", f"the reference: {error or 'both sides need more memory than allowed'}")


def _reference_frames(decoder: LibavDecoder, video: VideoPackets) -> Iterator[SideFrame]:
    step_seconds = 1 / float(video.frames_per_second or 25)
    selected = select_from_full_decode(
        decoder, len(video.packets), DecodeStats(), fps=_EVERY_FRAME_FPS, step_seconds=step_seconds, sampling="exact"
    )
    try:
        yield from side_frames(selected, decoder)
    finally:
        decoder.flush()


def _reference_part(decoder: LibavDecoder, video: VideoPackets, window: ReferenceWindow) -> ReferencePart | None:
    try:
        selected = select_part(
            decoder,
            coded_pictures_with_references(video),
            DecodeStats(),
            choose=partial(choose_frames, window=window),
        )
    except UnreliablePacketsError:
        return None
    if selected is None:
        return None
    times, frames = selected
    return ReferencePart(times_seconds=times, frames=_part_frames(decoder, frames))


def _part_frames(decoder: LibavDecoder, selected: Iterator[SelectedFrame]) -> Iterator[tuple[int, SideFrame]]:
    try:
        for each in selected:
            for frame in side_frames((each,), decoder):
                yield each.index, frame
    except (UnreliablePacketsError, InterlacingFoundError) as error:
        raise PartialReadingError from error
    finally:
        decoder.flush()


def _select_by_packets(decoder: LibavDecoder, video: VideoPackets, request: DecodeRequest) -> Iterator[SelectedFrame]:
    if request.sampling == "exact":
        return select_exact(
            decoder,
            coded_pictures_with_references(video),
            decoder.stats,
            fps=request.fps,
            density=request.density,
            from_seconds=request.from_seconds,
            clips=request.clips,
            alignment=request.alignment_clip,
            with_following=request.with_following,
            with_bursts=bool({"freeze", *TEMPORAL_SIGNALS} & set(request.signals)),
        )
    return select_keyframes(
        decoder,
        video.pictures,
        decoder.stats,
        fps=request.fps,
        clips=request.clips,
        alignment=request.alignment_clip,
        with_following=request.with_following,
    )


def _select_by_output(decoder: LibavDecoder, video: VideoPackets, request: DecodeRequest) -> Iterator[SelectedFrame]:
    step_seconds = 1 / float(video.frames_per_second or 25)
    if request.density > 1:
        return select_additional_from_full_decode(
            decoder,
            len(video.packets),
            decoder.stats,
            fps=request.fps,
            density=request.density,
            step_seconds=step_seconds,
        )
    return select_from_full_decode(
        decoder,
        len(video.packets),
        decoder.stats,
        fps=request.fps,
        step_seconds=step_seconds,
        sampling=request.sampling,
        from_seconds=request.from_seconds,
        clips=request.clips,
    )


# ---- still pictures


def _decode_still(
    still: StillPicture,
    request: DecodeRequest,
    shared_memory: SharedMemory,
    resampler: FrameResampler,
    *,
    side: SegmentSide | None,
) -> tuple[FrameCollector, dict[str, Any]]:
    """Decode the one packet of a still picture, without a demuxer."""
    limits = replace(request.limits, max_pixels=request.limits.max_still_pixels)
    stats = DecodeStats(sent_pictures=1, notes=list(still.notes))
    coded, opaque = _still_frames(still, limits, stats)
    if still.has_icc_profile:
        stats.notes.append("the colour profile (ICC) of the picture is not applied")
    collector = FrameCollector(
        replace(request, limits=limits),
        shared_memory,
        resampler=resampler,
        encode_jpeg=_encode_jpeg,
        meter=SignalMeter(request.signals),
        stats=stats,
        orientation=still.orientation,
    )
    if side is not None:
        side.still = still_side(coded, opaque, still.orientation)
    with _unreadable_still():
        collector.add_frame(SelectedFrame(time_seconds=0.0, frame=opaque, is_wanted=True, index=0, is_sampled=True))
        collector.finish()
    return collector, still_facts(still, pixel_format=coded.format.name, colour=describe_frame_colour(coded))


def _still_frames(
    still: StillPicture, limits: DecodeLimits, stats: DecodeStats
) -> "tuple[av.VideoFrame, av.VideoFrame]":
    """The picture as coded, and opaque with full chroma; raises DecodeError."""
    check_size(still.width, still.height, limits.max_still_pixels, setting="decode.max_still_pixels")
    coded = decode_still_packet(still, still.payload, stats)
    set_still_colour(coded, still)
    with _unreadable_still():
        return coded, without_alpha(coded, still, stats)


@contextlib.contextmanager
def _unreadable_still() -> Iterator[None]:
    try:
        yield
    except av.error.MemoryError as error:
        raise MemoryError from error
    except av.error.FFmpegError as error:
        raise DecodeError("corrupt", "the decoded picture cannot be read") from error


def _encode_jpeg(picture: Pixels) -> bytes:
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
    frame = frame.reformat(format="yuvj420p", dst_colorspace="itu601", dst_color_range="JPEG", threads=1)
    encoder = av.CodecContext.create("mjpeg", "w")
    assert isinstance(encoder, VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt = frame.width, frame.height, "yuvj420p"
    encoder.time_base = Fraction(1, 25)
    encoder.thread_count = 1
    encoder.qscale = True
    encoder.global_quality = _JPEG_QUALITY
    frame.pts = 0
    return b"".join(bytes(packet) for packet in (*encoder.encode(frame), *encoder.encode(None)))


def main() -> None:
    """Answer requests until the input is closed."""
    # what ends or reloads the daemon may be sent to every process of a container or unit: the daemon ends its decoders
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    memory_bytes, threads, descriptor, shared_bytes = map(int, sys.argv[1:5])
    isolation = cast(Isolation, sys.argv[5])
    gpu = "".join(sys.argv[6:])
    shared_memory = np.frombuffer(mmap.mmap(descriptor, shared_bytes), np.uint8)
    os.close(descriptor)
    import_late_modules()
    requests, answers = detach_standard_streams()
    av.logging.set_libav_level(av.logging.PANIC)
    tools = ReferenceTools(
        FrameResampler(av.filter.Graph),
        new_graph=av.filter.Graph,
        frame_from_rgb=partial(av.VideoFrame.from_ndarray, format="rgb24"),
    )
    versions = _library_versions()
    trim_heap = _heap_trimmer()
    nvdec = open_nvdec(gpu) if gpu else ""
    hardware = None if isinstance(nvdec, str) else nvdec
    if gpu:
        versions["nvdec"] = gpu if hardware else f"{gpu} cannot be used: {nvdec}"
    if hardware is None:
        report = enter_jail(isolation, memory_bytes=memory_bytes + shared_bytes, threads=threads)
    else:
        report = stay_outside("decode.hardware")
    facts = {"versions": versions, "in_force": dict(report.in_force), "missing": dict(report.missing)}
    _write_message(answers, START_ID, facts)
    gc.freeze()
    while len(header := requests.read(HEADER.size)) == HEADER.size:
        request_id, json_bytes, media_bytes = unpack_header(header, max_raw_bytes=1 << 40)
        request = DecodeRequest.from_dict(json.loads(requests.read(json_bytes)))
        answer, raw = _answer_request(requests.read(media_bytes), request, shared_memory, tools, hardware)
        _write_message(answers, request_id, answer, raw)
        # PyAV's objects form reference cycles: uncollected, the frames of several segments stay in memory at once
        gc.collect()
        if request.reference is not None:
            trim_heap()


def _heap_trimmer() -> Callable[[], None]:
    """What gives freed memory back to the system: `malloc_trim` of glibc, nothing elsewhere."""
    try:
        malloc_trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError):
        return lambda: None
    return lambda: malloc_trim(0)


def measure_media_sound(media: bytes, separate: bytes = b"") -> dict[str, Any] | str:
    """What is measured of the sound of a segment, or why it is not; see `media.sound.track.measure_sound`.

    `separate` are the bytes of a segment of sound alone that belongs to the pictures of `media`.
    """
    try:
        if not separate:
            with _open_sound(media, detect_demuxer(media)) as container:
                return measure_sound(container)
        with _open_sound(media, detect_demuxer(media)) as container:
            pictures = PictureSpan.of(container)
        packed = find_packed_audio(separate)
        if packed is None:
            with _open_sound(separate, detect_demuxer(separate)) as container:
                return measure_sound(container, pictures=pictures)
        if not packed.demuxer:
            return "unsupported_codec"
        # without a time of its own it cannot be compared with the pictures
        pictures = PictureSpan() if packed.starts_seconds is None else pictures
        with _open_sound(separate, packed.demuxer) as container:
            return measure_sound(container, pictures=pictures, clock_seconds=packed.starts_seconds or 0.0)
    except DecodeError:
        # a still picture
        return "corrupt" if separate else "no_audio"
    except (av.error.FFmpegError, ValueError, UnicodeError):
        return "corrupt"


def _open_sound(media: bytes, demuxer: str) -> "av.container.InputContainer":
    options = {
        **CONTAINER_OPTIONS,
        "format_whitelist": f"{CONTAINER_OPTIONS['format_whitelist']},{demuxer}",
        "codec_whitelist": f"{CONTAINER_OPTIONS['codec_whitelist']},{','.join(SOUND_CODECS)}",
    }
    return av.open(io.BytesIO(media), "r", format=demuxer, container_options=options)


def import_late_modules() -> None:
    """Import and read what a worker may need in its jail; call this before `enter_jail`."""
    for name in _LATE_MODULES:
        importlib.import_module(name)
    natural_statistics.own_model()
    integrated.own_template()


def _answer_request(
    media: bytes,
    request: DecodeRequest,
    shared_memory: SharedMemory,
    tools: ReferenceTools,
    hardware: HardwareDecoder | None = None,
) -> tuple[dict[str, Any], Sequence[bytes]]:
    """The JSON and the raw bytes of the answer about one segment."""
    media, reference, sound = request.split(media)
    side = None if request.reference is None else SegmentSide(tools.converter)
    try:
        collector, facts = decode_segment(media, request, shared_memory, tools.resampler, side=side, hardware=hardware)
        answer = collector.answer(facts)
        if request.with_audio:
            answer["sound"] = measure_media_sound(media, sound)
        if side is not None:
            used_bytes = request.bytes_per_sample * len(collector)
            answer["reference"] = _compare(
                side, reference, request, tools, shared_memory=shared_memory, used_bytes=used_bytes
            )
    except DecodeError as error:
        return {"ok": False, "reason": error.reason, "detail": error.detail}, ()
    except MemoryError:
        detail = f"decoding needs more than {request.limits.memory_bytes >> 20} MB of memory"
        return {"ok": False, "reason": "too_many_pixels", "detail": detail}, ()
    return answer, [*collector.thumbnails, *collector.packed_details()]


def _write_message(answers: BinaryIO, request_id: int, content: dict[str, Any], raw: Sequence[bytes] = ()) -> None:
    answers.write(pack_message_start(content, request_id=request_id, raw_bytes=sum(map(len, raw))))
    for part in raw:
        answers.write(part)
    answers.flush()


def _library_versions() -> dict[str, str]:
    libraries = {name: ".".join(map(str, version)) for name, version in av.library_versions.items()}
    return {"av": av.__version__, **libraries, "numpy": np.__version__, "python": platform.python_version()}


if __name__ == "__main__":
    main()
