"""All measures by name."""

from collections.abc import Mapping
from types import MappingProxyType

from vqmon.media.measures.apparent_distortion import MAD
from vqmon.media.measures.feature_similarity import FSIM, FSIMC, GMSD, VSI
from vqmon.media.measures.measure import Measure
from vqmon.media.measures.no_reference.banding import CAMBI
from vqmon.media.measures.no_reference.integrated import IL_NIQE
from vqmon.media.measures.no_reference.natural_statistics import NIQE
from vqmon.media.measures.no_reference.spatial_temporal import SI, SI_PQ, TI, TI_PQ
from vqmon.media.measures.psnr import PSNR, PSNR_HVS, PSNR_HVS_M, PSNR_RGB
from vqmon.media.measures.structural_similarity import IW_SSIM, MS_SSIM, SSIM, UQI

MEASURES: Mapping[str, Measure] = MappingProxyType(
    {
        measure.name: measure
        for measure in (
            PSNR,
            PSNR_RGB,
            PSNR_HVS,
            PSNR_HVS_M,
            SSIM,
            MS_SSIM,
            IW_SSIM,
            UQI,
            GMSD,
            FSIM,
            FSIMC,
            VSI,
            MAD,
            NIQE,
            IL_NIQE,
            CAMBI,
            SI,
            TI,
            SI_PQ,
            TI_PQ,
        )
    }
)
