"""An encoder process as the caller sees it: one process per request, killed when it takes too long.

Its answer is not trusted: the process read the clip, which an attacker may have made.
"""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from vqmon.errors import REASONS, DecodeError
from vqmon.media.decode.process import kill_child
from vqmon.media.decode.protocol import parse_json, printable_text
from vqmon.media.encode.codecs import EncodeSettings

_MEMORY_BYTES = 8_000_000_000
"""Address space of an encoder process; SVT-AV1 reserves gigabytes."""

_MAX_RESULT_BYTES = 256_000_000
"""Most bytes of an excerpt or encode: as many as a decoder takes by default."""

_MAX_FACTS_BYTES = 10_000
_READ_BYTES = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Excerpt:
    """The part of a clip that is encoded, as copied from the clip, and its facts; the size is as displayed."""

    media: bytes
    start_seconds: float
    seconds: float
    fps: float
    frames: int
    width: int
    height: int
    # of the whole clip; 0 = not known
    length_seconds: float
    # of one sample of luma
    bits: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedClip:
    """One rendition of an excerpt, as MP4."""

    media: bytes
    # of the coded pictures, without the container
    rate_kbps: float
    width: int
    height: int


async def cut_excerpt(clip: Path, *, seconds: float, start_seconds: float | None, deadline_seconds: float) -> Excerpt:
    """Cut an excerpt out of a clip at key frames, from its middle where no start is given.

    Raises DecodeError for a clip that cannot be read, OSError for a file that cannot be opened.
    """
    request = {"seconds": seconds, "start_seconds": start_seconds}
    with clip.open("rb") as media:
        facts, excerpt = await _ask(media.fileno(), request, deadline_seconds=deadline_seconds)
    with _untrusted():
        return Excerpt(
            media=excerpt,
            start_seconds=_number(facts, "start_seconds", 0, 1e9),
            seconds=_number(facts, "seconds", 0, 1e6),
            fps=_number(facts, "fps", 1e-3, 1e6),
            frames=int(_number(facts, "frames", 1, 1e9)),
            width=int(_number(facts, "width", 1, 100_000)),
            height=int(_number(facts, "height", 1, 100_000)),
            length_seconds=_number(facts, "length_seconds", 0, 1e9),
            bits=int(_number(facts, "bits", 1, 32)),
        )


async def encode_excerpt(file: Path, settings: EncodeSettings, *, fps: float, deadline_seconds: float) -> EncodedClip:
    """Encode the excerpt in a file; raises DecodeError and OSError."""
    request = {"settings": asdict(settings), "fps": fps}
    with file.open("rb") as media:
        facts, encoded = await _ask(media.fileno(), request, deadline_seconds=deadline_seconds)
    with _untrusted():
        shown_seconds = _number(facts, "frames", 1, 1e9) / fps
        return EncodedClip(
            media=encoded,
            rate_kbps=_number(facts, "picture_bytes", 0, 1e12) * 8 / 1000 / shown_seconds,
            width=int(_number(facts, "width", 1, 100_000)),
            height=int(_number(facts, "height", 1, 100_000)),
        )


async def _ask(
    descriptor: int, request: Mapping[str, object], *, deadline_seconds: float
) -> tuple[Mapping[str, object], bytes]:
    """The facts, unchecked, and the bytes that a process makes of the media behind a descriptor."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-s", "-m", "vqmon.media.encode.worker", str(descriptor), str(_MEMORY_BYTES)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=_environment(),
        pass_fds=(descriptor,),
        cwd="/",
        start_new_session=True,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        async with asyncio.timeout(deadline_seconds):
            with contextlib.suppress(ConnectionError):
                child.stdin.write(json.dumps(request).encode())
                await child.stdin.drain()
            child.stdin.close()
            return _parse_answer(await _read_answer(child.stdout))
    except TimeoutError:
        raise DecodeError("timeout", f"encoding took more than {deadline_seconds:g} s") from None
    finally:
        kill_child(child)
        await child.wait()


async def _read_answer(output: asyncio.StreamReader) -> bytes:
    answer = bytearray()
    while block := await output.read(_READ_BYTES):
        answer += block
        if len(answer) > _MAX_FACTS_BYTES + _MAX_RESULT_BYTES:
            raise DecodeError("too_long", f"the encoder process gave more than {_MAX_RESULT_BYTES} bytes")
    return bytes(answer)


def _parse_answer(answer: bytes) -> tuple[Mapping[str, object], bytes]:
    """(facts, result) of an answer; raises the DecodeError that it reports, or `crashed` where it is none."""
    line, _, result = answer.partition(b"\n")
    with _untrusted():
        facts = parse_json(line) if len(line) <= _MAX_FACTS_BYTES else None
        if not isinstance(facts, dict):
            raise ValueError("the answer is no JSON object")
        if "reason" not in facts:
            return facts, result
        reason = str(facts["reason"])
    raise DecodeError(reason if reason in REASONS else "crashed", printable_text(facts.get("detail", "")))


@contextlib.contextmanager
def _untrusted() -> Iterator[None]:
    """Call what does not fit the format a crash of the encoder process."""
    try:
        yield
    except ValueError:
        raise DecodeError("crashed", "the encoder process gave no valid answer") from None


def _number(facts: Mapping[str, object], name: str, low: float, high: float) -> float:
    """A fact within a range; raises ValueError for anything else."""
    value = facts.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ValueError(f"{name} is not a number within {low:g}..{high:g}")
    return value


def _environment() -> dict[str, str]:
    """Of the environment only the module path; the encoders print nothing."""
    root = str(Path(__file__).resolve().parents[3])
    paths = dict.fromkeys([root, *(path for path in sys.path if os.path.isabs(path))])
    threads = {name: "1" for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    return {
        "PYTHONPATH": os.pathsep.join(paths),
        "PATH": os.defpath,
        "LC_ALL": "C.UTF-8",
        "SVT_LOG": "0",
        **threads,
    }
