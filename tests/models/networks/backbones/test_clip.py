"""CLIP's text tower reads up to the end token, and its visual tower gives a vector per patch."""

import pytest

torch = pytest.importorskip("torch")

from models.export.assembly.published import randomize_weights  # noqa: E402
from models.networks.backbones.clip import Clip, ClipConfig  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

CONFIG = ClipConfig(
    side=64, patch=16, width=64, depth=1, text_width=64, text_depth=2, context=12, vocabulary=20, joint=8
)
END = CONFIG.vocabulary - 1


@pytest.fixture(scope="module")
def clip() -> Clip:
    torch.manual_seed(0)
    network = Clip(CONFIG)
    randomize_weights(network)
    return network.eval()


def test_tokens_after_the_end_have_no_effect(clip: Clip) -> None:
    """Padding, or anything else behind the end token, changes nothing."""
    short = torch.tensor([[18, 3, 4, END]])
    long = torch.tensor([[18, 3, 4, END, 7, 8], [18, 3, 4, END, 0, 0]])
    with torch.inference_mode():
        torch.testing.assert_close(clip.encode_text(long), clip.encode_text(short).expand(2, -1))


def test_every_token_before_the_end_counts(clip: Clip) -> None:
    """Another word, or another order, gives another vector."""
    texts = torch.tensor([[18, 3, 4, END], [18, 3, 5, END], [18, 4, 3, END]])
    with torch.inference_mode():
        vectors = clip.encode_text(texts)
    assert (vectors[0] - vectors[1]).abs().max() > 1e-3
    assert (vectors[0] - vectors[2]).abs().max() > 1e-3


def test_the_first_patch_vector_is_that_of_the_picture(clip: Clip) -> None:
    """One vector for the class token and one per patch."""
    pixels = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        vectors = clip.visual.patch_vectors(pixels)
        torch.testing.assert_close(vectors[:, 0], clip.visual(pixels))
    assert vectors.shape == (2, 1 + 16, CONFIG.joint)
