"""Verifies an exported level scorer: hashes, operators, golden outputs, clip lengths, batches, agreement with torch."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
import torch

from models.export import graphs
from models.export.graphs import FORBIDDEN_OPERATORS, Weights
from models.export.owl import LevelScorerRecipe, encode_pictures, fill_pictures
from models.export.owl_streaming import head_rows, reference_logits
from models.verify.owl_runner import COMPUTE_OPERATORS, Features, LevelScorerRunner, Logits, expected_levels
from models.verify.pair import VerifyError
from vqmon.core.types import Pixels
from vqmon.scoring.manifests.frame_scorer import golden_frames
from vqmon.scoring.manifests.level_scorer import GraphSpec, LevelScorerSpec, TaskSpec, load_level_spec

_CPU_PROVIDER = "CPUExecutionProvider"
_CLIP_LENGTHS = range(1, 13)
# share of the levels' span: 0.005 on the scale of 1..5
_BATCH_TOLERANCE = 0.00125
_FEATURE_TOLERANCE = {"float32": 1e-4, "float16": 5e-3}
"""Allowed difference of features from torch, as a share of the largest value."""
_LOGIT_TOLERANCE = {"float32": 1e-4, "float16": 2e-2}


def verify_level_scorer(
    manifest: Path,
    *,
    weights: Weights | None = None,
    recipe: LevelScorerRecipe | None = None,
    provider: str = _CPU_PROVIDER,
) -> list[str]:
    """What was verified, one line each; with weights and recipe also against torch. Raises VerifyError."""
    spec = load_level_spec(manifest)
    lines = [line for graph in (spec.encoder, spec.language) for line in _check_graph(manifest.parent, graph)]
    if spec.feature_dtype == "bfloat16" and provider == _CPU_PROVIDER:
        return [*lines, "not run: ONNX Runtime has no bfloat16 kernels for CPUs"]
    runner = LevelScorerRunner(manifest, provider=provider)
    pixels = golden_frames(spec.input.view, seed=spec.golden.input.seed, frames=spec.golden.input.frames)
    features = runner.encode(pixels)
    lines.append(_check_placement(runner))
    lines += [_check_golden(runner, features), _check_single_pictures(runner, pixels)]
    lines += [_check_batches(runner, features, task) for task in spec.tasks]
    if weights is not None and recipe is not None:
        lines += _check_torch(runner, recipe, weights=weights, pixels=pixels)
    return lines


def _check_graph(folder: Path, graph: GraphSpec) -> Iterator[str]:
    file = folder / graph.file
    digest, size = graphs.hash_graph(file)
    if (digest, size) != (graph.sha256, graph.size_bytes) or graphs.external_data_file(file).exists() != graph.has_data:
        raise VerifyError(f"{graph.file}: sha256 is {digest}, the manifest says {graph.sha256}")
    yield f"{graph.file}: sha256 {digest}, {size} bytes{', weights beside it' if graph.has_data else ''}"
    model = onnx.load(str(file), load_external_data=False)
    operators = [node.op_type for node in model.graph.node]
    if forbidden := sorted(set(operators) & set(FORBIDDEN_OPERATORS)):
        raise VerifyError(f"{graph.file} holds {', '.join(forbidden)}")
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    yield (
        f"{graph.file}: opset {opset}, {len(operators)} nodes, {operators.count('Attention')} Attention, "
        f"{operators.count('RMSNormalization')} RMSNormalization, none of {', '.join(FORBIDDEN_OPERATORS)}"
    )


def _check_placement(runner: LevelScorerRunner) -> str:
    if misplaced := runner.misplaced():
        raise VerifyError(f"{', '.join(misplaced)} do not run on {runner.provider}")
    return f"every {', '.join(COMPUTE_OPERATORS[:-1])} and {COMPUTE_OPERATORS[-1]} runs on {runner.provider}"


def _check_golden(runner: LevelScorerRunner, features: Features) -> str:
    """Expected levels against those of the reference network; a head with rows in another order differs by far more."""
    spec, largest_difference = runner.spec, 0.0
    for answer in spec.golden.answers:
        logits = runner.run_task([features[list(answer.frames)]], spec.task(answer.task))[0]
        expected = np.array(answer.logits, dtype=np.float32)
        largest_difference = max(
            largest_difference, _max_difference(expected_levels(logits, spec), expected_levels(expected, spec))
        )
    return _require_within(
        largest_difference, spec.golden.tolerance, f"{len(spec.golden.answers)} golden answers against the manifest"
    )


def _check_single_pictures(runner: LevelScorerRunner, pixels: Pixels) -> str:
    batched = runner.encode(pixels)
    single = np.concatenate([runner.encode(picture[None]) for picture in pixels])
    return _require_within(
        _relative_error(batched, single),
        _FEATURE_TOLERANCE[runner.spec.feature_dtype],
        "features together against one by one",
    )


def _check_batches(runner: LevelScorerRunner, features: Features, task: TaskSpec) -> str:
    """Clips of every length, alone and in a batch of clips of the same length."""
    lengths = [length for length in _CLIP_LENGTHS if task.least_frames <= length <= task.most_frames]
    largest_difference = 0.0
    for length in lengths:
        clips = [_cyclic_clip(features, start, length) for start in range(3)]
        batched = runner.run_task(clips, task)
        single = np.concatenate([runner.run_task([clip], task) for clip in clips])
        largest_difference = max(
            largest_difference,
            _max_difference(expected_levels(batched, runner.spec), expected_levels(single, runner.spec)),
        )
    line = f"{task.name}: batches of 3 against one by one, clips of {lengths[0]}..{lengths[-1]}"
    return _require_within(largest_difference, _BATCH_TOLERANCE * _level_span(runner.spec), line)


def _check_torch(
    runner: LevelScorerRunner, recipe: LevelScorerRecipe, *, weights: Weights, pixels: Pixels
) -> Iterator[str]:
    """The reference network in float32; quantized weights are only held to the manifest's tolerance."""
    frames = [torch.from_numpy(picture).permute(2, 0, 1) for picture in pixels]
    expected_features = encode_pictures(recipe, weights, frames).numpy()
    is_quantized = runner.spec.golden.tolerance > 0.01 * _level_span(runner.spec)
    dtype = runner.spec.feature_dtype
    feature_tolerance, logit_slack = (
        (np.inf, np.inf) if is_quantized else (_FEATURE_TOLERANCE[dtype], _LOGIT_TOLERANCE[dtype])
    )
    features = runner.encode(pixels)
    yield _require_within(_relative_error(features, expected_features), feature_tolerance, "features against torch")
    for task in runner.spec.tasks:
        lengths = [length for length in _CLIP_LENGTHS if task.least_frames <= length <= task.most_frames]
        expected = reference_task_logits(
            recipe, weights, [_cyclic_clip(expected_features, 0, length) for length in lengths], task
        )
        logits = np.concatenate([runner.run_task([_cyclic_clip(features, 0, length)], task) for length in lengths])
        line = f"{task.name}: clips of {lengths[0]}..{lengths[-1]} against torch"
        yield _require_within(_relative_error(logits, expected), logit_slack, f"{line}, logits")
        difference = _max_difference(expected_levels(logits, runner.spec), expected_levels(expected, runner.spec))
        yield _require_within(difference, runner.spec.golden.tolerance, f"{line}, expectation")


