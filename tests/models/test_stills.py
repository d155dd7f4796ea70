"""Still pictures as the decoder gives them to scorers are those that Pillow gives to the networks in training."""

import io
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

av_filter = pytest.importorskip("av.filter")
Image = pytest.importorskip("PIL.Image")
ImageOps = pytest.importorskip("PIL.ImageOps")

from tests.media.stills import alpha_ramp, colour_picture  # noqa: E402
from vqmon.core.types import View  # noqa: E402
from vqmon.media.decode.protocol import DecodeRequest, parse_answer  # noqa: E402
from vqmon.media.decode.worker import decode_segment  # noqa: E402
from vqmon.media.images.resampling import FrameResampler  # noqa: E402

FORMATS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 92, "subsampling": 0},
    "PNG": {},
    "WEBP": {"lossless": True},
    "AVIF": {"quality": 95, "subsampling": "4:4:4"},
}


def saved(picture: Any, format: str, **options: Any) -> bytes:
    """The file that Pillow writes."""
    file = io.BytesIO()
    picture.save(file, format, **options)
    return file.getvalue()


def by_pillow(media: bytes) -> NDArray[np.uint8]:
    """(height, width, 3) as Pillow decodes a file, upright, alpha on black."""
    picture = ImageOps.exif_transpose(Image.open(io.BytesIO(media)))
    if picture.mode in ("RGBA", "LA") or "transparency" in picture.info:
        pixels = np.asarray(picture.convert("RGBA")).astype(float)
        return np.rint(pixels[..., :3] * pixels[..., 3:] / 255).astype(np.uint8)
    return np.asarray(picture.convert("RGB"))


def difference(media: bytes) -> NDArray[np.int64]:
    """Absolute differences between the decoder's native picture and Pillow's."""
    expected = by_pillow(media)
    view = View(kind="stretch", width=expected.shape[1], height=expected.shape[0])
    request = DecodeRequest(views=(view,), signals=())
    shared_memory = np.empty(view.row_bytes, np.uint8)
    collector, facts = decode_segment(media, request, shared_memory, FrameResampler(av_filter.Graph))
    decoded = parse_answer(collector.answer(facts), b"", shared_memory, request)
    result: NDArray[np.int64] = np.abs(decoded.views[view][0].astype(int) - expected.astype(int))
    return result


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", FORMATS)
def test_every_orientation_is_that_of_pillow(format: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    media = saved(Image.fromarray(colour_picture()), format, exif=exif, **FORMATS[format])
    levels = difference(media)
    assert levels.max() <= (0 if format in ("PNG", "WEBP") else 3)
    assert levels.mean() < 0.3


@pytest.mark.parametrize(
    ("format", "options"),
    [
        ("JPEG", {"quality": 90, "subsampling": 1}),
        ("JPEG", {"quality": 90, "subsampling": 2}),
        ("JPEG", {"quality": 90, "progressive": True}),
        ("WEBP", {"quality": 90}),
        ("AVIF", {"quality": 90}),
    ],
)
def test_subsampled_chroma_is_that_of_pillow(format: str, options: dict[str, Any]) -> None:
    levels = difference(saved(Image.fromarray(colour_picture()), format, **options))
    assert levels.max() <= 4
    assert levels.mean() < 0.3


@pytest.mark.parametrize(("mode", "format", "most"), [
    ("L", "JPEG", 1), ("CMYK", "JPEG", 3), ("L", "PNG", 0), ("P", "PNG", 0), ("1", "PNG", 0), ("L", "AVIF", 1),
])  # fmt: skip
def test_other_modes_are_those_of_pillow(mode: str, format: str, most: int) -> None:
    assert difference(saved(Image.fromarray(colour_picture()).convert(mode), format)).max() <= most


@pytest.mark.parametrize(
    ("mode", "format", "options", "most"),
    [
        ("RGBA", "PNG", {}, 0),
        ("LA", "PNG", {}, 0),
        ("RGBA", "WEBP", {"lossless": True, "exact": True}, 0),
        ("RGBA", "WEBP", {"quality": 90}, 4),
        ("RGBA", "AVIF", {"quality": 95, "subsampling": "4:4:4"}, 3),
    ],
)
def test_alpha_on_black_is_that_of_pillow(mode: str, format: str, options: dict[str, Any], most: int) -> None:
    picture = Image.fromarray(np.dstack([colour_picture(), alpha_ramp()]), "RGBA").convert(mode)
    assert difference(saved(picture, format, **options)).max() <= most
