"""Similarity of local features: gradient magnitude (GMSD), phase congruency (FSIM, FSIMc), visual saliency (VSI).

measure   formula and source
gmsd      Xue, Zhang, Mou, Bovik, "Gradient magnitude similarity deviation", IEEE TIP 23(2), 2014: luma halved by 2 x 2
          means, Prewitt gradients, T = 170, sample standard deviation of the similarity map; 0 is best.
fsim      Zhang, Zhang, Mou, Zhang, "FSIM: a feature similarity index for image quality assessment", IEEE TIP 20(8),
          2011: the similarities of phase congruency (T1 = 0.85) and of Scharr gradients (T2 = 160) of Y of YIQ, at the
          size where the short side is about 256, weighted by the larger phase congruency. Phase congruency after
          Kovesi, Videre 1(3), 1999: 4 scales from wavelength 6, 4 orientations, noise threshold mean + 2 deviations.
fsimc     the same with the similarities of I and Q (T3 = T4 = 200) to the power 0.03.
vsi       Zhang, Shen, Li, "VSI: a visual saliency-induced index for perceptual image quality assessment", IEEE TIP
          23(10), 2014: the similarities of saliency (1.27), gradient (386, power 0.4) and the opponent colours M and N
          (130, power 0.02), weighted by the larger saliency. Saliency by SDSP (Zhang, Gu, Li, ICIP 2013): a log-Gabor
          filter on L*a*b*, nearness to the middle, warm colours, on 256 x 256 pixels.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from vqmon.media.measures.filters import angular_distance, block_means, resize
from vqmon.media.measures.measure import Measure, Picture, Plane

_GMSD_T = np.float32(170)
_PHASE_T = np.float32(0.85)
_FSIM_GRADIENT_T = np.float32(160)
_FSIM_COLOUR_T = np.float32(200)
_FSIM_COLOUR_POWER = 0.03
_VSI_SALIENCY_T = np.float32(1.27)
_VSI_GRADIENT_T = np.float32(386)
_VSI_GRADIENT_POWER = np.float32(0.4)
_VSI_COLOUR_T = np.float32(130)
_VSI_COLOUR_POWER = 0.02
_WORKING_SIDE = 256
_PHASE_SCALES = 4
_PHASE_ORIENTATIONS = 4
_RGB_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]], np.float32)
_RGB_TO_LMN = np.array([[0.06, 0.63, 0.27], [0.30, 0.04, -0.35], [0.34, -0.60, 0.17]], np.float32)
_RGB_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
_WHITE_D50 = np.array([0.9642, 1.0, 0.8251])


def _gmsd_map(reference: Picture, distorted: Picture) -> Plane:
    x, y = (_gradient(block_means(picture.luma, 2), side=1 / 3, middle=1 / 3) for picture in (reference, distorted))
    return _similarity(x, y, _GMSD_T)


def _similarity(x: Plane, y: Plane, constant: np.float32) -> Plane:
    """(2xy + c) / (x^2 + y^2 + c)."""
    products, powers = x * y, x * x + y * y
    products += products + constant
    powers += constant
    products /= powers
    return products


def _gradient(plane: Plane, *, side: float, middle: float) -> Plane:
    """Magnitude of differences over two pixels, smoothed by (side, middle, side), with zeros beyond the border."""
    padded = np.pad(plane, 1)
    outer, inner = np.float32(side), np.float32(middle)
    across, down = padded[:, 2:] - padded[:, :-2], padded[2:] - padded[:-2]
    x = (across[:-2] + across[2:]) * outer + across[1:-1] * inner
    y = (down[:, :-2] + down[:, 2:]) * outer + down[:, 1:-1] * inner
    magnitude: Plane = np.sqrt(x * x + y * y)
    return magnitude


def _scharr(plane: Plane) -> Plane:
    return _gradient(plane, side=3 / 16, middle=10 / 16)


def _reduced_planes(picture: Picture, matrix: NDArray[np.float32]) -> list[Plane]:
    """The three planes of `matrix @ RGB`, averaged to a short side of about 256 pixels."""
    factor = _reduction(picture)
    rgb = [block_means(picture.rgb[..., channel].astype(np.float32), factor) for channel in range(3)]
    return [row[0] * rgb[0] + row[1] * rgb[1] + row[2] * rgb[2] for row in matrix]


def _reduction(picture: Picture) -> int:
    """How many pixels are averaged into one, in each direction."""
    return max(1, math.floor(min(picture.height, picture.width) / _WORKING_SIDE + 0.5))


def _colour_similarity(x: list[Plane], y: list[Plane], constant: np.float32, power: float) -> Plane:
    """The product of the similarities of both colour planes to a power; of a negative one, the real part."""
    product = _similarity(x[1], y[1], constant) * _similarity(x[2], y[2], constant)
    powers: Plane = np.abs(product) ** np.float32(power)
    powers[product < 0] *= np.float32(math.cos(math.pi * power))
    return powers


def _weighted_mean(values: Plane, weights: Plane) -> float:
    """Without any weight (two flat pictures), the plain mean."""
    total = float(weights.sum(dtype=np.float64))
    if total <= 0:
        return float(values.mean(dtype=np.float64))
    return float((values * weights).sum(dtype=np.float64)) / total


def _fsim_terms(reference: Picture, distorted: Picture) -> tuple[Plane, Plane, Plane]:
    """The maps of the luma similarity, of the colour similarity and of the weight."""
    x, y = (_reduced_planes(picture, _RGB_TO_YIQ) for picture in (reference, distorted))
    phase_x, phase_y = _phase_congruency(x[0]), _phase_congruency(y[0])
    similarity = _similarity(phase_x, phase_y, _PHASE_T)
    similarity *= _similarity(_scharr(x[0]), _scharr(y[0]), _FSIM_GRADIENT_T)
    return (
        similarity,
        _colour_similarity(x, y, _FSIM_COLOUR_T, _FSIM_COLOUR_POWER),
        np.maximum(phase_x, phase_y),
    )


def _fsim(reference: Picture, distorted: Picture) -> float:
    similarity, _, weight = _fsim_terms(reference, distorted)
    return _weighted_mean(similarity, weight)


def _fsimc(reference: Picture, distorted: Picture) -> float:
    similarity, colour, weight = _fsim_terms(reference, distorted)
    return _weighted_mean(similarity * colour, weight)


def _fsimc_map(reference: Picture, distorted: Picture) -> Plane:
    similarity, colour, _ = _fsim_terms(reference, distorted)
    return similarity * colour


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _PhaseFilters:
    """Log-Gabor filters in the frequency domain, by orientation and scale, with what the noise estimate needs."""

    filters: list[list[Plane]]
    energies: list[float]
    """Sum of the squared filter of the smallest scale, per orientation."""
    noise_sums: list[float]
    """Of the real impulse responses, per orientation: 2 x sum of squares + 4 x sum of products of two scales."""


@lru_cache(maxsize=4)
def _phase_filters(height: int, width: int) -> _PhaseFilters:
    y, x = np.meshgrid(_frequencies(height), _frequencies(width), indexing="ij")
    radius = np.hypot(x, y)
    radius[0, 0] = 1
    low_pass = 1 / (1 + (radius / 0.45) ** 30)
    low_pass[0, 0] = 0
    radial = [
        low_pass * np.exp(-(np.log(radius * 6 * 2**scale) ** 2) / (2 * math.log(0.55) ** 2))
        for scale in range(_PHASE_SCALES)
    ]
    deviation = math.pi / _PHASE_ORIENTATIONS / 1.2
    filters, energies, noise_sums = [], [], []
    for orientation in range(_PHASE_ORIENTATIONS):
        angle = orientation * math.pi / _PHASE_ORIENTATIONS
        spread = np.exp(-(angular_distance(x, y, angle) ** 2) / (2 * deviation**2))
        bank = [part * spread for part in radial]
        even = [(part + np.roll(part[::-1, ::-1], (1, 1), (0, 1))) / 2 for part in bank]
        total = np.sum(even, axis=0)
        squares = sum(float((part**2).sum()) for part in even)
        filters.append([part.astype(np.float32) for part in bank])
        energies.append(float((bank[0] ** 2).sum()))
        noise_sums.append(2 * squares + 2 * (float((total**2).sum()) - squares))
    return _PhaseFilters(filters=filters, energies=energies, noise_sums=noise_sums)


def _frequencies(size: int) -> NDArray[np.float64]:
    """In cycles per pixel, in the order of the FFT; an odd size is divided by size - 1, as in Kovesi's code."""
    frequencies: NDArray[np.float64] = np.fft.ifftshift(np.arange(size) - size // 2) / (size - size % 2)
    return frequencies


def _phase_congruency(plane: Plane) -> Plane:
    """0..1 per pixel: how well the phases of the scales agree, less what noise of the picture's level would give."""
    bank = _phase_filters(*plane.shape)
    spectrum = np.fft.fft2(plane)
    energy, amplitude = np.zeros_like(plane), np.zeros_like(plane)
    for filters, filter_energy, noise_sum in zip(bank.filters, bank.energies, bank.noise_sums, strict=True):
        responses = [np.fft.ifft2(spectrum * part) for part in filters]
        total = np.sum(responses, axis=0)
        total /= np.abs(total) + np.float32(1e-4)
        along = np.zeros_like(plane)
        for response in responses:
            aligned = response * total.conj()
            along += aligned.real - np.abs(aligned.imag)
            amplitude += np.abs(response)
        smallest = responses[0]
        power = float(np.median(smallest.real**2 + smallest.imag**2)) / math.log(2) / filter_energy
        rayleigh = math.sqrt(power * noise_sum / 2)
        threshold = rayleigh * (math.sqrt(math.pi / 2) + 2 * math.sqrt(2 - math.pi / 2)) / 1.7
        energy += np.maximum(along - np.float32(threshold), 0)
    energy /= np.maximum(amplitude, np.finfo(np.float32).tiny)
    return energy


def _vsi_terms(reference: Picture, distorted: Picture) -> tuple[Plane, Plane]:
    """The maps of the similarity and of the weight."""
    x, y = (_reduced_planes(picture, _RGB_TO_LMN) for picture in (reference, distorted))
    saliency_x, saliency_y = (
        block_means(_saliency(picture), _reduction(picture)) for picture in (reference, distorted)
    )
    similarity = _similarity(_scharr(x[0]), _scharr(y[0]), _VSI_GRADIENT_T) ** _VSI_GRADIENT_POWER
    similarity *= _similarity(saliency_x, saliency_y, _VSI_SALIENCY_T)
    similarity *= _colour_similarity(x, y, _VSI_COLOUR_T, _VSI_COLOUR_POWER)
    return similarity, np.maximum(saliency_x, saliency_y)


def _saliency(picture: Picture) -> Plane:
    """SDSP saliency at the picture's size, 0..1."""
    size = _WORKING_SIDE
    rgb = np.stack(
        [resize(picture.rgb[..., channel].astype(np.float32), height=size, width=size) for channel in range(3)],
        axis=-1,
    )
    lab = _rgb_to_lab(rgb)
    band = np.fft.ifft2(np.fft.fft2(lab, axes=(0, 1)) * _saliency_filter()[..., None], axes=(0, 1)).real
    offset = np.arange(1, size + 1) - size / 2
    nearness = np.exp(-(offset[:, None] ** 2 + offset[None, :] ** 2) / 145**2)
    warmth = sum(_stretch_range(lab[..., channel]) ** 2 for channel in (1, 2))
    saliency = np.sqrt((band**2).sum(axis=-1)) * nearness * (1 - np.exp(-warmth / 0.001**2))
    enlarged = resize(saliency.astype(np.float32), height=picture.height, width=picture.width)
    return _stretch_range(enlarged)


def _stretch_range(plane: NDArray[np.floating]) -> NDArray[np.float32]:
    """From its own smallest and largest value to 0..1; zeros for a flat plane."""
    low, high = plane.min(), plane.max()
    if high <= low:
        return np.zeros(plane.shape, np.float32)
    stretched: Plane = ((plane - low) / (high - low)).astype(np.float32)
    return stretched


@lru_cache(maxsize=1)
def _saliency_filter() -> NDArray[np.float64]:
    frequency = np.fft.fftfreq(_WORKING_SIDE)
    radius = np.hypot(frequency[:, None], frequency[None, :])
    radius[0, 0] = 1
    band = np.exp(-(np.log(radius / 0.021) ** 2) / (2 * 1.34**2))
    band[radius > 0.5] = 0
    return np.asarray(band)


def _rgb_to_lab(rgb: NDArray[np.float32]) -> NDArray[np.float64]:
    """From sRGB, 0..255, to L*a*b* of white D50."""
    share = np.clip(rgb.astype(np.float64) / 255, 0, 1)
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    xyz = linear @ _RGB_TO_XYZ.T / _WHITE_D50
    f = np.where(xyz > 0.008856, np.cbrt(xyz), (903.3 * xyz + 16) / 116)
    lab = [116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])]
    return np.stack(lab, axis=-1)


