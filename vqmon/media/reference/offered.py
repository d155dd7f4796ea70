"""All reference measures that a segment can be compared by: those of libavfilter, in numpy, then those of libvmaf."""

from collections.abc import Mapping
from types import MappingProxyType

from vqmon.media.measures.measure import Measure
from vqmon.media.measures.registry import MEASURES
from vqmon.media.reference.filters import FILTER_MEASURES, FilterMeasure
from vqmon.media.reference.libvmaf.measures import LIBVMAF_MEASURES, LibvmafMeasure

PICTURE_MEASURES: Mapping[str, Measure] = MappingProxyType(
    {
        name: measure
        for name, measure in MEASURES.items()
        if measure.needs == "reference" and name not in FILTER_MEASURES
    }
)
"""The measures in numpy, which compare RGB pictures; where libavfilter has one of that name, it is that one."""

REFERENCE_MEASURES: Mapping[str, FilterMeasure | Measure | LibvmafMeasure] = MappingProxyType(
    {**FILTER_MEASURES, **PICTURE_MEASURES, **LIBVMAF_MEASURES}
)
"""Name and facts of every reference measure."""
