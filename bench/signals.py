"""How long the temporal signals stay above the thresholds of the shipped rules on natural material.

    python -m bench.signals FOLDER

FOLDER holds clips, at any depth. Prints for each clip the signals of consecutive frames, and `freeze`.
"""

import argparse
import asyncio
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from vqmon.core.types import DecodedSegment
from vqmon.errors import DecodeError
from vqmon.media.decode.pool import DecoderPool
from vqmon.media.decode.protocol import DecodeLimits
from vqmon.media.images.signals.temporal import TEMPORAL_SIGNALS

_MEDIA = {".mp4", ".mkv", ".webm", ".ts", ".m4s"}
_LIMITS = DecodeLimits(deadline_seconds=300)


async def decode_folder(folder: Path) -> Mapping[str, DecodedSegment]:
    """Every file below a folder that can be decoded, by its path."""
    decoded: dict[str, DecodedSegment] = {}
    async with DecoderPool(1, limits=_LIMITS) as pool:
        for path in _media_files(folder):
            try:
                decoded[str(path.relative_to(folder))] = await pool.decode(path.read_bytes(), views=())
            except DecodeError as error:
                print(f"{path.name}: {error.reason}", file=sys.stderr)
    return decoded


def _media_files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.suffix in _MEDIA and path.is_file())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    decoded = asyncio.run(decode_folder(arguments.folder))
    for path, segment in decoded.items():
        print(f"{path}: {segment.media.fps:.1f} fps, {segment.media.duration_seconds:.1f} s")
        for name in (*TEMPORAL_SIGNALS, "dropped_frames", "freeze"):
            print(f"    {name:16s} {np.round(segment.signals[name], 2).tolist()}")


if __name__ == "__main__":
    main()
