"""Measures of a segment alone through the decoder: values by the published formulas on its decoded pictures."""

from collections.abc import Mapping, Sequence
from io import BytesIO

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from tests.media.clips import clip, ffmpeg, x264
from tests.media.decode.rig import SMALL, decode_in_process
from tests.media.stills import colour_picture, png
from vqmon.core.types import Sampling
from vqmon.errors import DecodeError
from vqmon.media.decode.pool import DecodeLimits, DecoderPool
from vqmon.media.measures.measure import Picture
from vqmon.media.measures.registry import MEASURES

FILM = "mandelbrot=size=384x216:rate=25:end_scale=0.02:end_pts=250,trim=duration=2"
ALL = ("niqe", "il_niqe", "cambi", "si", "ti", "si_pq", "ti_pq")
HDR = ("-c:v", "libx264", "-pix_fmt", "yuv420p10le", "-x264-params")

Frame = NDArray[np.float64]


def measured(
    media: bytes, *measures: str, sampling: Sampling = "exact", fps: float = 1.0
) -> Mapping[str, Sequence[float | None]]:
    decoded = decode_in_process(media, SMALL, measures=measures, sampling=sampling, fps=fps)
    assert all(not score.is_compared and len(score.frame_values) == len(decoded.times_seconds) for score in
               decoded.measures)  # fmt: skip
    return {score.measure: score.frame_values for score in decoded.measures}


def luma(media: bytes) -> list[Frame]:
    """Of every frame, as it is coded."""
    with av.open(BytesIO(media)) as container:
        return [_luma_plane(frame) for frame in container.decode(video=0)]


def _luma_plane(frame: av.VideoFrame) -> Frame:
    kind = np.uint16 if frame.format.components[0].bits > 8 else np.uint8
    plane = np.frombuffer(frame.planes[0], kind).reshape(frame.height, -1)
    return plane[:, : frame.width].astype(np.float64)


def si(levels: Frame) -> float:
    """P.910: the standard deviation of the Sobel magnitude inside the outermost pixels."""
    return float(np.hypot(ndimage.sobel(levels, axis=0), ndimage.sobel(levels, axis=1))[1:-1, 1:-1].std())


def pq(share: Frame) -> Frame:
    """P.910 (10/2023): BT.1886 with gamma 2.4 from 0.1 to 300 cd/m2, then the PQ domain of BT.2100."""
    power = ((299.9 * share**2.4 + 0.1) / 10_000) ** 0.1593017578125
    domain: Frame = ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375 * 255
    return domain


@pytest.mark.parametrize(
    ("options", "black", "white"),
    [((), 16, 235), (("-color_range", "pc"), 0, 255), (("-pix_fmt", "yuv420p10le"), 64, 940)],
    ids=["limited", "full", "10 bits"],
)
def test_spatial_and_temporal_information_are_of_the_coded_luma(
    options: tuple[str, ...], black: float, white: float
) -> None:
    """TI is that of the frame after each sample; at every rate and selection of frames the values are the same."""
    media = clip(*x264("-crf", "18", "-bf", "2", *options), source=FILM)
    shares = [((frame - black) / (white - black)).clip(0, 1) for frame in luma(media)]
    values = measured(media, "si", "ti", "si_pq", "ti_pq")

    for name, to_levels in (("", lambda share: share * 255), ("_pq", pq)):
        levels = [to_levels(share) for share in shares]
        assert values[f"si{name}"] == pytest.approx([si(levels[index]) for index in (0, 25)], abs=2e-4)
        assert values[f"ti{name}"] == pytest.approx(
            [(levels[index + 1] - levels[index]).std() for index in (0, 25)], abs=2e-4
        )
    every_frame = measured(media, "ti", fps=240.0)["ti"]
    assert (every_frame[0], every_frame[25]) == values["ti"]
    # nothing follows the last frame
    assert every_frame[-1] is None


