"""Scorers that answer in level words: Q-Align, OneAlign and Compare2Score behind one encoder and one language graph."""

import asyncio
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vqmon.core.scores import pool
from vqmon.core.types import DecodedSegment, Pixels, Score, ScorerIdentity, View
from vqmon.errors import ScorerError
from vqmon.scoring.manifests.frame_scorer import golden_frames, preprocessing_id
from vqmon.scoring.manifests.level_scorer import LevelScorerSpec, TaskSpec
from vqmon.scoring.runtime.graph import Array, Placement
from vqmon.scoring.runtime.shared_graphs import GraphHost, Hosts, device_text, one_by_one, powers_of_two, settle
from vqmon.scoring.runtime.tensors import to_tensor

Floats = NDArray[np.float64]
Link = Literal["logistic", "normal"]


def shares(logits: NDArray[np.floating], *, temperature: float) -> Floats:
    """Probabilities of the levels along the last axis.

    >>> shares(np.zeros((1, 2)), temperature=1.0).tolist()
    [[0.5, 0.5]]
    """
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    raised = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    found: Floats = raised / raised.sum(axis=-1, keepdims=True)
    return found


def entropy(probabilities: Floats) -> Floats:
    """Shannon's entropy along the last axis over that of equal shares: 0 = one level is sure, 1 = all are alike."""
    logs = np.log(np.clip(probabilities, np.finfo(np.float64).tiny, None))
    spread: Floats = -(probabilities * logs).sum(axis=-1) / np.log(probabilities.shape[-1])
    return np.clip(spread, 0.0, 1.0)


def place_among(preferred: Sequence[float] | Floats, anchors: Floats, *, link: Link) -> float:
    """0..100: where a picture stands that is preferred over anchor j with probability preferred[j].

    `anchors` holds P(anchor i beats anchor j). Scores of all maximise sum_ij C_ij log F(s_i - s_j) - |s|^2 / 2, which
    has one optimum; 0 is the lowest of them and 100 the highest.
    """
    count = len(anchors)
    wins = np.full((count + 1, count + 1), 0.5)
    wins[:count, :count] = anchors
    wins[count, :count] = preferred
    wins[:count, count] = 1 - np.asarray(preferred, dtype=np.float64)
    scores = most_likely(wins, link=link)
    low, high = float(scores.min()), float(scores.max())
    return 100.0 * (float(scores[-1]) - low) / (high - low)


def most_likely(wins: Floats, *, link: Link, tolerance: float = 1e-10) -> Floats:
    """The scores that explain P(i beats j) best, by damped Newton steps on a strictly concave problem."""
    slope_of, gain_of = _LINKS[link]
    scores = np.zeros(len(wins))
    for _ in range(100):
        apart = scores[:, None] - scores
        slope, bend = slope_of(apart)
        pull, curve = wins * slope, wins * bend
        curve = curve + curve.T
        np.fill_diagonal(curve, 0)
        gradient = (pull - pull.T).sum(axis=1) - scores
        if np.abs(gradient).max() < tolerance:
            break
        step = np.linalg.solve(np.diag(curve.sum(axis=1) - 1) - curve, gradient)
        before, factor = _gain(scores, wins, gain_of), 1.0
        while factor > 1e-6 and _gain(scores - factor * step, wins, gain_of) < before - 1e-12:
            factor /= 2
        scores = scores - factor * step
    return scores


def _gain(scores: Floats, wins: Floats, log: Callable[[Floats], Floats]) -> float:
    return float((wins * log(scores[:, None] - scores)).sum() - (scores**2).sum() / 2)


def _logistic(x: Floats) -> tuple[Floats, Floats]:
    falling = 1 / (1 + np.exp(np.clip(x, -700, 700)))
    return falling, -falling * (1 - falling)


def _normal(x: Floats) -> tuple[Floats, Floats]:
    # density over distribution, from logarithms so that nothing underflows far to the left
    ratio = np.exp(-(x**2) / 2 - math.log(math.sqrt(2 * math.pi)) - _log_normal(x))
    return ratio, -ratio * (x + ratio)


def _log_normal(x: Floats) -> Floats:
    """log of the normal distribution; erfc keeps its relative precision down to x = -37."""
    return np.array([_log_normal_at(one) for one in x.ravel()]).reshape(x.shape)


def _log_normal_at(x: float) -> float:
    if x > 0:
        return math.log1p(-math.erfc(x / math.sqrt(2)) / 2)
    if x > -37:
        return math.log(math.erfc(-x / math.sqrt(2)) / 2)
    return -x * x / 2 - math.log(-x * math.sqrt(2 * math.pi)) + math.log1p(-1 / x**2 + 3 / x**4)


