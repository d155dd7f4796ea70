"""SlowFast against recorded outputs of its published code."""

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from models.networks.backbones.slowfast import NOT_IN_FAST_PATHWAY, FastPathway, SlowFast, SlowFastConfig  # noqa: E402
from models.weights import WeightsError, check_state_dict, state_dict_shapes  # noqa: E402
from tests.models.rich_goldens import RichGoldens, fill, near, near_stats  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

NAME = "slowfast_r50"


def clip(goldens: RichGoldens, case: int) -> Any:
    seed = goldens.manifest[NAME]["seeds"]["slowfast"][case]
    return goldens.clip(seed, 32, 224)[None]


@pytest.fixture(scope="module")
def weights(rich_goldens: RichGoldens) -> dict[str, Any]:
    return rich_goldens.weights(rich_goldens.shapes(NAME))


@pytest.fixture(scope="module")
def network(weights: dict[str, Any]) -> SlowFast:
    net = SlowFast(SlowFastConfig())
    fill(net, weights)
    return net


@pytest.mark.fixtures
def test_names_are_the_published_ones(rich_goldens: RichGoldens, network: SlowFast) -> None:
    """Every tensor, no more and no fewer, of the published shapes."""
    ours = {name: shape for name, shape in state_dict_shapes(network).items() if not name.endswith("tracked")}
    assert ours == rich_goldens.shapes(NAME)
    with torch.device("meta"):
        fast = FastPathway(SlowFastConfig())
    check_state_dict(
        rich_goldens.shapes(NAME),
        state_dict_shapes(fast),
        optional=("*.num_batches_tracked",),
        ignored=NOT_IN_FAST_PATHWAY,
    )
    with pytest.raises(WeightsError, match=r"1 missing: blocks\.0\.multipathway_blocks\.1\.conv\.weight"):
        check_state_dict(
            {k: v for k, v in rich_goldens.shapes(NAME).items() if k != "blocks.0.multipathway_blocks.1.conv.weight"},
            state_dict_shapes(fast), optional=("*.num_batches_tracked",), ignored=NOT_IN_FAST_PATHWAY,
        )  # fmt: skip


@pytest.mark.fixtures
def test_every_level_equals_the_published_code(rich_goldens: RichGoldens, network: SlowFast) -> None:
    """Both pathways after each level, pooled features and class scores."""
    archive = rich_goldens.archive(NAME)
    with torch.inference_mode():
        pixels = (clip(rich_goldens, 0) / 255 - 0.45) / 0.225
        after = network.pathways(pixels[:, :, network.slow_frames], pixels)
        for at, level in enumerate(after):
            for which, actual in zip(("slow", "fast"), level, strict=True):
                key = f"in0.block{at}.{which}"
                _, wide, long, high, _ = actual.shape
                steps = (max(1, wide // 16), max(1, long // 4), max(1, high // 3), max(1, high // 4))
                near(actual[0, :: steps[0], :: steps[1], :: steps[2], :: steps[3]], archive[f"{key}.slice"])
                near_stats(actual, archive[f"{key}.stats"])
        slow, fast = (each.mean((2, 3, 4)) for each in after[-1])
        near(slow, archive["in0.slow"])
        near(fast, archive["in0.fast"])
        near(network.class_logits(torch.cat([slow, fast], dim=1)), archive["in0.logits400"])


@pytest.mark.fixtures
@pytest.mark.parametrize("case", [0, 1])
def test_the_fast_pathway_alone_is_exact(rich_goldens: RichGoldens, weights: dict[str, Any], case: int) -> None:
    """From pixels to 256 features, without any tensor of the slow pathway."""
    net = FastPathway(SlowFastConfig())
    fill(net, {name: weights[name] for name in state_dict_shapes(net) if name in weights})
    with torch.inference_mode():
        near(net(clip(rich_goldens, case)), rich_goldens.archive(NAME)[f"in{case}.fast"])


@pytest.mark.fixtures
def test_features_come_slow_first(rich_goldens: RichGoldens, network: SlowFast) -> None:
    """From pixels to 2304 features."""
    archive = rich_goldens.archive(NAME)
    with torch.inference_mode():
        actual = network(clip(rich_goldens, 1))
    near(actual[:, :2048], archive["in1.slow"])
    near(actual[:, 2048:], archive["in1.fast"])