def test_banding_is_that_of_the_coded_picture_and_not_of_ten_bits() -> None:
    """A slope of 20 levels has steps that annoy; with the steps of 10 bits nobody sees them."""
    banded, smooth = (
        measured(
            clip("-c:v", "libx264", "-qp", "0", "-f", "mpegts",
                 source=f"nullsrc=size=640x360:rate=5:duration=0.4,format={pixel_format},geq=lum='{slope}':cb=128:cr=128"),
            "cambi",
        )["cambi"]
        for pixel_format, slope in (("yuv420p", "126+X/32"), ("yuv420p10le", "504+X/8"))
    )  # fmt: skip
    assert (banded[0] or 0) > 4
    assert (smooth[0] or 0) < 1


def test_niqe_is_that_of_the_displayed_picture() -> None:
    """That of the picture which FFmpeg converts to RGB."""
    film = clip(*x264("-crf", "10"), source=f"{FILM},trim=end_frame=1")
    rgb = ffmpeg("-i", "-", "-pix_fmt", "rgb24", "-f", "rawvideo", "-", source=film)
    picture = Picture(np.frombuffer(rgb, np.uint8).reshape(-1, 216, 384, 3)[0])
    assert measured(film, "niqe") == {"niqe": pytest.approx((MEASURES["niqe"].compute(None, picture),), rel=0.05)}


def test_a_measure_without_a_value_is_left_out_and_the_notes_say_why() -> None:
    """A small picture, one without texture, HDR, and a still picture, which no frame follows."""
    texture = "color=c=gray:size=256x256:rate=5:duration=0.4"
    ten_bits = "testsrc2=size=256x256:rate=5:duration=0.4,format=yuv420p10le"
    cases: dict[bytes, Mapping[str, str]] = {
        clip(*x264(), size="192x108", seconds=1): {"cambi": "smaller than 216 x 216 px", "niqe": "smaller than"},
        clip(*x264(), source=texture): {"niqe": "hardly any texture"},
        clip(*HDR, "transfer=smpte2084", "-f", "mpegts", source=ten_bits): {"cambi": "CAMBI is of SDR"},
        clip(*HDR, "transfer=arib-std-b67", "-f", "mpegts", source=ten_bits): {
            "cambi": "CAMBI is of SDR", "si_pq": "HLG", "ti_pq": "HLG",
        },
        png(colour_picture().repeat(3, axis=0).repeat(2, axis=1)): {"ti": "no frame follows", "ti_pq": "no frame"},
    }  # fmt: skip
    for media, missing in cases.items():
        decoded = decode_in_process(media, SMALL, measures=tuple(name for name in ALL if name != "il_niqe"))
        assert {score.measure for score in decoded.measures} == {*ALL} - {"il_niqe", *missing}
        notes = [note for note in decoded.media.notes if note.startswith("no ")]
        assert {note.split(":")[0].removeprefix("no ") for note in notes} == set(missing)
        for note in notes:
            name, _, reason = note.removeprefix("no ").partition(": ")
            assert missing[name] in reason


async def test_measures_that_take_too_long_lose_no_score() -> None:
    """The segment is decoded without them, and says so; 50 frames of IL-NIQE take many times the deadline."""
    media = clip(*x264(), source=FILM)
    async with DecoderPool(1, limits=DecodeLimits(deadline_seconds=2)) as pool:
        decoded = await pool.decode(media, views=[SMALL], signals=(), fps=25, measures=("il_niqe",))
    assert len(decoded.times_seconds) == 50
    assert decoded.measures == ()
    assert decoded.media.notes[-1].startswith("no il_niqe: ")
    assert "took more than 4 s" in decoded.media.notes[-1]


async def test_an_unknown_measure_is_refused() -> None:
    async with DecoderPool(1) as pool:
        for names in (("psnr",), ("si", "si")):
            with pytest.raises((ValueError, DecodeError), match="measure"):
                await pool.decode(b"x", views=[SMALL], measures=names)
