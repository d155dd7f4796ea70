"""HyperIQA, DB-CNN, MUSIQ, TOPIQ and MANIQA against recorded scores of their published code."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from models.networks.backbones.pixels import IMAGENET_MEAN, IMAGENET_STD  # noqa: E402
from models.networks.pictures import maniqa, musiq, topiq  # noqa: E402
from models.networks.pictures.crops import MeanOfCrops  # noqa: E402
from models.networks.pictures.db_cnn import DbCnn  # noqa: E402
from models.networks.pictures.hyper_iqa import HyperIqa  # noqa: E402
from tests.models.networks.pictures.recorded import SCORES, fill, names_checksum, pictures  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

DEPTHS = (1, 1, 1, 1)
IMAGENET = (IMAGENET_MEAN, IMAGENET_STD)
HALF = (musiq.MEAN, musiq.STD)
CASES: Mapping[str, tuple[Callable[[], Any], tuple[int, int], Any]] = {
    "hyper_iqa": (lambda: HyperIqa(DEPTHS), (224, 224), IMAGENET),
    "db_cnn": (DbCnn, (48, 64), IMAGENET),
    "musiq": (
        lambda: musiq.Musiq(musiq.MusiqConfig(width=48, hidden=64, heads=3, depth=2)), (96, 150), HALF,
    ),
    "topiq": (lambda: topiq.Topiq(topiq.TopiqConfig(depths=DEPTHS, width=32)), (64, 96), IMAGENET),
    "maniqa": (
        lambda: maniqa.Maniqa(maniqa.ManiqaConfig(side=64, width=48, vit_heads=4, hidden=32)), (64, 64), HALF,
    ),
}  # fmt: skip
"""Network -> how to build it small, the size of the pictures, and their normalisation."""


@pytest.mark.parametrize("name", CASES)
def test_scores_and_names_equal_those_of_the_published_code(name: str) -> None:
    """Two pictures: the scores differ, so a part that the network skips would show."""
    build, size, (mean, std) = CASES[name]
    network = fill(build())
    with torch.inference_mode():
        scores = network(pictures(*size, mean=mean, std=std))
    expected = torch.tensor(SCORES[name]["scores"])
    assert float((scores - expected).abs().max() / expected.abs().max()) < 1e-4
    assert float((expected[0] - expected[1]).abs() / expected.abs().max()) > 5e-3
    assert names_checksum(network) == SCORES[name]["names"]


def test_the_score_of_a_picture_is_the_mean_of_its_crops() -> None:
    """Of pixels that each crop is normalised from."""

    class Brightness(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gain = torch.nn.Parameter(torch.ones(()))

        def forward(self, pixels: Any) -> Any:
            return pixels.mean((1, 2, 3)) * self.gain

    crops = torch.tensor([[0, 255], [51, 153]], dtype=torch.uint8)[:, :, None, None, None].expand(2, 2, 3, 4, 4)
    scores = MeanOfCrops(Brightness(), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))(crops)
    assert scores.tolist() == pytest.approx([0, -0.2], abs=1e-6)
