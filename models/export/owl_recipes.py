"""What makes Q-Align and Compare2Score of a checkpoint: prompts, levels, tasks, anchors."""

from collections.abc import Sequence
from itertools import permutations

import numpy as np
import torch
from torch import Tensor

from models.export.graphs import Weights
from models.export.owl import Prompt, Recipe
from models.export.owl_streaming import encoder_of, head_of, plain_logits
from models.export.pair import Facts
from models.networks.owl import compare2score, q_align
from models.networks.owl.owl import OwlConfig
from vqmon.scoring.manifests.level_scorer import Comparisons, TaskSpec


def q_align_recipe(facts: Facts, *, config: OwlConfig, version: int = 1) -> Recipe:
    """Three tasks, one question each; a clip is one sequence of 1..31 frames."""
    return Recipe(
        name="q-align",
        version=version,
        config=config,
        prompts=tuple(Prompt(ids=ids) for ids in q_align.PROMPTS.values()),
        tasks=tuple(
            TaskSpec(
                name=name,
                questions=(at,),
                least_frames=1,
                most_frames=q_align.MOST_FRAMES if name == "video" else 1,
            )
            for at, name in enumerate(q_align.PROMPTS)
        ),
        levels=q_align.LEVELS,
        values=q_align.ONE_TO_FIVE,
        temperature=1.0,
        comparisons=None,
        facts=facts,
    )


def compare2score_recipe(
    facts: Facts, anchors: Sequence[Tensor], weights: Weights, *, config: OwlConfig, published: bool, version: int = 1
) -> Recipe:
    """Against anchors (3, 448, 448) uint8, worst first, and pairs of any two pictures.

    Of the `published` anchors the published matrix is used; other anchors are compared with one another here.
    """
    encoder = encoder_of(weights, config)
    with torch.inference_mode():
        features = [encoder(anchor[None])[0] for anchor in anchors]
    matrix = compare2score.ANCHOR_MATRIX if published else _own_matrix(features, weights, config=config)
    count = len(anchors)
    known = [Prompt(ids=compare2score.PROMPT, known=(each,)) for each in features]
    return Recipe(
        name="compare2score",
        version=version,
        config=config,
        prompts=(*known, Prompt(ids=compare2score.PROMPT)),
        tasks=(
            TaskSpec(name="anchors", questions=tuple(range(count)), least_frames=1, most_frames=1),
            TaskSpec(name="pair", questions=(count,), least_frames=2, most_frames=2),
        ),
        levels=compare2score.LEVELS,
        values=compare2score.WEIGHTS,
        temperature=compare2score.TEMPERATURE,
        comparisons=Comparisons(anchor_matrix=tuple(map(tuple, matrix.tolist())), link="logistic"),
        facts=facts,
    )


def _own_matrix(features: Sequence[Tensor], weights: Weights, *, config: OwlConfig) -> compare2score.Matrix:
    count = len(features)
    pairs = list(permutations(range(count), 2))
    asked = [(compare2score.PROMPT, [features[first][None], features[second][None]]) for first, second in pairs]
    head = head_of(weights, list(compare2score.LEVELS.values()))
    logits = np.zeros((count, count, len(compare2score.LEVELS)), dtype=np.float32)
    for (first, second), said in zip(pairs, plain_logits(weights, config, asked, head=head), strict=True):
        logits[first, second] = said.numpy()
    return compare2score.anchor_matrix(logits)
