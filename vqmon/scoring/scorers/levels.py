"""Level scorers, which predict a distribution over level words: Q-Align, OneAlign and Compare2Score."""

import asyncio
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vqmon.core.calibration import interval_at, percentile_of
from vqmon.core.scores import pool
from vqmon.core.types import DecodedSegment, Pixels, Score, ScorerIdentity, View
from vqmon.errors import ScorerError
from vqmon.scoring.manifests.frame_scorer import golden_frames, preprocessing_id
from vqmon.scoring.manifests.level_scorer import LevelScorerSpec, TaskSpec
from vqmon.scoring.runtime.graph import Array, Placement
from vqmon.scoring.runtime.shared_graphs import (
    SharedGraph,
    SharedGraphs,
    describe_devices,
    powers_of_two,
    run_row_by_row,
    warm_up,
)
from vqmon.scoring.runtime.tensors import to_tensor

FloatArray = NDArray[np.float64]
LinkFunction = Literal["logistic", "normal"]

_MAX_PICTURES_PER_RUN = 8
"""Of the language graph, in all its sequences together: larger batches are no faster on a GPU."""
_MAX_ENCODED_ROWS = 16
"""Pictures in one run of the encoder."""


def softmax(logits: NDArray[np.floating], *, temperature: float) -> FloatArray:
    """The probabilities of the levels, along the last axis.

    >>> softmax(np.zeros((1, 2)), temperature=1.0).tolist()
    [[0.5, 0.5]]
    """
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    exponentials = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    probabilities: FloatArray = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return probabilities


def normalized_entropy(probabilities: FloatArray) -> FloatArray:
    """Shannon's entropy along the last axis over its maximum: 0 = one level is certain, 1 = all are equally likely."""
    logs = np.log(np.clip(probabilities, np.finfo(np.float64).tiny, None))
    entropy: FloatArray = -(probabilities * logs).sum(axis=-1) / np.log(probabilities.shape[-1])
    return np.clip(entropy, 0.0, 1.0)


def score_against_anchors(
    preferences: Sequence[float] | FloatArray, anchors: FloatArray, *, link: LinkFunction
) -> float:
    """The score 0..100 of a picture that is preferred over anchor j with probability preferences[j].

    `anchors[i, j]` is P(anchor i beats anchor j). The scores of the anchors and of the picture are estimated together
    (`maximum_a_posteriori_scores`); 0 is the lowest of them and 100 the highest.
    """
    count = len(anchors)
    win_probabilities = np.full((count + 1, count + 1), 0.5)
    win_probabilities[:count, :count] = anchors
    win_probabilities[count, :count] = preferences
    win_probabilities[:count, count] = 1 - np.asarray(preferences, dtype=np.float64)
    scores = maximum_a_posteriori_scores(win_probabilities, link=link)
    low, high = float(scores.min()), float(scores.max())
    return 100.0 * (float(scores[-1]) - low) / (high - low)


def maximum_a_posteriori_scores(
    win_probabilities: FloatArray, *, link: LinkFunction, tolerance: float = 1e-10
) -> FloatArray:
    """The scores s that maximise sum_ij P_ij log F(s_i - s_j) - |s|^2 / 2, where P_ij = P(i beats j).

    F is the logistic (Bradley-Terry) or the normal (Thurstone) distribution. Damped Newton steps find the only optimum
    of this strictly concave function; `tolerance` bounds the largest component of the gradient.
    """
    derivatives, log_distribution = _LINKS[link]
    scores = np.zeros(len(win_probabilities))
    for _ in range(100):
        differences = scores[:, None] - scores
        first, second = derivatives(differences)
        weighted_first, weighted_second = win_probabilities * first, win_probabilities * second
        curvature = weighted_second + weighted_second.T
        np.fill_diagonal(curvature, 0)
        gradient = (weighted_first - weighted_first.T).sum(axis=1) - scores
        if np.abs(gradient).max() < tolerance:
            break
        step = np.linalg.solve(np.diag(curvature.sum(axis=1) - 1) - curvature, gradient)
        log_posterior = _log_posterior(scores, win_probabilities, log_distribution)
        factor = 1.0
        while (
            factor > 1e-6
            and _log_posterior(scores - factor * step, win_probabilities, log_distribution) < log_posterior - 1e-12
        ):
            factor /= 2
        scores = scores - factor * step
    return scores


