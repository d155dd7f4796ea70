"""Decoding on a GPU: the same verdict as on the CPU, which takes over where the GPU fails; the CPU stands in for it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import av.error
import av.filter
import numpy as np
import pytest

from tests.media.clips import clip, ffmpeg, x264
from tests.media.decode.rig import moving_clip
from tests.media.decode.test_worker import CASES
from vqmon.core.types import View
from vqmon.media.decode.decoders.hardware import HARDWARE_CODECS, HardwareDecoder, open_nvdec
from vqmon.media.decode.pool import DecoderPool
from vqmon.media.decode.protocol import DecodeRequest
from vqmon.media.decode.worker import decode_segment
from vqmon.media.images.resampling import FrameResampler

VIEW = View(kind="stretch", width=64, height=36)
SEMI_PLANAR = {"yuv420p": "nv12", "yuv420p10le": "p010le"}


class SemiPlanarContext:
    """A decoder of the CPU that gives its frames in the formats of NVDEC, and fails when a test says so."""

    def __init__(self, context: Any, fail: Callable[[int], None]) -> None:
        object.__setattr__(self, "_context", context)
        object.__setattr__(self, "_fail", fail)
        object.__setattr__(self, "_packets", 0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._context, name, value)

    def decode(self, packet: Any) -> list[av.VideoFrame]:
        object.__setattr__(self, "_packets", self._packets + 1)
        self._fail(self._packets)
        return [
            frame.reformat(format=SEMI_PLANAR.get(frame.format.name, frame.format.name))
            for frame in self._context.decode(packet)
        ]


class StandIn:
    """Makes such decoders, as `Nvdec` makes those of a GPU."""

    def __init__(self, fail: Callable[[int], None] = lambda count: None) -> None:
        self._fail = fail

    def new_context(self, stream: Any) -> Any:
        if stream.codec.canonical_name not in HARDWARE_CODECS:
            return None
        context = av.CodecContext.create(stream.codec.name, "r")
        context.extradata = stream.codec_context.extradata
        return SemiPlanarContext(context, self._fail)


def decode(media: bytes, hardware: HardwareDecoder | None = None) -> tuple[dict[str, Any], list[bytes], bytes]:
    """The answer about a segment without its notes, the notes, and the views."""
    request = DecodeRequest(views=(VIEW,), thumbnail_width=64, with_heat_maps=True)
    memory = np.zeros(2_000_000, np.uint8)
    collector, facts = decode_segment(media, request, memory, FrameResampler(av.filter.Graph), hardware=hardware)
    answer = collector.answer(facts)
    notes = answer["media"].pop("notes")
    return {**answer, "details": collector.packed_details()}, notes, memory.tobytes()


@pytest.mark.parametrize(
    "name", ["h264", "h264-open-gop", "h264-flagged-interlaced", "h264-10-bit", "hevc", "vp9", "av1"]
)
def test_the_verdict_is_that_of_the_cpu(name: str) -> None:
    """Every signal, time and pixel, to the last bit: the GPU's formats hold the same values in another order."""
    case = CASES[name]
    media = clip(*case.options, container=case.container, rate=case.rate)
    cpu, cpu_notes, cpu_views = decode(media)
    gpu, gpu_notes, gpu_views = decode(media, StandIn())
    assert sorted(gpu_notes) == sorted([*cpu_notes, "decoded on the GPU"])
    assert gpu == cpu
    assert gpu_views == cpu_views


