"""Counted operations of mPLUG-Owl2 against those that torch counts."""

import pytest

torch = pytest.importorskip("torch")

from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from models.export.owl_streaming import head_rows, reference_logits  # noqa: E402
from models.networks.owl.exportable import FrameEncoder  # noqa: E402
from models.networks.owl.owl import OwlConfig, tiny_config  # noqa: E402
from models.verify.owl_flops import encoder_flops, language_flops, reference_language_flops  # noqa: E402
from tests.models.owl_weights import random_weights  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]


def test_operations_are_those_that_torch_counts() -> None:
    """Encoder and plain language tower of the small form, as torch counts them while they run."""
    config = tiny_config()
    encoder = FrameEncoder(config).eval().requires_grad_(requires_grad=False)
    with torch.no_grad(), FlopCounterMode(display=False) as counted:
        encoder(torch.zeros(1, 3, 448, 448, dtype=torch.uint8))
    assert counted.get_total_flops() == pytest.approx(encoder_flops(config), rel=0.01)
    weights = random_weights()
    head = head_rows(weights, [0, 1])
    picture = torch.randn(1, 65, config.language.width)
    with FlopCounterMode(display=False) as counted:
        reference_logits(weights, config, [((1, 2, 3, -200, 4), [picture])], head=head)
    tokens, head_flops = 69, 2.0 * config.language.width * config.language.vocabulary
    assert counted.get_total_flops() == pytest.approx(
        reference_language_flops(config, tokens=tokens) - tokens * head_flops, rel=0.01
    )


def test_operations_of_the_full_size_are_the_known_ones() -> None:
    """761.5 GFLOP per picture for the encoder; remembering the prefix and trimming the end saves a fifth."""
    config = OwlConfig()
    assert encoder_flops(config) / 1e9 == pytest.approx(761.5, abs=0.1)
    trimmed = language_flops(config, tokens=77, earlier=15)
    assert trimmed / reference_language_flops(config, tokens=92) == pytest.approx(0.80, abs=0.01)
