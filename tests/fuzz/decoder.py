"""Mutated segments through the real decoder processes, in their jail: every one is decoded or refused with a reason."""

import asyncio
import sys
import time
from collections import Counter
from pathlib import Path
from random import Random

from tests.fuzz.mutations import Mutation, mutate_boxes, mutate_bytes, mutate_packets, several
from tests.media.clips import clip, x264
from vqmon.core.types import SIGNALS, View
from vqmon.errors import DecodeError
from vqmon.media.decode.pool import DecoderPool

_VIEW = View(kind="stretch", width=64, height=36)
_MAX_SECONDS = 20.0
"""The deadline of a decoder, and what the machine may be late with."""


async def fuzz_decoder(seconds: float, findings: Path, *, seed: int) -> int:
    """Decode mutated segments for so long and print what became of them; the number of findings, which are written."""
    chance, verdicts, longest, found = Random(seed), Counter[str](), 0.0, 0
    seeds: list[tuple[bytes, Mutation]] = [
        (clip(*x264(), size="64x36", seconds=2), mutate_packets),
        (clip(*x264(), size="64x36", seconds=2, container="mp4"), mutate_boxes),
        (clip("-c:v", "libvpx-vp9", size="64x36", seconds=1, container="matroska"), mutate_bytes),
        (clip("-c:v", "mpeg2video", size="64x36", seconds=2), mutate_packets),
    ]
    async with DecoderPool(1) as pool:
        first_bytes, ends = 0, time.monotonic() + seconds
        while time.monotonic() < ends:
            media, mutation = chance.choice(seeds)
            mutated, began = several(mutation, media, chance), time.monotonic()
            try:
                # signals cost most of the time, and their filters see damaged pictures too
                signals = tuple(SIGNALS) if chance.random() < 0.2 else ()
                await pool.decode(mutated, views=[_VIEW], signals=signals, thumbnail_width=32, with_audio=True)
                verdict = "decoded"
            except DecodeError as error:
                verdict = error.reason
            except Exception as error:
                verdict = f"finding {type(error).__name__}: {error}"
            took = time.monotonic() - began
            longest = max(longest, took)
            if verdict in ("crashed", "internal") or verdict.startswith("finding") or took > _MAX_SECONDS:
                found += 1
                file = await asyncio.to_thread(_write_finding, findings, f"{seed}-{verdicts.total()}", mutated)
                print(f"  {verdict} after {took:.1f} s: {file}", flush=True)
            verdicts[verdict] += 1
            first_bytes = first_bytes or (_resident_bytes() if verdicts.total() > 50 else 0)
        growth = _resident_bytes() - first_bytes if first_bytes else 0
    shown = ", ".join(f"{count} {verdict}" for verdict, count in verdicts.most_common())
    print(f"decoder    {verdicts.total()} segments: {shown}; longest {longest:.1f} s; memory {growth / 1e6:+.1f} MB")
    return found


def _write_finding(folder: Path, name: str, media: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(media)
    return folder / name


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


if __name__ == "__main__":
    sys.exit(min(1, asyncio.run(fuzz_decoder(float(sys.argv[1]), Path(sys.argv[2]), seed=int(sys.argv[3])))))