def _log_posterior(
    scores: FloatArray, win_probabilities: FloatArray, log_distribution: Callable[[FloatArray], FloatArray]
) -> float:
    log_likelihood = win_probabilities * log_distribution(scores[:, None] - scores)
    return float(log_likelihood.sum() - (scores**2).sum() / 2)


def _logistic_derivatives(x: FloatArray) -> tuple[FloatArray, FloatArray]:
    first = 1 / (1 + np.exp(np.clip(x, -700, 700)))
    return first, -first * (1 - first)


def _normal_derivatives(x: FloatArray) -> tuple[FloatArray, FloatArray]:
    # The ratio of density to distribution, from logarithms so that it does not underflow for very negative x.
    ratio = np.exp(-(x**2) / 2 - math.log(math.sqrt(2 * math.pi)) - _log_normal(x))
    return ratio, -ratio * (x + ratio)


def _log_normal(x: FloatArray) -> FloatArray:
    """The logarithm of the normal distribution function; erfc keeps its relative precision down to x = -37."""
    return np.array([_log_normal_at(value) for value in x.ravel()]).reshape(x.shape)


def _log_normal_at(x: float) -> float:
    if x > 0:
        return math.log1p(-math.erfc(x / math.sqrt(2)) / 2)
    if x > -37:
        return math.log(math.erfc(-x / math.sqrt(2)) / 2)
    return -x * x / 2 - math.log(-x * math.sqrt(2 * math.pi)) + math.log1p(-1 / x**2 + 3 / x**4)


_LINKS: dict[
    LinkFunction,
    tuple[Callable[[FloatArray], tuple[FloatArray, FloatArray]], Callable[[FloatArray], FloatArray]],
] = {
    "logistic": (_logistic_derivatives, lambda x: -np.logaddexp(0.0, -x)),
    "normal": (_normal_derivatives, _log_normal),
}
"""(first and second derivative of log F, log F itself)."""


class LevelModel:
    """Both graphs of a manifest on a device, self-tested; the scorers of its tasks share them and cached features."""

    def __init__(self, spec: LevelScorerSpec, encoder: SharedGraph, language: SharedGraph) -> None:
        self.spec, self.encoder, self.language = spec, encoder, language

    async def encode_frames(self, pixels: Pixels, *, deadline_seconds: float) -> Array:
        """Features (frames, tokens, width) of pictures (frames, height, width, 3); raises ScoreError."""
        tensor = await asyncio.get_running_loop().run_in_executor(None, to_tensor, pixels, self.spec.input)
        return await self.encoder.infer_cached(tensor, deadline_seconds=deadline_seconds)

    async def answer_logits(self, clips: Array, task: TaskSpec, *, deadline_seconds: float) -> Array:
        """Logits (clips, questions, levels) of clips (clips, frames, tokens, width); raises ScoreError."""
        rows, questions = _question_rows(clips, task)
        logits = await self.language.infer(rows, questions, deadline_seconds=deadline_seconds)
        return logits.reshape(len(clips), len(task.questions), -1)

    def native_values(self, logits: Array) -> FloatArray:
        """The native value of each clip, from logits (clips, questions, levels)."""
        expected = _expected_values(logits, self.spec)
        comparisons = self.spec.comparisons
        if comparisons is None:
            return np.asarray(expected[:, 0])
        anchors = np.array(comparisons.anchor_matrix)
        return np.array(
            [score_against_anchors(preferences, anchors, link=comparisons.link) for preferences in expected]
        )

    def identity(self, scorer_id: str) -> ScorerIdentity:
        """The identity now of one of its scorers: the device changes when the one that was asked for fails."""
        spec = self.spec
        return ScorerIdentity(
            scorer=scorer_id,
            sha256=spec.sha256,
            preprocessing=preprocessing_id(spec.input),
            calibration_version=spec.calibration.version,
            device=describe_devices(self.encoder, self.language),
            licence=spec.licence.name,
        )


