"""Bottleneck transformer blocks: new ones change nothing, and positions matter."""

import pytest

torch = pytest.importorskip("torch")

from models.networks.backbones.bottleneck import (  # noqa: E402
    BottleneckConfig,
    BottleneckStack,
    MapAttention,
    RelativePositionLogits,
)

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

CONFIG = BottleneckConfig(width=16, inner=8, heads=2, head=4, side=3, depth=2)


def test_a_new_stack_only_rectifies_its_input() -> None:
    """The last norm of each block starts at 0, so that the residual is all there is."""
    torch.manual_seed(0)
    maps = torch.randn(2, 16, 3, 3)
    with torch.no_grad():
        torch.testing.assert_close(BottleneckStack(CONFIG).eval()(maps), maps.relu())


def test_attention_sees_the_whole_map() -> None:
    """A change in one corner reaches the opposite one."""
    torch.manual_seed(0)
    attention = MapAttention(CONFIG).eval()
    maps = torch.randn(1, 8, 3, 3)
    changed = maps.clone()
    changed[..., 0, 0] += 5
    with torch.no_grad():
        difference = (attention(maps) - attention(changed)).abs()
    assert difference.shape == (1, CONFIG.heads * CONFIG.head, 3, 3)
    assert difference[..., 2, 2].max() > 1e-4


def test_position_logits_depend_on_the_offset_alone() -> None:
    """With the same query everywhere, pairs with the same offset have the same logit."""
    torch.manual_seed(0)
    logits = RelativePositionLogits(CONFIG)(torch.ones(1, 1, 9, 4))[0, 0].view(3, 3, 3, 3)
    torch.testing.assert_close(logits[0, 0, 1, 1], logits[1, 1, 2, 2])
    torch.testing.assert_close(logits[0, 1, 2, 0], logits[0, 2, 2, 1])
    assert (logits[0, 0, 0, 1] - logits[0, 0, 1, 0]).abs() > 1e-4
