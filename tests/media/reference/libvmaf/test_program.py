"""The measures of libvmaf against the ffmpeg program on the same files, and programs that hang, die or lie."""

import json
import subprocess
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest

from tests.media.clips import clip, ffmpeg, x264
from vqmon.core.types import DecodedSegment, ReferenceComparison, View
from vqmon.media.decode.pool import DecodeLimits, DecoderPool, ReferenceMedia
from vqmon.media.reference.comparison import ReferenceRequest
from vqmon.media.reference.libvmaf.measures import LIBVMAF_MEASURES, FrameContext, filter_arguments
from vqmon.media.reference.libvmaf.pictures import PictureLayout, StoredPictures
from vqmon.media.reference.libvmaf.program import FfmpegProgram, ProgramError

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
VIEW = View(kind="stretch", width=64, height=36)
GOOD = clip(*x264("-crf", "10"), size="640x368", seconds=1.4)
POOR = clip(*x264("-crf", "40"), size="640x368", seconds=1.4)
SAMPLED = (0, 25)


async def decode(pool: DecoderPool, *measures: str) -> DecodedSegment:
    request = ReferenceRequest(measures=measures, canvas=None)
    return await pool.decode(POOR, views=[VIEW], signals=(), reference=ReferenceMedia(media=GOOD, request=request))


async def compare_by(program: str, *measures: str, deadline_seconds: float = 120.0) -> ReferenceComparison:
    limits = DecodeLimits(deadline_seconds=deadline_seconds)
    async with DecoderPool(1, limits=limits, program=FfmpegProgram(program) if program else None) as pool:
        comparison = (await decode(pool, *measures)).reference
        assert pool.replacements == {}
    assert comparison is not None
    return comparison


def by_ffmpeg(names: list[str], folder: Path) -> list[dict[str, float]]:
    """The metrics of every frame when the program compares all frames of both files."""
    good, poor = folder / "good.ts", folder / "poor.ts"
    good.write_bytes(GOOD)
    poor.write_bytes(POOR)
    graph = filter_arguments(names, period=1)
    log = json.loads(ffmpeg("-i", str(poor), "-i", str(good), "-lavfi", f"[0:v][1:v]{graph}", "-f", "null", "-"))
    return [frame["metrics"] for frame in log["frames"]]


async def test_the_values_are_those_of_the_program_on_the_same_files(tmp_path: Path) -> None:
    """All measures in one run, to 1e-3, though the program gets the sampled frames and their neighbours only."""
    names = list(LIBVMAF_MEASURES)
    comparison = await compare_by(FFMPEG, "psnr", *names)
    expected = by_ffmpeg(names, tmp_path)

    assert comparison.unscored == "", comparison.detail
    assert [score.measure for score in comparison.scores] == ["psnr", *names]
    for score in comparison.scores[1:]:
        assert score.frame_values == pytest.approx([expected[index][score.measure] for index in SAMPLED], abs=1e-3)


def script(folder: Path, text: str) -> str:
    """A program that is not what it should be."""
    path = folder / "ffmpeg"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def pictures(*, value: int = 128) -> StoredPictures:
    layout = PictureLayout(width=64, height=64, pixel_format="yuv420p", count=1, starts_at_first=True)
    context = FrameContext(before=1, after=1)
    memory = np.full(layout.picture_bytes * 4, value, np.uint8)
    return StoredPictures(memory=memory, layout=layout, context=context)


VALID = '{"version": "3", "frames": [{"frameNum": 0, "metrics": {"vmaf": %s}}]}'