class LevelScorer:
    """Scores segments by one task of a model, with the probabilities of the levels and their entropy."""

    needs_prompt = False

    def __init__(self, model: LevelModel, task: TaskSpec, *, deadline_seconds: float) -> None:
        if task.least_frames > 1:
            raise ScorerError(f"{model.spec.id}: {task.name} compares pictures; it does not score segments")
        self._model, self._task, self._deadline_seconds = model, task, deadline_seconds
        self.id = f"{model.spec.name}.{task.name}@{model.spec.version}"

    @property
    def views(self) -> tuple[View, ...]:
        return (self._model.spec.input.view,)

    @property
    def identity(self) -> ScorerIdentity:
        return self._model.identity(self.id)

    async def score(self, decoded: DecodedSegment) -> Score:
        """Score one segment; raises ScoreError."""
        model, task = self._model, self._task
        features = await model.encode_frames(decoded.views[self.views[0]], deadline_seconds=self._deadline_seconds)
        clip_lengths, logits = [], []
        for clips in split_into_clips(features, most_frames=task.most_frames):
            logits.append(await model.answer_logits(clips, task, deadline_seconds=self._deadline_seconds))
            clip_lengths += [clips.shape[1]] * len(clips)
        return self._pooled_score(np.concatenate(logits), clip_lengths)

    def _pooled_score(self, logits: Array, clip_lengths: list[int]) -> Score:
        """The score of clips with these numbers of frames; 0..100 to four decimals, native to six."""
        spec = self._model.spec
        native = np.repeat(self._model.native_values(logits), clip_lengths)
        values = [spec.calibration.apply(float(native_value)) for native_value in native]
        value, native_value = pool("mean", values), float(native.mean())
        probabilities = softmax(logits, temperature=spec.temperature)
        clip_weights = np.array(clip_lengths) / sum(clip_lengths)
        mean_probabilities = (clip_weights @ probabilities.mean(axis=1)).tolist()
        entropy = float(clip_weights @ normalized_entropy(probabilities).mean(axis=1))
        words = [level.word for level in spec.levels]
        return Score(
            scorer=self.id,
            value=round(value, 4),
            native_value=round(native_value, 6),
            p5=round(pool("p5", values), 4),
            min=round(min(values), 4),
            pooling="mean",
            frame_values=tuple(round(value, 4) for value in values),
            levels={word: round(probability, 6) for word, probability in zip(words, mean_probabilities, strict=True)},
            entropy=round(entropy, 6),
            percentile=percentile_of(spec.percentiles, native_value),
            interval=interval_at(spec.interval, value),
        )


class PairScorer:
    """Compares two pictures directly, for A/B tests of enhancement algorithms."""

    def __init__(self, model: LevelModel, task: TaskSpec, *, deadline_seconds: float = 120.0) -> None:
        if (task.least_frames, task.most_frames) != (2, 2):
            raise ScorerError(f"{model.spec.id}: {task.name} does not compare two pictures")
        self._model, self._task, self._deadline_seconds = model, task, deadline_seconds
        self.id = f"{model.spec.name}.{task.name}@{model.spec.version}"

    @property
    def views(self) -> tuple[View, ...]:
        return (self._model.spec.input.view,)

    @property
    def identity(self) -> ScorerIdentity:
        return self._model.identity(self.id)

    async def preference_probabilities(self, first: Pixels, second: Pixels) -> FloatArray:
        """P(the frame of the second arm is better than that of the first), 0..1, per frame; raises ScoreError.

        `first` and `second` are views (frames, height, width, 3) of the same moments. Each pair is shown in both orders
        and the mean is taken, so that a preference of the network for a position cancels.
        """
        if len(first) != len(second) or len(first) == 0:
            raise ValueError(f"needs as many frames of both arms, got {len(first)} and {len(second)}")
        features = await self._model.encode_frames(
            np.concatenate([first, second]), deadline_seconds=self._deadline_seconds
        )
        first_features, second_features = features[: len(first)], features[len(first) :]
        clips = np.concatenate(
            [
                np.stack([first_features, second_features], axis=1),
                np.stack([second_features, first_features], axis=1),
            ]
        )
        logits = await self._model.answer_logits(clips, self._task, deadline_seconds=self._deadline_seconds)
        later_is_better = _expected_values(logits, self._model.spec)[:, 0]
        probabilities: FloatArray = (later_is_better[: len(first)] + 1 - later_is_better[len(first) :]) / 2
        return probabilities


