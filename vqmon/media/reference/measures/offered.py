"""The measures that `scoring.references` and `scoring.measures` may name."""

from collections.abc import Mapping
from types import MappingProxyType

from vqmon.media.measures.measure import Measure
from vqmon.media.measures.registry import MEASURES
from vqmon.media.reference.libvmaf.measures import LIBVMAF_MEASURES, LibvmafMeasure
from vqmon.media.reference.measures.filters import FILTER_MEASURES, FilterMeasure

PICTURE_MEASURES: Mapping[str, Measure] = MappingProxyType(
    {
        name: measure
        for name, measure in MEASURES.items()
        if measure.needs != "previous" and measure.higher_is_better is not None
        if name not in FILTER_MEASURES and name not in LIBVMAF_MEASURES
    }
)
"""The measures in numpy, of RGB pictures; where libavfilter or libvmaf has one of that name, it is that one.

`niqe` and `il_niqe` take the segment's picture alone. Those that say neither better nor worse (`si`) are left out.
"""

REFERENCE_MEASURES: Mapping[str, FilterMeasure | Measure | LibvmafMeasure] = MappingProxyType(
    {**FILTER_MEASURES, **PICTURE_MEASURES, **LIBVMAF_MEASURES}
)
"""Name and facts of every measure of `scoring.references`: of libavfilter, in numpy, then of libvmaf."""

ALONE_MEASURES: Mapping[str, Measure] = MappingProxyType(
    {name: measure for name, measure in MEASURES.items() if measure.needs != "reference"}
)
"""Name and facts of every measure of `scoring.measures`, which need no reference."""
