"""Scorers that rate crops of a picture one at a time: the network of each, and which crops it sees."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

from torch import nn

from models.export.assembly.assembly import GraphAssembly, GraphPart, PixelInput
from models.networks.backbones.pixels import IMAGENET_MEAN, IMAGENET_STD, RgbTriple
from models.networks.pictures import hyper_iqa, maniqa, musiq, topiq
from models.networks.pictures.crops import MeanOfCrops
from models.networks.pictures.db_cnn import DbCnn


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureScorer:
    """A network with the names of a published file, names in the file that it does not need, and its crops."""

    build: Callable[[], nn.Module]
    crops: PixelInput
    ignored: tuple[str, ...] = ()
    mean: RgbTriple = IMAGENET_MEAN
    std: RgbTriple = IMAGENET_STD


def _crops(side: int, *, columns: int, rows: int, short_side: int = 0) -> PixelInput:
    return PixelInput(
        name="crops", transform="grid", side=side, order="NKCHW", pictures=columns * rows, columns=columns,
        short_side=short_side,
    )  # fmt: skip


PICTURE_SCORERS: Mapping[str, PictureScorer] = MappingProxyType(
    {
        # KonIQ-10k was seen at 512 x 384 in the training of these files, at 1024 x 768 in that of MUSIQ
        "hyper_iqa": PictureScorer(
            build=hyper_iqa.HyperIqa, crops=_crops(hyper_iqa.CROP_SIDE, columns=4, rows=2, short_side=384)
        ),
        "db_cnn": PictureScorer(build=DbCnn, crops=_crops(384, columns=2, rows=1, short_side=384)),
        "musiq": PictureScorer(
            build=partial(musiq.Musiq, musiq.MusiqConfig()),
            crops=_crops(768, columns=2, rows=1, short_side=768),
            mean=musiq.MEAN,
            std=musiq.STD,
        ),
        "topiq": PictureScorer(
            build=partial(topiq.Topiq, topiq.TopiqConfig()),
            crops=_crops(384, columns=2, rows=1, short_side=384),
            ignored=topiq.IGNORED_TENSORS,
        ),
        "maniqa": PictureScorer(
            build=partial(maniqa.Maniqa, maniqa.ManiqaConfig()),
            crops=_crops(224, columns=3, rows=2),
            ignored=maniqa.IGNORED_TENSORS,
            mean=maniqa.MEAN,
            std=maniqa.STD,
        ),
    }
)
"""Name of a scorer -> its network and crops."""


def assemble_picture_scorer(name: str, network: nn.Module, *, version: int = 1) -> GraphAssembly:
    """The mean over the crops of a picture."""
    scorer = PICTURE_SCORERS[name]
    output = name.replace("_", "-")
    part = GraphPart(
        name=output, network=MeanOfCrops(network, mean=scorer.mean, std=scorer.std), takes=(scorer.crops.name,)
    )
    return GraphAssembly(name=output, version=version, inputs=(scorer.crops,), parts=(part,))
