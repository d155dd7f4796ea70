"""The ffmpeg program of the owner: what it measures, and that it can never hold up or bring down the daemon.

It gets raw pictures through two sockets and never a file or an address, runs within the limits of `launcher`, and is
killed with its children at the deadline. What it prints is read up to a bound and checked.
"""

import asyncio
import contextlib
import os
import re
import shutil
import signal
import socket
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from vqmon.flow import run_concurrently
from vqmon.media.reference.libvmaf.measures import (
    FrameContext,
    LibvmafLog,
    filter_arguments,
    libvmaf_context,
    parse_log,
)
from vqmon.media.reference.libvmaf.pictures import PictureLayout, StoredPictures

_SETTING = "scoring.ffmpeg"
"""The setting that names the program; messages name it."""

_LAUNCHER = Path(__file__).with_name("launcher.py")
_MAX_OUTPUT_BYTES = 32_000_000
_MAX_ERROR_CHARACTERS = 120
_VERIFY_SECONDS = 30.0
_END_SECONDS = 5.0
_VERIFY_WIDTH, _VERIFY_HEIGHT = 640, 368


class ProgramError(Exception):
    """The program gave no values. `reason` is a key of UNSCORED_REFERENCE, the message names setting and remedy."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{_SETTING}: {detail}")
        self.reason = reason


class FfmpegProgram:
    """An ffmpeg program with libvmaf; `path` is a path, or a name that is looked up in PATH."""

    def __init__(self, path: str, *, memory_bytes: int = 4_000_000_000) -> None:
        self._path, self._memory_bytes = path, memory_bytes

    async def measure(
        self, pictures: StoredPictures, names: Sequence[str], *, deadline_seconds: float
    ) -> Mapping[str, Sequence[float]]:
        """One value per compared frame for each of the measures; raises ProgramError."""
        return (await self._measure(pictures, names, deadline_seconds=deadline_seconds)).values

    async def verify(self, names: Sequence[str]) -> Mapping[str, str]:
        """Compare a small picture with itself by these measures; returns versions by library.

        Raises ProgramError when the program is not there, has no libvmaf, or has not the models of these measures.
        """
        banner = await self._run(["-version"], (), deadline_seconds=_VERIFY_SECONDS)
        version = re.match(r"ffmpeg version (\S+)", banner.decode(errors="replace"))
        if version is None:
            raise ProgramError("program", f"{self._path} is no ffmpeg: `-version` prints something else")
        log = await self._measure(_test_pictures(names), names, deadline_seconds=_VERIFY_SECONDS)
        return {"ffmpeg": version[1][:60], "libvmaf": log.version}

    async def _measure(self, pictures: StoredPictures, names: Sequence[str], *, deadline_seconds: float) -> LibvmafLog:
        layout, streams = pictures.layout, (pictures.segment_stream(), pictures.reference_stream())
        pairs = [socket.socketpair() for _ in streams]
        options = ["-hide_banner", "-nostdin", "-nostats", "-v", "error", "-filter_threads", "1"]
        for _, theirs in pairs:
            options += ["-protocol_whitelist", "pipe", "-f", "rawvideo", "-framerate", "25"]
            options += ["-pixel_format", layout.pixel_format, "-video_size", f"{layout.width}x{layout.height}"]
            options += ["-i", f"pipe:{theirs.fileno()}"]
        options += ["-filter_complex", f"[0:v][1:v]{filter_arguments(names, period=pictures.context.period)}"]
        options += ["-f", "null", "-"]
        inputs = [(*pair, stream) for pair, stream in zip(pairs, streams, strict=True)]
        try:
            output = await self._run(options, inputs, deadline_seconds=deadline_seconds)
        finally:
            for end in (end for pair in pairs for end in pair):
                end.close()
        try:
            return parse_log(output, names, indices=pictures.indices)
        except ValueError as error:
            raise ProgramError("program", f"{self._path} printed no log of libvmaf: {error}") from None

    def _find(self) -> str:
        path = shutil.which(self._path)
        if path is None:
            raise ProgramError("program", f"{self._path} is not there or cannot be run")
        return os.path.abspath(path)

    async def _start(
        self, path: str, options: Sequence[str], *, descriptors: Sequence[int]
    ) -> asyncio.subprocess.Process:
        try:
            return await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", str(_LAUNCHER), str(self._memory_bytes), path, *options),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env={"PATH": os.defpath, "LC_ALL": "C.UTF-8", "MALLOC_ARENA_MAX": "2"},
                pass_fds=descriptors,
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            raise ProgramError("program", f"{path} cannot be started: {error.strerror}") from None

    async def _run(
        self,
        options: Sequence[str],
        inputs: Sequence[tuple[socket.socket, socket.socket, Iterable[memoryview]]],
        *,
        deadline_seconds: float,
    ) -> bytes:
        """The standard output. `inputs` are our end of a socket, the program's, and what is written to it."""
        path = self._find()
        child = await self._start(path, options, descriptors=[theirs.fileno() for _, theirs, _ in inputs])
        assert child.stdout is not None
        assert child.stderr is not None
        try:
            async with asyncio.timeout(deadline_seconds):
                for _, theirs, _ in inputs:
                    theirs.close()
                feeds = (_feed(ours, stream) for ours, _, stream in inputs)
                reads = (_read(child.stdout, _MAX_OUTPUT_BYTES), _read(child.stderr, _MAX_OUTPUT_BYTES))
                output, errors, *_ = await run_concurrently((*reads, *feeds))
                code = await child.wait()
        except BaseException as error:
            await _kill(child)
            if isinstance(error, TimeoutError):
                raise ProgramError("timeout", f"{path} took more than {deadline_seconds:g} s") from None
            raise
        if code:
            raise ProgramError("program", f"{path} {_failure_of(errors, code)}")
        return output


