"""All measures by name."""

from collections.abc import Mapping
from types import MappingProxyType

from vqmon.media.measures.feature_similarity import GMSD
from vqmon.media.measures.measure import Measure
from vqmon.media.measures.psnr import PSNR, PSNR_RGB
from vqmon.media.measures.structural_similarity import MS_SSIM, SSIM

MEASURES: Mapping[str, Measure] = MappingProxyType(
    {measure.name: measure for measure in (PSNR, PSNR_RGB, SSIM, MS_SSIM, GMSD)}
)
