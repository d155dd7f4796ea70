"""Checks a written scorer of levels: hashes, graphs, golden answers, lengths, batches, agreement with torch."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
import torch

from models.export import graphs
from models.export.graphs import FORBIDDEN, Weights
from models.export.owl import Recipe, features_of
from models.export.owl_streaming import head_of, plain_logits
from models.networks.owl.q_align import PICTURE_ID
from models.verify.owl_runner import HEAVY, Features, Logits, Runner, expectations
from models.verify.pair import VerifyError
from vqmon.core.types import Pixels
from vqmon.scoring.manifests.frame_scorer import golden_frames
from vqmon.scoring.manifests.level_scorer import GraphSpec, LevelScorerSpec, TaskSpec, load_level_spec

CPU = "CPUExecutionProvider"
LENGTHS = range(1, 13)
# of the levels' span: 0.005 of 5, whoever shares a batch
ALONE = 0.00125
SLACK = {"float32": 1e-4, "float16": 5e-3}
"""How far features may be from torch, as a share of the largest value."""
LOGIT_SLACK = {"float32": 1e-4, "float16": 2e-2}


def verify(
    manifest: Path, *, weights: Weights | None = None, recipe: Recipe | None = None, provider: str = CPU
) -> list[str]:
    """What was checked, one line each; raises VerifyError. Against torch too when weights and recipe are given."""
    spec = load_level_spec(manifest)
    lines = [line for graph in (spec.encoder, spec.language) for line in _check_graph(manifest.parent, graph)]
    if spec.feature_dtype == "bfloat16" and provider == CPU:
        return [*lines, "not run: ONNX Runtime has no bfloat16 kernels for CPUs"]
    runner = Runner(manifest, provider=provider)
    pixels = golden_frames(spec.input.view, seed=spec.golden.input.seed, frames=spec.golden.input.frames)
    features = runner.encode(pixels)
    lines.append(_check_placement(runner))
    lines += [_check_golden(runner, features), _check_alone(runner, pixels)]
    lines += [_check_batches(runner, features, task) for task in spec.tasks]
    if weights is not None and recipe is not None:
        lines += _check_torch(runner, recipe, weights=weights, pixels=pixels)
    return lines


def _check_graph(folder: Path, graph: GraphSpec) -> Iterator[str]:
    file = folder / graph.file
    found, size = graphs.unit_hash(file)
    if (found, size) != (graph.sha256, graph.size_bytes) or graphs.data_file(file).exists() != graph.has_data:
        raise VerifyError(f"{graph.file}: sha256 is {found}, the manifest says {graph.sha256}")
    yield f"{graph.file}: sha256 {found}, {size} bytes{', weights beside it' if graph.has_data else ''}"
    model = onnx.load(str(file), load_external_data=False)
    kinds = [node.op_type for node in model.graph.node]
    if held := sorted(set(kinds) & set(FORBIDDEN)):
        raise VerifyError(f"{graph.file} holds {', '.join(held)}")
    opset = next(one.version for one in model.opset_import if one.domain in ("", "ai.onnx"))
    yield (
        f"{graph.file}: opset {opset}, {len(kinds)} nodes, {kinds.count('Attention')} Attention, "
        f"{kinds.count('RMSNormalization')} RMSNormalization, none of {', '.join(FORBIDDEN)}"
    )


def _check_placement(runner: Runner) -> str:
    if away := runner.misplaced():
        raise VerifyError(f"{', '.join(away)} do not run on {runner.provider}")
    return f"every {', '.join(HEAVY[:-1])} and {HEAVY[-1]} runs on {runner.provider}"


def _check_golden(runner: Runner, features: Features) -> str:
    """Expectations against those of the plain network; a head in another order is off by far more."""
    spec, worst = runner.spec, 0.0
    for answer in spec.golden.answers:
        said = runner.answer([features[list(answer.frames)]], spec.task(answer.task))[0]
        expected = np.array(answer.logits, dtype=np.float32)
        worst = max(worst, _apart(expectations(said, spec), expectations(expected, spec)))
    return _near(worst, spec.golden.tolerance, f"{len(spec.golden.answers)} golden answers against the manifest")


def _check_alone(runner: Runner, pixels: Pixels) -> str:
    together = runner.encode(pixels)
    alone = np.concatenate([runner.encode(one[None]) for one in pixels])
    return _near(_share(together, alone), SLACK[runner.spec.feature_dtype], "features together against one by one")


def _check_batches(runner: Runner, features: Features, task: TaskSpec) -> str:
    """Every length of clip, alone and among others of its length."""
    lengths = [length for length in LENGTHS if task.least_frames <= length <= task.most_frames]
    worst = 0.0
    for length in lengths:
        clips = [_clip(features, start, length) for start in range(3)]
        together = runner.answer(clips, task)
        alone = np.concatenate([runner.answer([clip], task) for clip in clips])
        worst = max(worst, _apart(expectations(together, runner.spec), expectations(alone, runner.spec)))
    line = f"{task.name}: batches of 3 against one by one, clips of {lengths[0]}..{lengths[-1]}"
    return _near(worst, ALONE * _span(runner.spec), line)


def _check_torch(runner: Runner, recipe: Recipe, *, weights: Weights, pixels: Pixels) -> Iterator[str]:
    """The plain network in float32, whole prompts; rounded weights are held to the manifest's tolerance instead."""
    frames = [torch.from_numpy(one).permute(2, 0, 1) for one in pixels]
    plain = features_of(recipe, weights, frames).numpy()
    rounded = runner.spec.golden.tolerance > 0.01 * _span(runner.spec)
    kind = runner.spec.feature_dtype
    slack, logit_slack = (np.inf, np.inf) if rounded else (SLACK[kind], LOGIT_SLACK[kind])
    ours = runner.encode(pixels)
    yield _near(_share(ours, plain), slack, "features against torch")
    for task in runner.spec.tasks:
        lengths = [length for length in LENGTHS if task.least_frames <= length <= task.most_frames]
        expected = _plain(recipe, weights, [_clip(plain, 0, length) for length in lengths], task)
        said = np.concatenate([runner.answer([_clip(ours, 0, length)], task) for length in lengths])
        line = f"{task.name}: clips of {lengths[0]}..{lengths[-1]} against torch"
        yield _near(_share(said, expected), logit_slack, f"{line}, logits")
        apart = _apart(expectations(said, runner.spec), expectations(expected, runner.spec))
        yield _near(apart, runner.spec.golden.tolerance, f"{line}, expectation")


