"""Excerpts and encodes of tiny clips by the encoder process."""

import io
import sys
from pathlib import Path

import av
import pytest

from tests.media.clips import clip, x264
from vqmon.errors import DecodeError
from vqmon.media.encode import process
from vqmon.media.encode.codecs import CODECS, EncodeSettings
from vqmon.media.encode.process import Excerpt, cut_excerpt, encode_excerpt

SIZE = "192x108"


async def excerpt_of(media: bytes, folder: Path, *, seconds: float = 1.0, start: float | None = None) -> Excerpt:
    file = folder / "clip"
    file.write_bytes(media)
    return await cut_excerpt(file, seconds=seconds, start_seconds=start, deadline_seconds=60)


def frames_of(media: bytes) -> list[av.VideoFrame]:
    with av.open(io.BytesIO(media)) as container:
        return list(container.decode(video=0))


@pytest.mark.parametrize("container", ["mpegts", "mp4", "matroska"])
async def test_the_excerpt_is_from_the_middle_at_a_key_frame(tmp_path: Path, container: str) -> None:
    """Four seconds with a key frame each: the middle begins at 1.5 s, and the pictures are those of the clip."""
    media = clip(*x264(gop=25), size=SIZE, seconds=4, container=container)
    excerpt = await excerpt_of(media, tmp_path)
    assert (excerpt.width, excerpt.height, excerpt.frames, excerpt.bits) == (192, 108, 25, 8)
    assert excerpt.fps == pytest.approx(25, rel=0.01)
    assert excerpt.seconds == pytest.approx(1.0, abs=0.02)
    # in a transport stream the key frame after the time is reached
    start = 2 if container == "mpegts" else 1
    assert excerpt.start_seconds == pytest.approx(start, abs=0.05)
    ours, theirs = frames_of(excerpt.media)[:25], frames_of(media)[25 * start : 25 * start + 25]
    for mine, original in zip(ours, theirs, strict=True):
        assert (mine.to_ndarray() == original.to_ndarray()).all()


@pytest.mark.parametrize("container", ["mpegts", "mp4", "matroska"])
async def test_a_start_after_the_end_is_refused(tmp_path: Path, container: str) -> None:
    media = clip(*x264(), size=SIZE, seconds=2, container=container)
    with pytest.raises(DecodeError, match="nothing from 9 s on"):
        await excerpt_of(media, tmp_path, start=9.0)


async def test_what_is_no_clip_is_refused_with_its_reason(tmp_path: Path) -> None:
    with pytest.raises(DecodeError, match="not_media"):
        await excerpt_of(b"no media at all", tmp_path)


@pytest.mark.parametrize("codec", CODECS)
async def test_every_codec_encodes_at_another_size_and_less_at_a_worse_quality(tmp_path: Path, codec: str) -> None:
    excerpt = await excerpt_of(clip(*x264(), size=SIZE, seconds=1), tmp_path)
    file = tmp_path / "excerpt"
    file.write_bytes(excerpt.media)
    rates = []
    for quality in CODECS[codec].qualities(2):
        settings = EncodeSettings(codec=codec, lines=90, seconds=1.0, quality=quality)
        encoded = await encode_excerpt(file, settings, fps=excerpt.fps, deadline_seconds=250)
        assert (encoded.width, encoded.height) == (160, 90)
        assert len(frames_of(encoded.media)) == excerpt.frames
        rates.append(encoded.rate_kbps)
    assert rates[0] > 1.5 * rates[1]


async def test_a_rotated_clip_is_encoded_upright(tmp_path: Path) -> None:
    source = tmp_path / "lying.mp4"
    with av.open(str(source), "w") as output:
        stream = output.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 64, "yuv420p"
        for index in range(25):
            frame = av.VideoFrame(128, 64, "yuv420p")
            for plane, level in zip(frame.planes, (40 + index, 90, 160), strict=True):
                plane.update(bytes([level]) * plane.buffer_size)
            for packet in stream.encode(frame):
                output.mux(packet)
        for packet in stream.encode(None):
            output.mux(packet)
    media = _with_rotation(source.read_bytes())
    excerpt = await excerpt_of(media, tmp_path)
    assert (excerpt.width, excerpt.height) == (64, 128)
    file = tmp_path / "excerpt"
    file.write_bytes(excerpt.media)
    settings = EncodeSettings(codec="h264", lines=64, seconds=1.0, quality=20)
    encoded = await encode_excerpt(file, settings, fps=excerpt.fps, deadline_seconds=60)
    assert (encoded.width, encoded.height) == (32, 64)