WRONG_PROGRAMS = {
    "dies": ("kill -SEGV $$", "killed by signal 11"),
    "refuses": ("echo cannot go on >&2; exit 7", "exit code 7: cannot go on"),
    "has no filter": ("echo \"No such filter: 'libvmaf'\" >&2; exit 8", "--enable-libvmaf"),
    "has no model": (
        "echo 'could not load libvmaf model with version: vmaf_v0.6.1' >&2; exit 1",
        "without the model vmaf_v0.6.1",
    ),
    "says nothing": ("exit 0", "no log of libvmaf"),
    "prints garbage": ("cat /dev/urandom | head -c 100000", "no log of libvmaf"),
    "prints other JSON": ("echo '[1, 2]'", "no log of libvmaf"),
    "leaves out a frame": ('echo \'{"version": "3", "frames": []}\'', "no log of libvmaf"),
    "prints no number": (f"echo '{VALID % 'NaN'}'", "vmaf is no number"),
    "prints a value that cannot be": (f"echo '{VALID % 101}'", "vmaf is 101, outside of 0 to 100"),
}


@pytest.mark.parametrize("name", WRONG_PROGRAMS)
async def test_a_program_that_dies_or_lies_is_named_with_its_setting(name: str, tmp_path: Path) -> None:
    text, message = WRONG_PROGRAMS[name]
    with pytest.raises(ProgramError, match=r"^scoring\.ffmpeg: ") as caught:
        await FfmpegProgram(script(tmp_path, text)).measure(pictures(), ["vmaf"], deadline_seconds=60)

    assert message in str(caught.value)
    assert caught.value.reason == "program"


async def test_a_sound_log_is_believed(tmp_path: Path) -> None:
    """So the programs above fail for what is wrong with them, and not for being scripts."""
    program = FfmpegProgram(script(tmp_path, f"echo '{VALID % 42.5}'"))

    assert await program.measure(pictures(), ["vmaf"], deadline_seconds=60) == {"vmaf": [42.5]}


def running_commands() -> str:
    return subprocess.run(["ps", "-eo", "args"], check=True, capture_output=True, text=True).stdout


async def test_a_program_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    seconds = "98765.4321"
    program = FfmpegProgram(script(tmp_path, f"sleep {seconds} & wait"))
    with pytest.raises(ProgramError, match="took more than 3 s") as caught:
        await program.measure(pictures(), ["vmaf"], deadline_seconds=3)

    assert caught.value.reason == "timeout"
    assert seconds not in running_commands()


async def test_the_program_cannot_write_files_and_sees_no_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VQMON_SECRET", "secret")
    write = f"trap '' XFSZ; echo text 2> /dev/null > {tmp_path}/written"
    program = FfmpegProgram(script(tmp_path, f'{write}; echo "<$VQMON_SECRET>" >&2; exit 1'))
    with pytest.raises(ProgramError, match=r"exit code 1: <>$"):
        await program.measure(pictures(), ["vmaf"], deadline_seconds=60)

    assert (tmp_path / "written").read_bytes() == b""


@pytest.mark.parametrize("path", ["/nowhere/ffmpeg", "no-such-program-at-all"])
async def test_a_program_that_is_not_there_is_named(path: str) -> None:
    with pytest.raises(ProgramError, match=rf"scoring\.ffmpeg: {path} is not there"):
        await FfmpegProgram(path).verify(["vmaf"])


async def test_verification_gives_versions_or_tells_that_it_is_another_program(tmp_path: Path) -> None:
    versions = await FfmpegProgram(FFMPEG).verify(["vmaf", "vmaf_neg", "cambi"])
    with pytest.raises(ProgramError, match="is no ffmpeg"):
        await FfmpegProgram(script(tmp_path, "echo hello")).verify(["vmaf"])

    assert set(versions) == {"ffmpeg", "libvmaf"}
    assert all(versions.values())


@pytest.mark.parametrize(("text", "reason"), [("exit 3", "program"), ("sleep 1000", "timeout"), ("", "program")])
async def test_a_failure_of_the_program_loses_no_segment(text: str, reason: str, tmp_path: Path) -> None:
    """The comparison says why it has no values; the decoder process is used on."""
    program = script(tmp_path, text) if text else ""
    comparison = await compare_by(program, "psnr", "vmaf", deadline_seconds=15)

    assert (comparison.unscored, comparison.scores) == (reason, ())
    assert "scoring.ffmpeg" in comparison.detail
