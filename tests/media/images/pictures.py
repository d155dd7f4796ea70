"""Photos with impairments of known strength."""

import numpy as np
from numpy.typing import NDArray
from skimage import data, transform

from vqmon.core.types import SIGNALS
from vqmon.media.images.resampling import YuvPlanes
from vqmon.media.images.signals.meter import SignalMeter

Picture = NDArray[np.float64]


def photo(name: str = "astronaut") -> Picture:
    """A photo's luma in limited range, 960 x 540."""
    picture = getattr(data, name)().astype(float)
    grey = picture[..., :3].mean(axis=-1) if picture.ndim == 3 else picture
    return 16 + transform.resize(grey, (540, 960), order=3, anti_aliasing=True, preserve_range=True) * 219 / 255


def planes(picture: Picture, *, is_full: bool = False) -> YuvPlanes:
    y = np.clip(np.rint(picture), 0, 255).astype(np.uint8)
    grey = np.full((y.shape[0] // 2, y.shape[1] // 2), 128, np.uint8)
    return YuvPlanes(y, grey, grey, is_full)


def measure_last(*pictures: Picture) -> dict[str, float]:
    """The signals of the last of some pictures, without those of consecutive frames."""
    meter = SignalMeter(SIGNALS)
    values: dict[str, float | None] = {}
    for picture in pictures:
        values = meter.measure(planes(picture), damaged_share=0.0)
    return {name: value for name, value in values.items() if value is not None}
