"""A live A/B: two encodings of one live source, served over HTTP and announced on Kafka; `compose.yaml` runs it."""

import argparse
import asyncio
import os
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from pipelines.demo.stream import CLIP_SECONDS, encoder_command, make_clip, serve_folder
from pipelines.service.brokers import connection_of, topic_names
from pipelines.service.wiring import fetch_policy, utc_now
from pipelines.topics.publisher import encode_records
from vqmon.core.types import Segment
from vqmon.errors import FetchError
from vqmon.media.fetch.fetcher import Fetcher
from vqmon.media.sources.playlist import discover_segments
from vqmon.settings.load import Settings, load_settings
from vqmon.transport.kafka import IdempotentProducer

STREAM_ID = "news"
ARMS = {"v1": 700, "v2": 2500}
"""Arm -> kbit/s of its 720p rendition."""

_POLL_SECONDS = 1.0


def main() -> None:
    """Run until SIGTERM; the brokers are those of the settings."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--input", default=os.environ.get("INPUT", ""), help="video file; default: made from photos")
    parser.add_argument("--host", default="127.0.0.1", help="address to serve the segments on")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--address", default="", help="http address of the segments as workers reach it")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    settings = load_settings()
    with tempfile.TemporaryDirectory(prefix="vqmon-arms-") as name:
        folder = Path(name) / "stream"
        folder.mkdir()
        clip = Path(arguments.input).resolve() if arguments.input else make_clip(Path(name) / "clip.mp4")
        with serve_folder(folder, host=arguments.host, port=arguments.port) as address:
            local = address.replace("0.0.0.0", "127.0.0.1")
            with subprocess.Popen(arms_command(clip), cwd=folder, stdin=subprocess.DEVNULL) as encoder:
                try:
                    asyncio.run(_announce(settings, encoder, local, arguments.address.rstrip("/") or local))
                finally:
                    encoder.terminate()


def arms_command(clip: Path) -> list[str]:
    """One ffmpeg with an HLS playlist per arm: both encode the same frames, and their segments start together."""
    outputs = [(f"720p-{arm}", (1280, 720, kbps)) for arm, kbps in ARMS.items()]
    return encoder_command(clip, outputs, start_number_source="epoch")


async def _announce(settings: Settings, encoder: "subprocess.Popen[bytes]", local: str, address: str) -> None:
    """Publish a message for each segment once its playlist lists it, until the encoder ends."""
    playlists = {arm: f"{local}/720p-{arm}.m3u8" for arm in ARMS}
    topic, seen, began_at = topic_names(settings.kafka).segments, dict.fromkeys(ARMS, -1), None
    async with (
        Fetcher(fetch_policy(settings, named=[*playlists.values()])) as fetcher,
        IdempotentProducer(connection_of(settings.kafka)) as producer,
    ):
        while encoder.poll() is None:
            for arm, playlist in playlists.items():
                listed = await _list(playlist, fetcher)
                began_at = began_at or (listed[0].starts_at if listed else None)
                fresh = [segment for segment in listed if segment.sequence > seen[arm]]
                if not fresh or began_at is None:
                    continue
                named = [announced(segment, arm, began_at, local=local, address=address) for segment in fresh]
                await producer.publish(topic, list(encode_records(named, ended=())))
                seen[arm] = fresh[-1].sequence
            await asyncio.sleep(_POLL_SECONDS)
    raise SystemExit(f"arms: the encoder ended with status {encoder.returncode}; can ffmpeg read the input?")


async def _list(playlist: str, fetcher: Fetcher) -> Sequence[Segment]:
    try:
        found = await discover_segments(playlist, fetcher=fetcher, now=utc_now())
    except FetchError:
        return []  # before the first segment there is no playlist
    return [item for item in found.items if isinstance(item, Segment)]


def announced(segment: Segment, arm: str, began_at: datetime, *, local: str, address: str) -> Segment:
    """A segment as its message has it: arm, address for workers, and as `title` which turn of the clip it shows."""
    turn = int((segment.starts_at - began_at).total_seconds() // CLIP_SECONDS)
    labels = {"arm": arm, "title": f"turn-{turn:05d}"}
    rendition = replace(segment.rendition, stream_id=STREAM_ID, name=f"720p-{arm}", height=720)
    return replace(segment, rendition=rendition, labels=labels, url=address + segment.url.removeprefix(local))


if __name__ == "__main__":
    main()