@pytest.mark.parametrize(
    ("turn", "container"),
    [
        ((), ("-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709", "-color_range", "tv")),
        (("-display_rotation", "-90"), ()),
    ],
)
def test_what_only_the_container_tells_of_the_pictures_holds(
    tmp_path: Path, turn: tuple[str, ...], container: tuple[str, ...]
) -> None:
    """The GPU's decoder gets the colours of the container, and pictures that are turned are left to the CPU."""
    plain, made = tmp_path / "plain.mp4", tmp_path / "made.mp4"
    plain.write_bytes(clip(*x264(), container="mp4"))
    ffmpeg(*turn, "-i", str(plain), "-c", "copy", *container, "-movflags", "+write_colr", "-y", str(made))
    cpu, _, cpu_views = decode(made.read_bytes())
    gpu, gpu_notes, gpu_views = decode(made.read_bytes(), StandIn())
    facts = cpu["media"]
    assert (facts["rotation_degrees"], facts["transfer"]) == ((90, "unspecified") if turn else (0, "bt709"))
    assert gpu == cpu
    assert gpu_views == cpu_views
    assert ("decoded on the GPU" in gpu_notes) == (not turn)


def fail_at(packet: int, error: Exception) -> Callable[[int], None]:
    def fail(count: int) -> None:
        if count == packet:
            raise error

    return fail


@pytest.mark.parametrize(
    "error",
    [
        av.error.ExternalError(0x20545845, "Generic error in an external library"),
        av.error.MemoryError(12, "Cannot allocate memory"),
        ValueError("the pixel format is not supported"),
    ],
)
def test_a_segment_on_which_the_gpu_fails_is_decoded_on_the_cpu(error: Exception) -> None:
    """From its first picture, with no trace in the verdict of what the GPU had decoded by then."""
    media = moving_clip()
    cpu = decode(media)
    for packet in (1, 4):
        assert decode(media, StandIn(fail_at(packet, error))) == cpu


def test_pictures_in_a_format_that_only_the_gpu_knows_are_decoded_on_the_cpu() -> None:
    """Such as 4:2:2, which the stand-in leaves as it is."""
    media = clip(*CASES["h264-422"].options, container="matroska")
    assert decode(media, StandIn()) == decode(media)


def test_damage_and_other_codecs_are_left_to_the_cpu() -> None:
    """The CPU's decoder says which packets are damaged, and MPEG-2 is none of the GPU's."""
    media = bytearray(clip(*x264()))
    # inside packets of the transport stream, whose headers stay as they are
    for at in range(len(media) // 3 // 188 * 188, len(media) - 188, 7 * 188):
        media[at + 60 : at + 100] = bytes(40)
    damaged = decode(bytes(media))
    assert damaged[0]["signals"]["decode_errors"][-1] == 1
    assert decode(bytes(media), StandIn()) == damaged
    case = CASES["mpeg2"]
    mpeg2 = clip(*case.options, container=case.container)
    assert decode(mpeg2, StandIn()) == decode(mpeg2)


async def test_without_a_gpu_workers_decode_on_the_cpu_and_say_why() -> None:
    """The versions of the event name the reason."""
    if not isinstance(open_nvdec("cuda"), str):
        pytest.skip("this machine has NVDEC")
    async with DecoderPool(1, isolation="off", hardware="cuda") as pool:
        decoded = await pool.decode(moving_clip(), views=[VIEW])
        assert pool.versions["nvdec"].startswith("cuda cannot be used: ")
    assert len(decoded.times_seconds) == 3
    assert "decoded on the GPU" not in decoded.media.notes


@pytest.mark.parametrize(
    ("hardware", "expected"),
    [("cuda", {"CUDA_VISIBLE_DEVICES": "GPU-5c89852c", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}), ("", {})],
)
async def test_a_worker_sees_the_gpus_that_the_daemon_sees(
    monkeypatch: pytest.MonkeyPatch, hardware: str, expected: dict[str, str]
) -> None:
    """Counted as nvidia-smi does; a worker that uses no GPU gets no variable."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-5c89852c")
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    async with DecoderPool(1, isolation="off", hardware=hardware) as pool:
        variables = environment_of(pool.idle_pids[0])
    assert {name: value for name, value in variables.items() if name.startswith("CUDA")} == expected


def environment_of(pid: int) -> dict[str, str]:
    """The variables with which a process was started."""
    lines = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return {name: value for name, _, value in (line.partition("=") for line in lines)}