async def _kill(child: asyncio.subprocess.Process) -> None:
    """Kill the program and its children, and wait for its end, at most a few seconds."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_END_SECONDS):
            await child.wait()


async def _feed(connection: socket.socket, stream: Iterable[memoryview]) -> bytes:
    """Write everything and close; a program that ends before tells why by its exit code."""
    connection.settimeout(0)
    loop = asyncio.get_running_loop()
    with contextlib.suppress(ConnectionError):
        for part in stream:
            await loop.sock_sendall(connection, part)
    connection.close()
    return b""


async def _read(stream: asyncio.StreamReader, max_bytes: int) -> bytes:
    """Read to the end, and keep what fits into the bound."""
    content = bytearray()
    while part := await stream.read(1 << 16):
        content += part[: max_bytes - len(content)]
    return bytes(content)


def _failure_of(errors: bytes, code: int) -> str:
    """What the program said, in words that tell what to do."""
    text = errors.decode(errors="replace")
    if "No such filter" in text:
        return "has no filter libvmaf: name an ffmpeg that was built with --enable-libvmaf"
    if missing := re.search(r"could not load libvmaf model with version: (\S+)", text):
        return f"has a libvmaf without the model {missing[1][:60]}: name a newer ffmpeg"
    first_line = re.sub(r"^\[[^]]*\] ?", "", text.strip().split("\n", 1)[0])
    printable = "".join(character for character in first_line if character.isprintable())
    ending = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
    return f"{ending}: {printable[:_MAX_ERROR_CHARACTERS]}" if printable else ending


def _test_pictures(names: Sequence[str]) -> StoredPictures:
    """One grey picture with a ramp as both sides."""
    context: FrameContext = libvmaf_context(names)
    layout = PictureLayout(
        width=_VERIFY_WIDTH, height=_VERIFY_HEIGHT, pixel_format="yuv420p", count=1, starts_at_first=True
    )
    picture = np.full(layout.picture_bytes, 128, np.uint8)
    picture[: _VERIFY_WIDTH * _VERIFY_HEIGHT] = np.tile(np.arange(_VERIFY_WIDTH) % 200, _VERIFY_HEIGHT)
    return StoredPictures(memory=np.tile(picture, 1 + context.period), layout=layout, context=context)