def _with_rotation(media: bytes) -> bytes:
    """The same MP4 with the display matrix of a quarter turn in its track header."""
    unity = b"".join(value.to_bytes(4, "big") for value in (0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000))
    turn = b"".join(
        (value & 0xFFFFFFFF).to_bytes(4, "big") for value in (0, 0x10000, 0, -0x10000, 0, 0, 64 << 16, 0, 0x40000000)
    )
    track = media.index(b"tkhd")
    matrix = media.index(unity, track)
    return media[:matrix] + turn + media[matrix + len(unity) :]


async def test_a_process_that_takes_too_long_is_killed(tmp_path: Path) -> None:
    file = tmp_path / "clip"
    file.write_bytes(clip(*x264(), size=SIZE, seconds=1))
    with pytest.raises(DecodeError, match=r"timeout.*0\.001 s"):
        await cut_excerpt(file, seconds=1, start_seconds=None, deadline_seconds=0.001)


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "[]",
        "[" * 5_000 + "]" * 5_000,
        '{"frames": 25, "padding": "' + "x" * 20_000 + '"}',
        '{"reason": ["corrupt"]}',
        '{"reason": "made up"}',
        '{"frames": true, "picture_bytes": 10, "width": 160, "height": 90}',
        '{"frames": 0, "picture_bytes": 10, "width": 160, "height": 90}',
        '{"frames": NaN, "picture_bytes": 10, "width": 160, "height": 90}',
        '{"frames": 25, "picture_bytes": 1e999, "width": 160, "height": 90}',
        '{"frames": 25, "picture_bytes": 10, "width": "160", "height": 90}',
        '{"frames": 25, "picture_bytes": 10, "height": 90}',
    ],
)
async def test_an_answer_that_does_not_fit_the_format_is_a_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    with pytest.raises(DecodeError, match="crashed"):
        await encode_with_a_hostile_worker(tmp_path, monkeypatch, f"print({answer!r})")


async def test_an_answer_that_never_ends_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_MAX_RESULT_BYTES", 5_000_000)
    with pytest.raises(DecodeError, match=r"too_long.*5000000 bytes"):
        await encode_with_a_hostile_worker(tmp_path, monkeypatch, "while True: print('x' * 1_000_000)")


async def test_the_reason_of_an_answer_is_that_of_the_error_and_its_detail_is_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = '{"reason": "corrupt", "detail": "\\u001b' + "x" * 5_000 + '"}'
    with pytest.raises(DecodeError, match="corrupt") as error:
        await encode_with_a_hostile_worker(tmp_path, monkeypatch, f"print({answer!r})")
    assert error.value.detail == "x" * 199


async def encode_with_a_hostile_worker(folder: Path, monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """Encode with a Python program in the place of the encoder process."""
    interpreter = folder / "python"
    code = folder / "hostile.py"
    code.write_text(program)
    interpreter.write_text(f"#!/bin/sh\nexec '{sys.executable}' '{code}'\n")
    interpreter.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(interpreter))
    file = folder / "excerpt"
    file.write_bytes(b"media")
    settings = EncodeSettings(codec="h264", lines=90, seconds=1.0, quality=20)
    await encode_excerpt(file, settings, fps=25, deadline_seconds=30)


async def test_the_stream_that_a_decoder_would_score_is_encoded(tmp_path: Path) -> None:
    """Of two streams the one marked as default, although the other one is larger."""
    source = tmp_path / "two.mp4"
    with av.open(str(source), "w") as output:
        streams = []
        for width, height in ((320, 180), (192, 108)):
            stream = output.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            streams.append(stream)
        streams[0].disposition = av.stream.Disposition(0)
        streams[1].disposition = av.stream.Disposition.default
        for stream in streams:
            for _ in range(25):
                for packet in stream.encode(av.VideoFrame(stream.width, stream.height, "yuv420p")):
                    output.mux(packet)
            for packet in stream.encode(None):
                output.mux(packet)
    excerpt = await excerpt_of(source.read_bytes(), tmp_path)
    assert (excerpt.width, excerpt.height) == (192, 108)