_LINKS: dict[Link, tuple[Callable[[Floats], tuple[Floats, Floats]], Callable[[Floats], Floats]]] = {
    "logistic": (_logistic, lambda x: -np.logaddexp(0.0, -x)),
    "normal": (_normal, _log_normal),
}
"""First and second derivative of log F, and log F itself."""


MOST_PICTURES = 8
"""In one run of the language graph, in sequences of whatever length: more no longer makes a GPU faster."""
MOST_ENCODED = 16


class LevelModel:
    """Both graphs of a manifest on a device, self-tested; its scorers share them, and the encoder's answers."""

    def __init__(self, spec: LevelScorerSpec, encoder: GraphHost, language: GraphHost) -> None:
        self.spec, self.encoder, self.language = spec, encoder, language

    async def features(self, pixels: Pixels, *, deadline_seconds: float) -> Array:
        """(frames, tokens, width) of pictures (frames, height, width, 3); raises ScoreError."""
        tensor = await asyncio.get_running_loop().run_in_executor(None, to_tensor, pixels, self.spec.input)
        return await self.encoder.kept(tensor, deadline_seconds=deadline_seconds)

    async def answer(self, clips: Array, task: TaskSpec, *, deadline_seconds: float) -> Array:
        """Logits (clips, questions, levels) of clips (clips, frames, tokens, width); raises ScoreError."""
        rows, questions = _asked(clips, task)
        logits = await self.language.score(rows, questions, deadline_seconds=deadline_seconds)
        return logits.reshape(len(clips), len(task.questions), -1)

    def native(self, logits: Array) -> Floats:
        """The native value of each clip, from logits (clips, questions, levels)."""
        expected = expectations(logits, self.spec)
        compared = self.spec.comparisons
        if compared is None:
            return np.asarray(expected[:, 0])
        anchors = np.array(compared.anchor_matrix)
        return np.array([place_among(row, anchors, link=compared.link) for row in expected])

    def identity(self, scorer: str) -> ScorerIdentity:
        """As of now: the device changes when the one asked for fails."""
        spec = self.spec
        return ScorerIdentity(
            scorer=scorer,
            sha256=spec.sha256,
            preprocessing=preprocessing_id(spec.input),
            calibration_version=spec.calibration.version,
            device=device_text(self.encoder, self.language),
            licence=spec.licence.name,
        )


class LevelScorer:
    """One task of a model: the verdict on a segment, with the levels' probabilities and how undecided they are."""

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
        """The verdict on one segment; raises ScoreError."""
        model, task = self._model, self._task
        features = await model.features(decoded.views[self.views[0]], deadline_seconds=self._deadline_seconds)
        sizes, logits = [], []
        for clips in cut(features, most_frames=task.most_frames):
            logits.append(await model.answer(clips, task, deadline_seconds=self._deadline_seconds))
            sizes += [clips.shape[1]] * len(clips)
        return self._verdict(np.concatenate(logits), sizes)

    def _verdict(self, logits: Array, sizes: list[int]) -> Score:
        """Of clips of so many frames; 0..100 to four decimals, native to six."""
        spec = self._model.spec
        native = np.repeat(self._model.native(logits), sizes)
        values = [spec.calibration.apply(float(each)) for each in native]
        probabilities = shares(logits, temperature=spec.temperature).mean(axis=1)
        weights = np.array(sizes) / sum(sizes)
        doubt = entropy(shares(logits, temperature=spec.temperature)).mean(axis=1)
        words = [level.word for level in spec.levels]
        mean = (weights @ probabilities).tolist()
        return Score(
            scorer=self.id,
            value=round(pool("mean", values), 4),
            native_value=round(float(native.mean()), 6),
            p5=round(pool("p5", values), 4),
            min=round(min(values), 4),
            pooling="mean",
            frame_values=tuple(round(value, 4) for value in values),
            levels={word: round(share, 6) for word, share in zip(words, mean, strict=True)},
            entropy=round(float(weights @ doubt), 6),
        )


