"""Q-Instruct: the question with which mPLUG-Owl2, tuned to describe low-level qualities, rates a picture.

Wu et al., "Q-Instruct: Improving Low-level Visual Abilities for Multi-modality Foundation Models", CVPR 2024: the score
is the probability of `good` against that of `poor` as the first word of the answer.
"""

from types import MappingProxyType

from models.networks.owl.owl import PICTURE_TOKEN
from models.networks.owl.q_align import LEVELS as _RATING_LEVELS

LEVELS = MappingProxyType({word: _RATING_LEVELS[word] for word in ("good", "poor")})
"""Word -> its token id, best first."""
LEVEL_VALUES = (1.0, 0.0)

# "USER: <picture>Rate the quality of the image. ASSISTANT:"
PROMPT = (
    *(1, 3148, 1001, 29901, 29871, PICTURE_TOKEN),
    *(390, 403, 278, 11029, 310, 278, 1967, 29889, 319, 1799, 9047, 13566, 29901),
)
"""Token ids of the LLaMA tokenizer."""
