"""Demuxing by libav: opening a container of a given format, the choice of its video stream, and its packets."""

import io
from typing import cast

import av
from av.packet import PacketSideData
from av.video.stream import VideoStream

from vqmon.errors import DecodeError
from vqmon.media.decode.bitstream.containers.detection import ends_within_packet
from vqmon.media.decode.bitstream.containers.dolby_vision import find_dolby_vision
from vqmon.media.decode.bitstream.containers.encryption import is_in_clear_fragment
from vqmon.media.decode.bitstream.containers.splices import find_splices
from vqmon.media.decode.bitstream.containers.transport_stream import name_undemuxed_codec
from vqmon.media.decode.bitstream.headers import headers_suffice
from vqmon.media.decode.bitstream.packets import (
    VideoPackets,
    coded_pictures,
    drop_unreliable_times,
    duration_seconds,
    join_timeline,
    repeat_parameter_sets,
)
from vqmon.media.decode.protocol import CODECS, CONTAINERS, DecodeLimits, check_size

_DECODERS = {"av1": "libdav1d"}
"""The decoders whose names are not those of their codecs."""

# audio and subtitles are never decoded, but libav reads far ahead for a stream whose codec it may not open
CONTAINER_OPTIONS = {
    "protocol_whitelist": "none",
    "format_whitelist": ",".join((*CONTAINERS.values(), "mp4,m4a,3gp,3g2,mj2,webm")),
    "codec_whitelist": ",".join(_DECODERS.get(codec, codec) for codec in CODECS),
    "probesize": "5000000",
    "analyzeduration": "2000000",
    "fflags": "+genpts",
}
_NEW_EXTRADATA = 1  # AV_PKT_DATA_NEW_EXTRADATA
# pixels; the ffmpeg command adds them to a stream that is marked as default when it chooses one
_DEFAULT_STREAM_BONUS = 5_000_000


def open_container(media: bytes, demuxer: str, limits: DecodeLimits) -> "av.container.InputContainer":
    """Open the container without decoding a picture, unless the headers do not tell enough about a stream.

    Raises DecodeError.
    """
    if demuxer not in (CONTAINERS[name] for name in limits.containers):
        name = next(name for name, value in CONTAINERS.items() if value == demuxer)
        raise DecodeError("not_media", f"{name} is not among the containers of decode.containers")
    container = _open(media, demuxer, limits, skip_frame="all")
    contexts = [stream.codec_context for stream in container.streams.video]
    if all(
        context and headers_suffice(context.name, context.extradata, pixel_format=context.pix_fmt)
        for context in contexts
    ):
        return container
    container.close()
    return _open(media, demuxer, limits, skip_frame="default")


def _open(media: bytes, demuxer: str, limits: DecodeLimits, *, skip_frame: str) -> "av.container.InputContainer":
    options = {"max_pixels": str(limits.max_padded_pixels), "threads": "1", "skip_frame": skip_frame}
    try:
        return av.open(io.BytesIO(media), "r", format=demuxer, container_options=CONTAINER_OPTIONS, options=options)
    except (av.error.FFmpegError, ValueError, UnicodeError) as error:
        raise DecodeError("corrupt", "the container cannot be read") from error


def demux_video(
    container: "av.container.InputContainer", media: bytes, demuxer: str, limits: DecodeLimits
) -> VideoPackets:
    """The packets of the chosen video stream on one timeline; raises DecodeError for a stream that cannot be shown."""
    try:
        stream = choose_video_stream(container)
    except DecodeError:
        if (codec := name_undemuxed_codec(media)) is None:
            raise
        raise DecodeError("unsupported_codec", f"{codec} in MPEG-TS is not supported") from None
    _check_codec(stream, limits)
    packets = _read_packets(container, stream, limits)
    clear = _clear_packets(packets, media, demuxer)
    if not clear:
        raise DecodeError("encrypted", "the frames are encrypted")
    video = VideoPackets(stream=stream, packets=clear, pictures=[], demuxer=demuxer)
    if len(clear) < len(packets):
        video.notes.append(f"{len(packets) - len(clear)} encrypted frames are left out")
    video.missing_pictures = _count_missing_pictures(stream, media, demuxer)
    if video.missing_pictures:
        video.notes.append("the file is truncated")
    _check_dolby_vision(video, media)
    times = [packet.pts for packet in clear if packet.pts is not None]
    video.splices = find_splices(media, demuxer, first_seconds=float(min(times, default=0) * video.seconds_per_tick))
    drop_unreliable_times(video)
    repeat_parameter_sets(video, _attach_parameter_sets)
    join_timeline(video, _undiscarded)
    video.pictures = coded_pictures(video)
    if (seconds := duration_seconds(video)) > limits.max_duration_seconds:
        raise DecodeError("too_long", f"{seconds:.0f} s; at most {limits.max_duration_seconds:.0f} s are decoded")
    return video