class PairScorer:
    """Two pictures compared directly: what A/B tests of enhancers ask."""

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

    async def prefer(self, first: Pixels, second: Pixels) -> Floats:
        """P(the second arm's frame is the better one) per frame, 0..1; raises ScoreError.

        `first` and `second` are the view's pictures of the same moments (frames, height, width, 3). Each pair is shown
        in both orders and the mean is taken: what the network says of a place rather than of a picture cancels.
        """
        if len(first) != len(second) or len(first) == 0:
            raise ValueError(f"needs as many frames of both arms, got {len(first)} and {len(second)}")
        features = await self._model.features(np.concatenate([first, second]), deadline_seconds=self._deadline_seconds)
        ours, theirs = features[: len(first)], features[len(first) :]
        clips = np.concatenate([np.stack([ours, theirs], axis=1), np.stack([theirs, ours], axis=1)])
        logits = await self._model.answer(clips, self._task, deadline_seconds=self._deadline_seconds)
        better = expectations(logits, self._model.spec)[:, 0]
        preferred: Floats = (better[: len(first)] + 1 - better[len(first) :]) / 2
        return preferred


def open_levels(
    spec: LevelScorerSpec,
    folder: Path,
    placement: Placement,
    hosts: Hosts,
    *,
    spent: Callable[[float], None] = lambda seconds: None,
) -> LevelModel:
    """Load both graphs and hold them to their golden answers; raises ScorerError: what, where, remedy."""
    if spec.feature_dtype == "bfloat16":
        raise ScorerError(f"{spec.id}: bfloat16 features cannot be kept between graphs here; export it as fp16 or fp32")
    view, dtype = spec.input.view, np.dtype(spec.feature_dtype)
    rows = min(spec.most_rows, MOST_ENCODED)
    encoder, is_new_encoder = hosts.open(
        spec.encoder, folder, placement,
        shapes=((3, view.height, view.width),), buckets=powers_of_two(rows), spent=spent,
    )  # fmt: skip
    pixels = golden_frames(view, seed=spec.golden.input.seed, frames=spec.golden.input.frames)
    tensor = to_tensor(pixels, spec.input)
    features = one_by_one(encoder, tensor)
    if features.ndim != 3 or features.dtype != dtype:
        raise ScorerError(f"{spec.encoder.file}: gives {features.dtype}{list(features.shape)} as features of pictures")
    language, is_new_language = hosts.open(
        spec.language, folder, placement,
        shapes=((None, *features.shape[1:]), ()), buckets=powers_of_two(min(spec.most_rows, MOST_PICTURES)),
        most_work=MOST_PICTURES * features[0].size, spent=spent,
    )  # fmt: skip
    model = LevelModel(spec, encoder, language)
    _check_golden(model, features)
    if is_new_encoder:
        settle(encoder, (tensor,), features)
    if is_new_language:
        first = spec.golden.answers[0]
        asked = _asked(features[list(first.frames)][None], spec.task(first.task))
        settle(language, asked, one_by_one(language, *asked))
    return model


def expectations(logits: Array, spec: LevelScorerSpec) -> Floats:
    """The levels' expectation over the last axis."""
    values: Floats = shares(logits, temperature=spec.temperature) @ np.array([level.value for level in spec.levels])
    return values


def cut(features: Array, *, most_frames: int) -> list[Array]:
    """Clips (clips, frames, ...) of features (frames, ...), in order, as few and as equal in length as can be.

    >>> [clips.shape for clips in cut(np.zeros((5, 1)), most_frames=2)]
    [(2, 2, 1), (1, 1, 1)]
    """
    if most_frames == 1:
        return [features[:, None]]
    pieces = np.array_split(features, -(-len(features) // most_frames))
    lengths = sorted({len(piece) for piece in pieces}, reverse=True)
    return [np.stack([piece for piece in pieces if len(piece) == length]) for length in lengths]


def _asked(clips: Array, task: TaskSpec) -> tuple[Array, Array]:
    """Rows for the language graph: every question about every clip."""
    rows = np.repeat(clips, len(task.questions), axis=0)
    return rows, np.tile(np.array(task.questions, dtype=np.int64), len(clips))


def _check_golden(model: LevelModel, features: Array) -> None:
    spec = model.spec
    for golden in spec.golden.answers:
        found = one_by_one(model.language, *_asked(features[list(golden.frames)][None], spec.task(golden.task)))
        expected = expectations(np.array(golden.logits), spec)
        apart = float(np.abs(expectations(found, spec) - expected).max())
        if not apart <= spec.golden.tolerance:
            raise ScorerError(
                f"{spec.id}: self-test on {model.language.engine.device}: {golden.task} of {len(golden.frames)} golden "
                f"frames is {apart:.6g} off (tolerance {spec.golden.tolerance:g}); the bundle is not what was "
                "exported, or it is computed wrongly here: fetch or export the bundle again"
            )
