"""The sound of whole segments, against ffmpeg's own ebur128 and its own timestamps."""

import io
import re
import subprocess
from typing import Any

import av
import imageio_ffmpeg
import pytest

from vqmon.errors import DecodeError
from vqmon.media.decode.pool import DecoderPool
from vqmon.media.decode.worker import measure_media_sound
from vqmon.media.sound.track import PictureSpan

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
PICTURES = ("-f", "lavfi", "-i", "testsrc2=s=160x90:r=25:d=4")


def segment(sound: str, *options: str, pictures: tuple[str, ...] = PICTURES, container: str = "mpegts") -> bytes:
    """Four seconds of a sound source of libavfilter, with pictures."""
    source = ("-f", "lavfi", "-i", sound)
    encoding = ("-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac", "-b:a", "192k", "-t", "4")
    command = [FFMPEG, "-v", "error", *pictures, *source, *encoding, *options, "-f", container, "-"]
    return subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL).stdout


def ffmpeg_loudness(media: bytes) -> tuple[float, float]:
    """(integrated LUFS, true peak dBTP) as `ffmpeg -af ebur128` prints them."""
    command = [FFMPEG, "-nostats", "-i", "-", "-map", "0:a:0", "-af", "ebur128=peak=true:framelog=quiet"]
    report = subprocess.run([*command, "-f", "null", "-"], input=media, capture_output=True, check=True).stderr.decode()
    return tuple(float(re.findall(rf"{name}:\s+(-?[\d.]+)", report)[-1]) for name in ("I", "Peak"))  # type: ignore[return-value]


@pytest.mark.parametrize(
    "sound",
    [
        "sine=f=997:r=48000,volume=2",
        "anoisesrc=a=0.2:r=44100:c=pink:s=1",
        "aevalsrc=0.8*sin(2*PI*200*t)*lt(mod(t\\,1)\\,0.3)|0.1*sin(2*PI*900*t):s=48000",
        # quiet: the filter tells peaks in steps of 0.001
        "anoisesrc=a=0.006:r=48000:c=brown:s=4",
    ],
)
def test_loudness_equals_ffmpeg(sound: str) -> None:
    """Integrated loudness and true peak to 0.1."""
    media = segment(sound)
    facts = measure_media_sound(media)
    assert isinstance(facts, dict)
    loudness, peak = ffmpeg_loudness(media)
    assert facts["loudness_lufs"] == pytest.approx(loudness, abs=0.1)
    assert facts["true_peak_dbtp"] == pytest.approx(peak, abs=0.1)


def test_offset_and_missing_sound_show_in_the_timeline() -> None:
    """Sound that begins 0.6 s late and ends a second early."""
    facts = measure_media_sound(segment("sine=r=48000", "-af", "atrim=0.6:3,asetpts=PTS"))
    assert isinstance(facts, dict)
    assert facts["offset_seconds"] == pytest.approx(0.6, abs=0.1)
    assert facts["end_offset_seconds"] == pytest.approx(-1, abs=0.1)
    assert facts["duration_seconds"] == pytest.approx(2.4, abs=0.1)


def test_media_without_sound_or_with_another_codec_say_so() -> None:
    """A reason and no facts."""
    assert measure_media_sound(segment("sine", "-an")) == "no_audio"
    assert measure_media_sound(segment("sine", "-c:a", "wmav2", container="matroska")) == "unsupported_codec"
    assert measure_media_sound(b"\x89PNG\r\n\x1a\n" + bytes(100)) == "no_audio"


async def test_a_jailed_decoder_measures_sound_when_asked() -> None:
    """Beside the pictures; silence has no loudness."""
    media = segment("aevalsrc=0|0:s=48000")
    async with DecoderPool(1) as pool:
        decoded = await pool.decode(media, views=(), signals=("black",), with_audio=True)
        without = await pool.decode(media, views=(), signals=("black",))
    assert decoded.audio is not None
    assert (decoded.audio.silent_share, decoded.audio.loudness_lufs, decoded.audio.channels) == (1.0, None, 2)
    assert without.audio is None


