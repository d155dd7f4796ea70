"""Audio without a container of pictures: packed audio of HLS (RFC 8216 3.4), and audio files."""

from dataclasses import dataclass

_ADTS_HEADER_BYTES = 7
_OGG_AUDIO = (b"OpusHead", b"\x01vorbis", b"\x7fFLAC", b"Speex   ")
_NAMES = {b"fLaC": "FLAC", b"caff": "CAF", b"#!AM": "AMR"}
_TIMESTAMP_OWNER = b"com.apple.streaming.transportStreamTimestamp\0"
_TIMESTAMP_HZ = 90_000


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedAudio:
    """What bytes of audio alone are."""

    name: str
    # of libav; "" = it is not read here
    demuxer: str = ""
    # the time of the first sample on the clock of the transport streams of the same presentation, from an ID3 tag
    starts_seconds: float | None = None


def find_packed_audio(media: bytes) -> PackedAudio | None:
    """The format of audio without a container, or in one of its own; None for anything else."""
    start = _tags_end(media)
    audio = media[start : start + 8192]
    starts_seconds = _timestamp_seconds(media[:start])
    if audio[:2] == b"\x0b\x77" and len(audio) > 5:
        # ETSI TS 102 366 E.1.1: bitstream identifications above 10 are those of E-AC-3
        demuxer = "eac3" if audio[5] >> 3 > 10 else "ac3"
        return PackedAudio(name="AC-3", demuxer=demuxer, starts_seconds=starts_seconds)
    if audio[:1] == b"\xff" and len(audio) > _ADTS_HEADER_BYTES:
        if audio[1] & 0xF6 == 0xF0:
            size = (audio[3] & 3) << 11 | audio[4] << 3 | audio[5] >> 5
            is_adts = size >= _ADTS_HEADER_BYTES and audio[size : size + 2] in (b"", audio[:2])
            return PackedAudio(name="AAC", demuxer="aac", starts_seconds=starts_seconds) if is_adts else None
        if start and audio[1] & 0xE0 == 0xE0 and audio[1] & 0x06:
            return PackedAudio(name="MPEG audio", demuxer="mp3", starts_seconds=starts_seconds)
    if audio[:4] == b"OggS" and any(name in audio[:64] for name in _OGG_AUDIO):
        return PackedAudio(name="Ogg")
    if audio[:4] == b"RIFF" and audio[8:12] == b"WAVE":
        return PackedAudio(name="WAVE")
    name = _NAMES.get(audio[:4], "with an ID3 tag" if start else "")
    return PackedAudio(name=name) if name else None


def _tags_end(media: bytes) -> int:
    """The bytes that ID3 tags take at the start."""
    end = 0
    while media[end : end + 3] == b"ID3" and len(media) >= end + 10:
        # ID3v2.4 3.1: the size has seven bits per byte, a flag says that a footer follows
        size = sum((byte & 0x7F) << 7 * place for place, byte in enumerate(reversed(media[end + 6 : end + 10])))
        end += 10 + size + 10 * bool(media[end + 5] & 0x10)
    return end


def _timestamp_seconds(tags: bytes) -> float | None:
    """The time in the private frame of RFC 8216 3.4: 33 bits of 90 kHz in eight bytes."""
    _, owner, rest = tags.partition(_TIMESTAMP_OWNER)
    if not owner or len(rest) < 8:
        return None
    return (int.from_bytes(rest[:8], "big") & (1 << 33) - 1) / _TIMESTAMP_HZ