def open_level_model(
    spec: LevelScorerSpec,
    folder: Path,
    placement: Placement,
    shared_graphs: SharedGraphs,
    *,
    on_run: Callable[[float], None] = lambda seconds: None,
) -> LevelModel:
    """Load both graphs and check their golden output; raises ScorerError with the file, the problem and the remedy."""
    if spec.feature_dtype == "bfloat16":
        raise ScorerError(f"{spec.id}: features in bfloat16 cannot be cached on the host; export it as fp16 or fp32")
    view, dtype = spec.input.view, np.dtype(spec.feature_dtype)
    rows = min(spec.most_rows, _MAX_ENCODED_ROWS)
    encoder, is_new_encoder = shared_graphs.open(
        spec.encoder, folder, placement,
        shapes=((3, view.height, view.width),), buckets=powers_of_two(rows), on_run=on_run,
    )  # fmt: skip
    pixels = golden_frames(view, seed=spec.golden.input.seed, frames=spec.golden.input.frames)
    tensor = to_tensor(pixels, spec.input)
    features = run_row_by_row(encoder, tensor)
    if features.ndim != 3 or features.dtype != dtype:
        raise ScorerError(
            f"{spec.encoder.file}: gives features {features.dtype}{list(features.shape)}, the manifest says {dtype} in "
            "three dimensions"
        )
    language, is_new_language = shared_graphs.open(
        spec.language, folder, placement,
        shapes=((None, *features.shape[1:]), ()),
        buckets=powers_of_two(min(spec.most_rows, _MAX_PICTURES_PER_RUN)),
        max_batch_elements=_MAX_PICTURES_PER_RUN * features[0].size, on_run=on_run,
    )  # fmt: skip
    model = LevelModel(spec, encoder, language)
    _check_golden(model, features)
    if is_new_encoder:
        warm_up(encoder, (tensor,), features)
    if is_new_language:
        golden = spec.golden.answers[0]
        inputs = _question_rows(features[list(golden.frames)][None], spec.task(golden.task))
        warm_up(language, inputs, run_row_by_row(language, *inputs))
    return model


def split_into_clips(features: Array, *, most_frames: int) -> list[Array]:
    """Split features (frames, ...), in order, into as few clips of as equal a length as possible.

    Returns one array (clips, frames, ...) per length.

    >>> [clips.shape for clips in split_into_clips(np.zeros((5, 1)), most_frames=2)]
    [(2, 2, 1), (1, 1, 1)]
    """
    if most_frames == 1:
        return [features[:, None]]
    clips = np.array_split(features, -(-len(features) // most_frames))
    lengths = sorted({len(clip) for clip in clips}, reverse=True)
    return [np.stack([clip for clip in clips if len(clip) == length]) for length in lengths]


def _expected_values(logits: Array, spec: LevelScorerSpec) -> FloatArray:
    """The expectation of the level values over the last axis."""
    level_values = np.array([level.value for level in spec.levels])
    expected: FloatArray = softmax(logits, temperature=spec.temperature) @ level_values
    return expected


def _question_rows(clips: Array, task: TaskSpec) -> tuple[Array, Array]:
    """The inputs of the language graph: every question of the task about every clip."""
    rows = np.repeat(clips, len(task.questions), axis=0)
    return rows, np.tile(np.array(task.questions, dtype=np.int64), len(clips))


def _check_golden(model: LevelModel, features: Array) -> None:
    spec = model.spec
    for golden in spec.golden.answers:
        inputs = _question_rows(features[list(golden.frames)][None], spec.task(golden.task))
        logits = run_row_by_row(model.language, *inputs)
        expected = _expected_values(np.array(golden.logits), spec)
        difference = float(np.abs(_expected_values(logits, spec) - expected).max())
        if not difference <= spec.golden.tolerance:
            raise ScorerError(
                f"{spec.id}: self-test on {model.language.engine.device}: {golden.task} of {len(golden.frames)} golden "
                f"frames is {difference:.6g} off (tolerance {spec.golden.tolerance:g}); either the bundle is not the "
                "one that was exported or this machine computes it wrongly: fetch or export the bundle again"
            )
