"""Pictures made by formula, and the damages that the tests apply to them."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from vqmon.media.measures.measure import Picture


@cache
def scene(height: int = 360, width: int = 480) -> NDArray[np.uint8]:
    """(height, width, 3): gratings of several widths, discs with sharp edges, a smooth sky, fine texture, colour."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    base = 90 + 60 * y / height + 20 * np.sin(x / 17) * np.cos(y / 23)
    gratings = 35 * np.sin(x * x / (6 * width)) * (y > height * 0.55)
    texture = np.random.default_rng(7).integers(-14, 15, (height, width)) * (x > width * 0.6)
    picture = np.stack([base + gratings + texture, base + 0.8 * gratings + texture, base * 0.9 - gratings], axis=-1)
    for row, column, radius, colour in (
        (0.25, 0.3, 0.15, (220, 60, 40)),
        (0.45, 0.75, 0.12, (30, 90, 200)),
        (0.75, 0.45, 0.18, (240, 235, 225)),
    ):
        inside = (y - row * height) ** 2 + (x - column * width) ** 2 < (radius * height) ** 2
        picture[inside] = np.array(colour) + 0.3 * (picture[inside] - 120)
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def noisy(rgb: NDArray[np.uint8], amplitude: int) -> NDArray[np.uint8]:
    """Uniform noise of whole numbers up to `amplitude` on every sample."""
    noise = np.random.default_rng(11).integers(-amplitude, amplitude + 1, rgb.shape)
    return np.clip(rgb + noise, 0, 255).astype(np.uint8)


def blurred(rgb: NDArray[np.uint8], radius: int) -> NDArray[np.uint8]:
    """The mean of (2 radius + 1)^2 pixels, rounded, borders repeated."""
    padded = np.pad(rgb.astype(np.int64), ((radius + 1, radius), (radius + 1, radius), (0, 0)), mode="edge")
    sums = padded.cumsum(axis=0).cumsum(axis=1)
    side = 2 * radius + 1
    total = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    return np.rint(total / side**2).astype(np.uint8)


def blocky(rgb: NDArray[np.uint8], share: float) -> NDArray[np.uint8]:
    """Mixed with the means of its 8 x 8 blocks by `share`."""
    height, width = rgb.shape[0] // 8 * 8, rgb.shape[1] // 8 * 8
    blocks = rgb[:height, :width].reshape(height // 8, 8, width // 8, 8, 3).mean(axis=(1, 3))
    result = rgb.astype(np.float64)
    result[:height, :width] *= 1 - share
    result[:height, :width] += share * blocks.repeat(8, axis=0).repeat(8, axis=1)
    return np.rint(result).astype(np.uint8)


def pair(name: str) -> tuple[Picture, Picture]:
    """A reference and a damaged picture: "noise", "blur", "blocks" or "odd" (sizes that no scale divides)."""
    if name == "odd":
        rgb = scene(363, 485)
        return Picture(rgb), Picture(noisy(blurred(rgb, 1), 9))
    damaged = {
        "noise": lambda: noisy(scene(), 12),
        "blur": lambda: blurred(scene(), 2),
        "blocks": lambda: blocky(scene(), 0.6),
    }
    return Picture(scene()), Picture(damaged[name]())
