"""The contract of every measure: two pictures in, one number out, and a quality map where the formula has one.

The constants and the order of steps (downsampling, window, colour conversion, border) are those of the code that the
authors of each paper published, so that a value can be compared with values in the literature.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]
"""(height, width)."""

Needs = Literal["reference", "previous", "nothing"]
"""What a measure compares the picture with: the reference, the previous picture of the same clip, or nothing."""

_RGB_TO_GRAY = np.array([0.298936021293775, 0.587043074451121, 0.114020904255103], np.float32)
_STRIP_ROWS = 16


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture and the planes that several measures take from it, each computed once.

    `rgb` is (height, width, 3) uint8, full range, with the transfer function of SDR video left on.
    Raises ValueError for any other shape or type.
    """

    rgb: NDArray[np.uint8]

    def __post_init__(self) -> None:
        if self.rgb.dtype != np.uint8 or self.rgb.ndim != 3 or self.rgb.shape[2] != 3:
            raise ValueError(
                f"a picture must be a (height, width, 3) array of uint8 RGB, not {self.rgb.shape} of {self.rgb.dtype}"
            )

    @cached_property
    def luma(self) -> Plane:
        """(height, width), whole numbers 0..255: BT.601 luma of the RGB picture, rounded, as MATLAB's `rgb2gray`."""
        luma = np.empty(self.rgb.shape[:2], np.float32)
        term = np.empty((_STRIP_ROWS, self.width), np.float32)
        # in strips, so that what is computed stays in the cache
        for top in range(0, self.height, _STRIP_ROWS):
            pixels, strip = self.rgb[top : top + _STRIP_ROWS], luma[top : top + _STRIP_ROWS]
            np.multiply(pixels[..., 0], _RGB_TO_GRAY[0], out=strip)
            for channel in (1, 2):
                strip += np.multiply(pixels[..., channel], _RGB_TO_GRAY[channel], out=term[: len(strip)])
            np.rint(strip, out=strip)
        return luma

    @property
    def height(self) -> int:
        return int(self.rgb.shape[0])

    @property
    def width(self) -> int:
        return int(self.rgb.shape[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One measure as data, with its functions.

    `value` takes (compared, picture): `compared` is what `needs` names; measures that need nothing get `picture` twice.
    `low` and `high` bound the native scale, `high` is reached by identical pictures where higher is better; None where
    there is no bound. `higher_is_better` is None where neither is. `local_map`, if any, gives a map of the local
    values, near 1 where quality is kept.
    """

    name: str
    description: str
    unit: str
    low: float | None
    high: float | None
    higher_is_better: bool | None
    needs: Needs
    source: str
    min_side_px: int = 64
    value: Callable[[Picture, Picture], float]
    local_map: Callable[[Picture, Picture], Plane] | None = None

    def compute(self, compared: Picture | None, picture: Picture) -> float:
        """The measure of `picture` on its native scale.

        Raises ValueError when the pictures differ in size, when a side is below `min_side_px`, or when what `needs`
        names is missing.
        """
        return self.value(self._checked(compared, picture), picture)

    def quality_map(self, compared: Picture | None, picture: Picture) -> Plane:
        """Local quality, (height, width) float32 at the pictures' size: 1 where nothing is lost, less with damage.

        Raises ValueError as `compute` does, and for a measure without a map.
        """
        if self.local_map is None:
            raise ValueError(f"the measure {self.name} has no quality map: ask a measure whose `local_map` is set")
        local = self.local_map(self._checked(compared, picture), picture)
        return _stretched(local, height=picture.height, width=picture.width)

    def _checked(self, compared: Picture | None, picture: Picture) -> Picture:
        if min(picture.height, picture.width) < self.min_side_px:
            raise ValueError(
                f"the measure {self.name} needs pictures of at least {self.min_side_px} x {self.min_side_px} pixels, "
                f"not {picture.width} x {picture.height}: leave it out or compare at a larger size"
            )
        if self.needs == "nothing":
            return picture
        if compared is None:
            raise ValueError(f"the measure {self.name} compares two pictures: give it the {self.needs} picture too")
        if compared.rgb.shape != picture.rgb.shape:
            raise ValueError(
                f"the measure {self.name} needs two pictures of one size, not {compared.width} x {compared.height} "
                f"and {picture.width} x {picture.height}: resize one of them"
            )
        return compared


def _stretched(local: Plane, *, height: int, width: int) -> Plane:
    """The map at the size of the picture, nearest neighbour, centred: each side covers the whole picture."""
    rows = np.minimum((np.arange(height) * local.shape[0]) // height, local.shape[0] - 1)
    columns = np.minimum((np.arange(width) * local.shape[1]) // width, local.shape[1] - 1)
    stretched: Plane = local[rows[:, None], columns[None, :]].astype(np.float32, copy=False)
    return stretched
