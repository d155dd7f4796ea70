"""The values of libavfilter's measures, frame by frame, against those of the ffmpeg program."""

import io
import re
from pathlib import Path

import av
import av.filter
import pytest

from tests.media.clips import clip, ffmpeg, x264
from vqmon.media.reference.measures.filters import MAX_DECIBELS, FilterMeter

GOOD = clip(*x264("-crf", "12"), size="160x96", seconds=0.6)
POOR = clip(*x264("-crf", "40"), size="160x96", seconds=0.6)
SAMPLES = (0, 5, 12)

# what the program prints for a frame
PATTERNS = {
    "psnr": r"lavfi\.psnr\.psnr_avg=(\S+)",
    "ssim": r"lavfi\.ssim\.All=(\S+)",
    "xpsnr": r"lavfi\.xpsnr\.xpsnr\.y=(\S+)",
    "msad": r"lavfi\.msad\.msad_avg=(\S+)",
    "vif": r"lavfi\.vif\.scale\.[0-3]=(\S+)",
}


def frames(media: bytes) -> list[av.VideoFrame]:
    with av.open(io.BytesIO(media)) as container:
        return list(container.decode(video=0))


def by_ffmpeg(name: str, folder: Path) -> list[float]:
    """One value per frame of POOR against GOOD; of vif the mean of the four scales."""
    good, poor = folder / "good.ts", folder / "poor.ts"
    good.write_bytes(GOOD)
    poor.write_bytes(POOR)
    # xpsnr takes the original first
    inputs = (good, poor) if name == "xpsnr" else (poor, good)
    text = ffmpeg(
        *("-i", str(inputs[0]), "-i", str(inputs[1]), "-lavfi", f"{name},metadata=mode=print:file=-"), "-f", "null", "-"
    ).decode()
    values = [float(value) for value in re.findall(PATTERNS[name], text)]
    parts = 4 if name == "vif" else 1
    return [sum(values[index : index + parts]) / parts for index in range(0, len(values), parts)]


@pytest.mark.parametrize("name", sorted(PATTERNS))
def test_the_value_of_a_sampled_frame_is_that_of_the_ffmpeg_program(name: str, tmp_path: Path) -> None:
    """To 1e-3, though the program sees all frames and the meter only the sampled ones and those it needs before."""
    good, poor, expected = frames(GOOD), frames(POOR), by_ffmpeg(name, tmp_path)
    meter = FilterMeter(av.filter.Graph)
    context = meter.context_frames([name], 25.0)
    values = [
        meter.measure(name, poor[index], good[index], earlier=good[max(0, index - context) : index], fps=25.0)[0]
        for index in SAMPLES
    ]

    assert len(expected) == len(good)
    assert values == pytest.approx([expected[index] for index in SAMPLES], abs=1e-3)


def test_identical_pictures_have_the_highest_psnr_and_not_infinity() -> None:
    """JSON has no infinity."""
    good = frames(GOOD)[0]

    assert FilterMeter(av.filter.Graph).measure("psnr", good, good)[0] == MAX_DECIBELS


def test_xpsnr_needs_more_frames_at_high_frame_rates() -> None:
    """Its weights follow the change of the picture: over one frame up to 32 fps, over two above."""
    assert FilterMeter.context_frames(["psnr", "ssim"], 60.0) == 0
    assert FilterMeter.context_frames(["xpsnr", "ssim"], 25.0) == 1
    assert FilterMeter.context_frames(["xpsnr"], 50.0) == 2