GMSD = Measure(
    name="gmsd",
    description="deviation of the similarity of gradient magnitudes of luma",
    unit="",
    low=0,
    high=None,
    higher_is_better=False,
    needs="reference",
    source="Xue et al., IEEE TIP 23(2), 2014",
    value=lambda reference, distorted: float(_gmsd_map(reference, distorted).std(ddof=1, dtype=np.float64)),
    local_map=_gmsd_map,
)
FSIM = Measure(
    name="fsim",
    description="similarity of phase congruency and gradient of luma",
    unit="",
    low=0,
    high=1,
    higher_is_better=True,
    needs="reference",
    source="Zhang et al., IEEE TIP 20(8), 2011",
    value=_fsim,
    local_map=lambda reference, distorted: _fsim_terms(reference, distorted)[0],
)
FSIMC = Measure(
    name="fsimc",
    description="similarity of phase congruency, gradient and colour",
    unit="",
    low=0,
    high=1,
    higher_is_better=True,
    needs="reference",
    source="Zhang et al., IEEE TIP 20(8), 2011",
    value=_fsimc,
    local_map=_fsimc_map,
)
VSI = Measure(
    name="vsi",
    description="similarity of saliency, gradient and colour, weighted by saliency",
    unit="",
    low=0,
    high=1,
    higher_is_better=True,
    needs="reference",
    source="Zhang, Shen and Li, IEEE TIP 23(10), 2014",
    value=lambda reference, distorted: _weighted_mean(*_vsi_terms(reference, distorted)),
    local_map=lambda reference, distorted: _vsi_terms(reference, distorted)[0],
)
