"""Delay of verdicts on live low-latency HLS and DASH, and their processor time.

    python -m bench.serving.low_latency [--segments 8] [--parts 0.2 0.333 0.5 1] [--sizes 320x180 1280x720]

An origin in a process of its own publishes parts of H.264 at 30 pictures a second in real time, one key picture per
segment, and the daemon follows it with `partial_verdicts`. The delay of a part is the time from its end, by the clock
of the origin, to the first verdict that covers it, whether on a part of the segment or on the whole; "within two" is
the share of parts whose delay is at most two part durations. Processor time is that of the daemon and its decoders per
second of the stream. The parts of the first two segments do not count: the daemon is opening its parts.
"""

import argparse
import asyncio
import multiprocessing
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np

from pipelines.daemon import one_host
from pipelines.observe.playlists.partial_verdicts import PartialVerdict
from tests.acceptance.low_latency import cmaf, live_manifest
from tests.media.loopback import Answer, Request, Server, serving
from vqmon.settings.load import Settings

_RATE = 30
_LIST_SEGMENTS = 6
_UNCOUNTED_SEGMENTS = 2
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What an origin publishes, and when."""

    protocol: str
    size: str
    frames_per_part: int
    parts: int
    segments: int
    starts_at: datetime

    @property
    def part_seconds(self) -> float:
        """Duration of a part or chunk."""
        return self.frames_per_part / _RATE

    @property
    def segment_seconds(self) -> float:
        """Duration of a segment."""
        return self.part_seconds * self.parts

    def made_at(self, part: int) -> datetime:
        """The end of a part, counted from the start of the stream."""
        return self.starts_at + timedelta(seconds=(part + 1) * self.part_seconds)

    def count_made(self) -> int:
        """How many parts there are by now."""
        seconds = (datetime.now(UTC) - self.starts_at).total_seconds()
        return min(max(int(seconds / self.part_seconds), 0), self.parts * self.segments)


def _cmaf(plan: Plan) -> tuple[bytes, Sequence[bytes]]:
    """The initialization section, and every part."""
    init, segments = cmaf(
        plan.segments, chunks=plan.parts, size=plan.size, rate=_RATE, segment_frames=plan.frames_per_part * plan.parts
    )
    return init, [part for segment in segments for part in segment]


class _Origin:
    """Serves /live.m3u8 with blocking reloads and parts, and /live.mpd with segments sent chunk by chunk."""

    def __init__(self, plan: Plan, server: Server, init: bytes, made: Sequence[bytes]) -> None:
        self._plan, self._made = plan, made
        server.answers |= {"/live.m3u8": self._send_playlist, "/live.mpd": self._send_manifest, "/init.mp4": init}
        for part in range(len(made)):
            server.answers[f"/part{part}.m4s"] = self._send_part
        for number in range(plan.segments):
            server.answers[f"/{number}.m4s"] = self._send_segment

    async def _wait_until(self, at: datetime) -> None:
        await asyncio.sleep(max((at - datetime.now(UTC)).total_seconds(), 0.0))

    async def _send_playlist(self, request: Request, writer: asyncio.StreamWriter) -> None:
        query = parse_qs(urlsplit(request.path).query)
        if "_HLS_msn" in query:
            wanted = int(query["_HLS_msn"][0]) * self._plan.parts + int(query.get("_HLS_part", ["0"])[0])
            await self._wait_until(self._plan.made_at(min(wanted, len(self._made) - 1)))
        writer.write(Answer(self._playlist().encode()).on_the_wire())
        await writer.drain()

    def _playlist(self) -> str:
        plan, made = self._plan, self._plan.count_made()
        whole = made // plan.parts
        first = max(whole - _LIST_SEGMENTS, 0)
        date = plan.starts_at + timedelta(seconds=first * plan.segment_seconds)
        lines = [
            *("#EXTM3U", "#EXT-X-VERSION:9", f"#EXT-X-TARGETDURATION:{plan.segment_seconds:.0f}"),
            f"#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK={3 * plan.part_seconds:.3f}",
            f"#EXT-X-PART-INF:PART-TARGET={plan.part_seconds:.6f}",
            *(f"#EXT-X-MEDIA-SEQUENCE:{first}", '#EXT-X-MAP:URI="init.mp4"'),
            f"#EXT-X-PROGRAM-DATE-TIME:{date.isoformat()}",
        ]
        for number in range(first, whole + 1):
            if number >= whole - 1:
                for part in range(number * plan.parts, min((number + 1) * plan.parts, made)):
                    independent = ",INDEPENDENT=YES" if part % plan.parts == 0 else ""
                    lines.append(f'#EXT-X-PART:DURATION={plan.part_seconds:.6f},URI="part{part}.m4s"{independent}')
            if number < whole:
                lines += [f"#EXTINF:{plan.segment_seconds:.6f},", f"{number}.m4s"]
        if made < len(self._made):
            lines.append(f'#EXT-X-PRELOAD-HINT:TYPE=PART,URI="part{made}.m4s"')
        else:
            lines.append("#EXT-X-ENDLIST")
        return "\n".join(lines) + "\n"

    async def _send_part(self, request: Request, writer: asyncio.StreamWriter) -> None:
        part = int(request.path.split("?")[0].removeprefix("/part").split(".")[0])
        await self._wait_until(self._plan.made_at(part))
        writer.write(Answer(self._made[part]).on_the_wire())
        await writer.drain()

    async def _send_segment(self, request: Request, writer: asyncio.StreamWriter) -> None:
        plan, number = self._plan, int(request.path.split("?")[0].strip("/").split(".")[0])
        if plan.count_made() <= number * plan.parts:
            writer.write(Answer(status=404).on_the_wire())
            return
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for part in range(number * plan.parts, (number + 1) * plan.parts):
            await self._wait_until(plan.made_at(part))
            writer.write(b"%x\r\n%b\r\n" % (len(self._made[part]), self._made[part]))
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    async def _send_manifest(self, request: Request, writer: asyncio.StreamWriter) -> None:
        plan = self._plan
        is_over = plan.count_made() == len(self._made)
        manifest = live_manifest(
            plan.starts_at, chunks=plan.parts, size=plan.size, rate=_RATE,
            segment_frames=plan.frames_per_part * plan.parts,
            total_seconds=plan.segments * plan.segment_seconds if is_over else None,
        )  # fmt: skip
        writer.write(Answer(manifest).on_the_wire())
        await writer.drain()


def _serve(plan: Plan, init: bytes, made: Sequence[bytes], ports: "multiprocessing.Queue[int]") -> None:
    async def serve() -> None:
        async with serving() as server:
            _Origin(plan, server, init, made)
            ports.put(server.port)
            await asyncio.sleep(600)

    asyncio.run(serve())


def _processor_seconds(parent: int) -> float:
    """Of a process and all below it, so far."""
    seconds, pids = 0.0, [parent]
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        seconds += (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND
        pids += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    return seconds


async def _follow(plan: Plan, port: int, *, origin: int) -> tuple[dict[int, float], float]:
    """Part -> its delay in seconds; and the processor time per second of the stream."""
    delays: dict[int, float] = {}

    def cover(number: int, seconds: float) -> None:
        now = datetime.now(UTC)
        last = number * plan.parts + round(seconds / plan.part_seconds) - 1
        for part in range(number * plan.parts, last + 1):
            delays.setdefault(part, (now - plan.made_at(part)).total_seconds())

    def take(verdict: PartialVerdict) -> None:
        if verdict.score is not None:
            since = (verdict.starts_at - plan.starts_at).total_seconds()
            cover(round(since / plan.segment_seconds), verdict.to_seconds)

    def publish(outcomes: object, alerts: object) -> None:
        assert isinstance(outcomes, list)
        for outcome in outcomes:
            since = (outcome.segment.starts_at - plan.starts_at).total_seconds()
            cover(round(since / plan.segment_seconds), plan.segment_seconds)

    name = "live.m3u8" if plan.protocol == "hls" else "live.mpd"
    with tempfile.TemporaryDirectory() as folder:
        source = {"partial_verdicts": True, "streams": [{"id": "tv", "url": f"http://127.0.0.1:{port}/{name}"}]}
        fetch = {"allowed_hosts": ["127.0.0.1"], "allowed_networks": ["127.0.0.0/8"], "allow_http": True}
        settings = Settings(
            source=source,  # type: ignore[arg-type]
            fetch=fetch | {"allowed_ports": [port]},  # type: ignore[arg-type]
            history={"path": Path(folder) / "vqmon.db"},  # type: ignore[arg-type]
            daemon={"health_port": 0},  # type: ignore[arg-type]
        )
        seconds = plan.segments * plan.segment_seconds
        end = (plan.starts_at - datetime.now(UTC)).total_seconds() + seconds + 3
        used: list[float] = []

        async def count_processor_time() -> None:
            for share in (_UNCOUNTED_SEGMENTS / plan.segments, 1.0):
                at = plan.starts_at + timedelta(seconds=seconds * share)
                await asyncio.sleep((at - datetime.now(UTC)).total_seconds())
                used.append(_processor_seconds(os.getpid()) - _processor_seconds(origin))

        counting = asyncio.create_task(count_processor_time())
        await one_host.run(settings, for_seconds=end, on_partial=take, on_publish=publish)
        await counting
    counted_seconds = (plan.segments - _UNCOUNTED_SEGMENTS) * plan.segment_seconds
    return delays, (used[1] - used[0]) / counted_seconds


def measure(protocol: str, size: str, part_seconds: float, *, segments: int) -> None:
    """Print one line."""
    frames = round(part_seconds * _RATE)
    parts = max(round(2 * _RATE / frames), 4)
    plan = Plan(
        protocol=protocol,
        size=size,
        frames_per_part=frames,
        parts=parts,
        segments=segments,
        starts_at=datetime.now(UTC),
    )
    init, made = _cmaf(plan)
    plan = replace(plan, starts_at=datetime.now(UTC) + timedelta(seconds=1))
    ports: multiprocessing.Queue[int] = multiprocessing.Queue()
    origin = multiprocessing.Process(target=_serve, args=(plan, init, made, ports), daemon=True)
    origin.start()
    try:
        delays, processor = asyncio.run(_follow(plan, ports.get(timeout=10), origin=origin.pid or 0))
    finally:
        origin.kill()
    counted = range(_UNCOUNTED_SEGMENTS * parts, segments * parts)
    values = np.array([delays.get(part, np.inf) for part in counted])
    within = float(np.mean(values <= 2 * plan.part_seconds))
    print(
        f"{protocol:4s} {size:>9s} {plan.part_seconds:5.3f} s  {len(counted):3d} parts  median {np.median(values):5.2f}"
        f"  p90 {np.quantile(values, 0.9):5.2f}  most {values.max():5.2f} s  within two {within:4.0%}"
        f"  processor {processor:4.2f} s/s  load {os.getloadavg()[0]:.1f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--segments", type=int, default=8)
    parser.add_argument("--parts", type=float, nargs="+", default=[0.2, 1 / 3, 0.5, 1.0], metavar="SECONDS")
    parser.add_argument("--sizes", nargs="+", default=["320x180", "1280x720"])
    parser.add_argument("--protocols", nargs="+", default=["hls", "dash"], choices=["hls", "dash"])
    arguments = parser.parse_args()
    began = time.monotonic()
    for size in arguments.sizes:
        for protocol in arguments.protocols:
            for part_seconds in arguments.parts:
                measure(protocol, size, part_seconds, segments=arguments.segments)
    print(f"{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
