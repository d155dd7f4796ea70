"""An encoder process as the daemon's side sees it: one process per request, killed when it takes too long."""

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vqmon.errors import REASONS, DecodeError
from vqmon.media.encode.codecs import EncodeSettings

_MEMORY_BYTES = 8_000_000_000
"""Address space of an encoder process; SVT-AV1 reserves gigabytes."""


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
    return Excerpt(media=excerpt, **facts)


async def encode_excerpt(file: Path, settings: EncodeSettings, *, fps: float, deadline_seconds: float) -> EncodedClip:
    """Encode the excerpt in a file; raises DecodeError and OSError."""
    request = {"settings": asdict(settings), "fps": fps}
    with file.open("rb") as media:
        facts, encoded = await _ask(media.fileno(), request, deadline_seconds=deadline_seconds)
    shown_seconds = facts["frames"] / fps
    return EncodedClip(
        media=encoded,
        rate_kbps=facts["picture_bytes"] * 8 / 1000 / shown_seconds,
        width=facts["width"],
        height=facts["height"],
    )


async def _ask(
    descriptor: int, request: Mapping[str, object], *, deadline_seconds: float
) -> tuple[dict[str, Any], bytes]:
    """The answer of a process that reads the media from a descriptor."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-s", "-m", "vqmon.media.encode.worker", str(descriptor), str(_MEMORY_BYTES)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=_environment(),
        pass_fds=(descriptor,),
        cwd="/",
    )
    try:
        async with asyncio.timeout(deadline_seconds):
            output, _ = await child.communicate(json.dumps(request).encode())
    except TimeoutError:
        raise DecodeError("timeout", f"encoding took more than {deadline_seconds:g} s") from None
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    line, _, result = output.partition(b"\n")
    try:
        answer = json.loads(line)
    except ValueError:
        raise DecodeError("crashed", "the encoder process gave no answer") from None
    if "reason" in answer:
        reason = answer["reason"] if answer["reason"] in REASONS else "crashed"
        raise DecodeError(reason, str(answer["detail"])[:500])
    return answer, result


def _environment() -> dict[str, str]:
    """Of the environment only the module path; the encoders are told to be quiet."""
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
