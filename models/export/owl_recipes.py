"""The recipes of Q-Align, its variants and Compare2Score: prompts, levels, tasks and anchors."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations

import numpy as np
import torch
from torch import Tensor

from models.export.graphs import Weights
from models.export.owl import LevelScorerRecipe, ScorerPrompt
from models.export.owl_streaming import head_rows, load_encoder, reference_logits
from models.export.pair import ManifestFacts
from models.networks.owl import compare2score, q_align, q_instruct
from models.networks.owl.owl import OwlConfig
from vqmon.scoring.manifests.level_scorer import Comparisons, TaskSpec


def q_align_recipe(facts: ManifestFacts, *, config: OwlConfig, version: int = 1) -> LevelScorerRecipe:
    """Three tasks with one question each; a clip is one sequence of 1..31 frames."""
    return LevelScorerRecipe(
        name="q-align",
        version=version,
        config=config,
        prompts=tuple(ScorerPrompt(ids=ids) for ids in q_align.PROMPTS.values()),
        tasks=tuple(
            TaskSpec(
                name=name,
                questions=(index,),
                least_frames=1,
                most_frames=q_align.MAX_FRAMES if name == "video" else 1,
            )
            for index, name in enumerate(q_align.PROMPTS)
        ),
        levels=q_align.LEVELS,
        values=q_align.LEVEL_VALUES,
        temperature=1.0,
        comparisons=None,
        facts=facts,
    )


def deqa_score_recipe(facts: ManifestFacts, *, config: OwlConfig, version: int = 1) -> LevelScorerRecipe:
    """Q-Align's question on the quality of a picture and its levels; only the training differs (You et al., "Teaching
    Large Language Models to Regress Accurate Image Quality Scores Using Score Distribution", CVPR 2025)."""
    recipe = q_align_recipe(facts, config=config, version=version)
    return replace(recipe, name="deqa-score", prompts=recipe.prompts[:1], tasks=recipe.tasks[:1])


def q_instruct_recipe(facts: ManifestFacts, *, config: OwlConfig, version: int = 1) -> LevelScorerRecipe:
    """One question on a picture, answered by `good` or `poor`."""
    return replace(
        deqa_score_recipe(facts, config=config, version=version),
        name="q-instruct",
        prompts=(ScorerPrompt(ids=q_instruct.PROMPT),),
        levels=q_instruct.LEVELS,
        values=q_instruct.LEVEL_VALUES,
    )


def compare2score_recipe(
    facts: ManifestFacts,
    anchors: Sequence[Tensor],
    weights: Weights,
    *,
    config: OwlConfig,
    published: bool,
    version: int = 1,
) -> LevelScorerRecipe:
    """Two tasks: a picture against all anchors, and a pair of any two pictures.

    `anchors` are pictures (3, 448, 448) uint8, worst first. For the published anchors (`published`) the published
    matrix is used; other anchors are compared with one another by the network.
    """
    encoder = load_encoder(weights, config)
    with torch.inference_mode():
        features = [encoder(anchor[None])[0] for anchor in anchors]
    matrix = compare2score.ANCHOR_MATRIX if published else _compare_anchors(features, weights, config=config)
    count = len(anchors)
    anchor_prompts = [ScorerPrompt(ids=compare2score.PROMPT, fixed_pictures=(picture,)) for picture in features]
    return LevelScorerRecipe(
        name="compare2score",
        version=version,
        config=config,
        prompts=(*anchor_prompts, ScorerPrompt(ids=compare2score.PROMPT)),
        tasks=(
            TaskSpec(name="anchors", questions=tuple(range(count)), least_frames=1, most_frames=1),
            TaskSpec(name="pair", questions=(count,), least_frames=2, most_frames=2),
        ),
        levels=compare2score.LEVELS,
        values=compare2score.LEVEL_WEIGHTS,
        temperature=compare2score.TEMPERATURE,
        comparisons=Comparisons(anchor_matrix=tuple(map(tuple, matrix.tolist())), link="logistic"),
        facts=facts,
    )


def _compare_anchors(features: Sequence[Tensor], weights: Weights, *, config: OwlConfig) -> compare2score.Matrix:
    count = len(features)
    pairs = list(permutations(range(count), 2))
    prompts = [(compare2score.PROMPT, [features[first][None], features[second][None]]) for first, second in pairs]
    head = head_rows(weights, list(compare2score.LEVELS.values()))
    logits = np.zeros((count, count, len(compare2score.LEVELS)), dtype=np.float32)
    for (first, second), pair_logits in zip(pairs, reference_logits(weights, config, prompts, head=head), strict=True):
        logits[first, second] = pair_logits.numpy()
    return compare2score.anchor_matrix(logits)