def _plain(recipe: Recipe, weights: Weights, clips: Sequence[Features], task: TaskSpec) -> Logits:
    asked = []
    for clip in clips:
        for question in task.questions:
            prompt, pictures = recipe.prompts[question], torch.from_numpy(clip)
            known = [one[None] for one in prompt.known]
            places = prompt.ids.count(PICTURE_ID) - len(known)
            asked.append((prompt.ids, [*known, *([pictures] if places == 1 else [one[None] for one in pictures])]))
    head = head_of(weights, list(recipe.levels.values()))
    logits: Logits = plain_logits(weights, recipe.config, asked, head=head).numpy()
    return logits.reshape(len(clips), len(task.questions), -1)


def _clip(features: Features, start: int, length: int) -> Features:
    return features[[(start + at) % len(features) for at in range(length)]]


def _span(spec: LevelScorerSpec) -> float:
    values = [level.value for level in spec.levels]
    return max(values) - min(values)


def _apart(ours: Features, theirs: Features) -> float:
    return float(np.abs(ours.astype(np.float64) - theirs).max())


def _share(ours: Features, theirs: Features) -> float:
    return _apart(ours, theirs) / float(np.abs(theirs).max())


def _near(apart: float, allowed: float, line: str) -> str:
    if not apart <= allowed:
        raise VerifyError(f"{line}: {apart:.2e} apart, at most {allowed:.2e} is allowed")
    return f"{line}: {apart:.2e} apart"