def reference_task_logits(
    recipe: LevelScorerRecipe, weights: Weights, clips: Sequence[Features], task: TaskSpec
) -> Logits:
    """Logits (clips, questions, levels) of the network in float32, of clips of features (frames, 65, width)."""
    prompts = []
    for clip in clips:
        for question in task.questions:
            prompt = recipe.prompts[question]
            prompts.append((prompt.ids, fill_pictures(prompt, torch.from_numpy(clip))))
    head = head_rows(weights, list(recipe.levels.values()))
    logits: Logits = reference_logits(weights, recipe.config, prompts, head=head).numpy()
    return logits.reshape(len(clips), len(task.questions), -1)


def _cyclic_clip(features: Features, start: int, length: int) -> Features:
    return features[[(start + index) % len(features) for index in range(length)]]


def _level_span(spec: LevelScorerSpec) -> float:
    values = [level.value for level in spec.levels]
    return max(values) - min(values)


def _max_difference(values: Features, expected: Features) -> float:
    return float(np.abs(values.astype(np.float64) - expected).max())


def _relative_error(values: Features, expected: Features) -> float:
    return _max_difference(values, expected) / float(np.abs(expected).max())


def _require_within(difference: float, allowed: float, line: str) -> str:
    if not difference <= allowed:
        raise VerifyError(f"{line}: {difference:.2e} apart, at most {allowed:.2e} is allowed")
    return f"{line}: {difference:.2e} apart"