def _read_packets(
    container: "av.container.InputContainer", stream: VideoStream, limits: DecodeLimits
) -> "list[av.Packet[VideoStream]]":
    packets: list[av.Packet[VideoStream]] = []
    try:
        for packet in container.demux(stream):
            if packet.size == 0:
                continue
            packets.append(packet)
            if len(packets) > limits.max_frames:
                raise DecodeError("too_long", f"more than {limits.max_frames} frames")
    except (av.error.FFmpegError, IndexError):
        # the packets before the damage are still decoded; PyAV 18.1 raises IndexError at the end of a file whose
        # streams appeared late
        pass
    if not packets:
        raise DecodeError("no_frames", "the video track holds no frames")
    return packets


def _clear_packets(
    packets: "list[av.Packet[VideoStream]]", media: bytes, demuxer: str
) -> "list[av.Packet[VideoStream]]":
    """The packets that are not encrypted; libav marks every sample of a track that declares encryption."""
    marked = [packet.has_sidedata("encryption_info") for packet in packets]
    if not any(marked):
        return packets
    is_clear = is_in_clear_fragment(media) if demuxer == "mov" else lambda offset: False
    return [
        packet
        for packet, is_marked in zip(packets, marked, strict=True)
        if not is_marked or (packet.pos is not None and is_clear(packet.pos))
    ]


def _count_missing_pictures(stream: VideoStream, media: bytes, demuxer: str) -> int:
    """The pictures behind the end of a file that was cut off: as many as its index tells, otherwise 1."""
    if demuxer == "mov":
        return sum(entry.pos + entry.size > len(media) for entry in stream.index_entries)
    return int(ends_within_packet(media, demuxer))


def choose_video_stream(container: "av.container.InputContainer") -> VideoStream:
    """The video stream that the ffmpeg command would choose, never a cover picture; raises DecodeError for none."""
    streams = [
        stream
        for stream in container.streams.video
        if not stream.disposition & av.stream.Disposition.attached_pic and stream.codec_context is not None
    ]
    if not streams:
        raise DecodeError("no_video")
    return max(streams, key=_stream_score)


def _stream_score(stream: VideoStream) -> int:
    """The score by which the ffmpeg command chooses a video stream: the largest picture, with a bonus for default."""
    is_default = bool(stream.disposition & av.stream.Disposition.default)
    return stream.codec_context.width * stream.codec_context.height + _DEFAULT_STREAM_BONUS * is_default


def _check_codec(stream: VideoStream, limits: DecodeLimits) -> None:
    context = stream.codec_context
    if context.name not in [_DECODERS.get(codec, codec) for codec in limits.codecs]:
        raise DecodeError("unsupported_codec", f"the codec {context.name} is not among those of decode.codecs")
    check_size(context.width, context.height, limits.max_pixels)


def _attach_parameter_sets(packet: "av.Packet[VideoStream]", extradata: bytes) -> None:
    side_data = PacketSideData(_NEW_EXTRADATA, len(extradata))  # type: ignore[call-arg]
    side_data.update(extradata)
    packet.set_sidedata(side_data)


def _undiscarded(packet: "av.Packet[VideoStream]") -> "av.Packet[VideoStream]":
    """A copy of a packet that is not marked as one whose picture is not shown."""
    copy = cast("av.Packet[VideoStream]", av.Packet(bytes(packet)))
    copy.pts, copy.dts, copy.duration, copy.time_base = packet.pts, packet.dts, packet.duration, packet.time_base
    copy.is_keyframe, copy.is_corrupt = packet.is_keyframe, packet.is_corrupt
    for side_data in packet.iter_sidedata():
        copy.set_sidedata(side_data)
    return copy


def _check_dolby_vision(video: VideoPackets, media: bytes) -> None:
    context = video.stream.codec_context
    first_packets = [bytes(packet) for packet in video.packets[:8]]
    found = find_dolby_vision(
        media, video.demuxer, codec=context.name, extradata=context.extradata, packets=first_packets
    )
    if found is not None and not found.has_shown_base_layer:
        detail = f"Dolby Vision profile {found.profile} has no picture that can be shown without its metadata"
        raise DecodeError("hdr", detail)