def test_sound_in_segments_of_its_own_is_measured_against_the_pictures() -> None:
    """Transport streams and fragments; the clocks of both are the same, as a packager writes them."""
    whole = segment("sine=r=48000", "-af", "atrim=0.6:3,asetpts=PTS")
    fragments = ("-movflags", "+frag_keyframe+default_base_moof+delay_moov+frag_discont")
    for container, options in (("mpegts", ()), ("mp4", fragments)):
        pictures = remuxed(whole, container, "v", *options)
        sound = remuxed(whole, container, "a", *options, *(("-bsf:a", "aac_adtstoasc") if options else ()))
        facts = measure_media_sound(pictures, sound)
        assert isinstance(facts, dict)
        assert facts["offset_seconds"] == pytest.approx(0.6, abs=0.1)
        assert facts["end_offset_seconds"] == pytest.approx(-1, abs=0.1)
        assert facts["loudness_lufs"] == pytest.approx(ffmpeg_loudness(whole)[0], abs=0.1)


def test_packed_audio_has_an_offset_only_with_a_time_of_its_own() -> None:
    """RFC 8216 3.4: ADTS frames behind an ID3 tag with the time of the first sample."""
    whole = segment("sine=r=48000", "-muxdelay", "0", "-muxpreload", "0")
    pictures, frames = remuxed(whole, "mpegts", "v"), remuxed(whole, "adts", "a")
    without = measure_media_sound(pictures, frames)
    assert isinstance(without, dict)
    assert (without["codec"], without["offset_seconds"]) == ("aac", None)
    assert without["duration_seconds"] == pytest.approx(4, abs=0.1)
    begins_at = PictureSpan.of(av.open(io.BytesIO(pictures))).begins_at
    timed = measure_media_sound(pictures, id3_timestamp(begins_at + 0.25) + frames)
    assert isinstance(timed, dict)
    assert timed["offset_seconds"] == pytest.approx(0.25, abs=0.001)
    assert timed["loudness_lufs"] == without["loudness_lufs"]


def test_offsets_across_a_clock_that_begins_anew() -> None:
    """The pictures just before 2^33 ticks of 90 kHz, the sound just after."""
    span = PictureSpan(begins_at=95443.5, ends_at=95447.5)
    offsets = span.offsets(0.0, 4.0)
    assert offsets["offset_seconds"] == pytest.approx(0.217689, abs=1e-4)
    assert offsets["end_offset_seconds"] == pytest.approx(0.217689, abs=1e-4)


def test_separate_sound_that_is_none_says_so() -> None:
    """A reason and no facts, and none about the pictures."""
    pictures = segment("sine", "-an")
    assert measure_media_sound(pictures, pictures) == "no_audio"
    assert measure_media_sound(pictures, b"<html>not found</html>") == "corrupt"
    assert measure_media_sound(pictures, b"OggS" + bytes(24) + b"OpusHead" + bytes(40)) == "unsupported_codec"


def remuxed(media: bytes, container: str, track: str, *options: str) -> bytes:
    """One track of a segment, with its timestamps."""
    command = [FFMPEG, "-v", "error", "-copyts", "-i", "-", "-map", f"0:{track}", "-c", "copy", *options]
    done = subprocess.run([*command, "-f", container, "-"], input=media, check=True, capture_output=True)
    return done.stdout


def id3_timestamp(seconds: float) -> bytes:
    """An ID3v2.4 tag with the private frame of RFC 8216 3.4."""
    content = b"com.apple.streaming.transportStreamTimestamp\0" + round(seconds * 90_000).to_bytes(8, "big")
    frame = b"PRIV" + len(content).to_bytes(4, "big") + b"\0\0" + content
    return b"ID3\4\0\0" + bytes([0, 0, 0, len(frame)]) + frame


class SoundBreaksDecoding(DecoderPool):
    """Its workers take too long as soon as there is separate sound."""

    async def _decode(self, work: Any, tries: Any) -> Any:
        if work.sound_media:
            raise DecodeError("timeout", "decoding took more than 10 s")
        return await super()._decode(work, tries)


async def test_a_fault_of_separate_sound_loses_no_pictures() -> None:
    """They are decoded without it."""
    async with SoundBreaksDecoding(1) as pool:
        decoded = await pool.decode(
            segment("sine", "-an"), views=(), signals=("black",), with_audio=True, sound_media=b"sound"
        )
    assert len(decoded.signals["black"]) == 4
    assert (decoded.audio, decoded.unmeasured_audio) == (None, "unavailable")
