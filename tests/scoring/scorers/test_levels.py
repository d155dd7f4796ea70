"""Level scorers: probabilities and scores, shared features, golden logits, pairs, and scores against anchors."""

import asyncio
import itertools
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import log_ndtr

from tests.scoring.tiny_levels import BIAS, LevelBundle, logits_of, means_of, write_levels
from tests.scoring.tiny_onnx import VIEW, decoded, pictures
from vqmon.errors import ScorerError
from vqmon.scoring.manifests.level_scorer import load_level_spec
from vqmon.scoring.runtime.engines import GraphEngine
from vqmon.scoring.runtime.graph import Device, Placement, to_score_error
from vqmon.scoring.runtime.shared_graphs import OutputCache, SharedGraph, SharedGraphs
from vqmon.scoring.scorers.levels import (
    LevelModel,
    LevelScorer,
    LinkFunction,
    maximum_a_posteriori_scores,
    normalized_entropy,
    open_level_model,
    score_against_anchors,
    softmax,
    split_into_clips,
)
from vqmon.scoring.scorers.levels import _log_normal as log_normal
from vqmon.scoring.scorers.registry import ScorerOptions, open_pair_scorer, open_scorers

CPU = ScorerOptions(placement=Placement(device="cpu", threads=2))
VALUES = np.array([5.0, 4, 3, 2, 1])


def reference_softmax(logits: np.ndarray) -> np.ndarray:
    """Softmax, computed independently of the code under test."""
    exponentials = np.exp(logits)
    return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True))


@pytest.mark.parametrize("device", ["cpu", "openvino"])
@pytest.mark.parametrize("beside", [False, True])
async def test_a_score_has_native_and_calibrated_values_probabilities_and_entropy(
    tmp_path: Path, device: Device, beside: bool
) -> None:
    """As computed from the formulas."""
    write_levels(tmp_path, LevelBundle(beside=beside))
    pixels = pictures(4, seed=3)
    options = ScorerOptions(placement=Placement(device=device))
    if device == "openvino" and beside:
        with pytest.raises(ScorerError, match="use device cpu"):
            async with open_scorers(["tiny-levels"], [tmp_path], options):
                pass
        return
    async with open_scorers(["tiny-levels"], [tmp_path], options) as (scorer,):
        score = await scorer.score(decoded(pixels))
        assert scorer.identity.device == device
    probabilities = reference_softmax(logits_of(means_of(pixels), 0))
    native = probabilities @ VALUES
    assert score.scorer == scorer.id == "tiny-levels.quality@1"
    assert score.native_value == pytest.approx(native.mean(), abs=1e-5)
    assert score.frame_values == pytest.approx((native - 1) * 25, abs=1e-3)
    assert score.levels == pytest.approx(dict(zip(score.levels, probabilities.mean(axis=0), strict=True)), abs=1e-5)
    assert list(score.levels) == ["excellent", "good", "fair", "poor", "bad"]
    doubt = -(probabilities * np.log(probabilities)).sum(axis=1) / np.log(5)
    assert score.entropy == pytest.approx(doubt.mean(), abs=1e-5)


async def test_a_segment_is_split_into_clips_without_padding(tmp_path: Path) -> None:
    """Seven frames of at most three per clip become clips of 3, 2 and 2; the frames of a clip share its value."""
    write_levels(tmp_path)
    pixels = pictures(7, seed=4)
    async with open_scorers(["tiny-levels.video"], [tmp_path], CPU) as (scorer,):
        score = await scorer.score(decoded(pixels))
    means = means_of(pixels)
    native = [float(reference_softmax(logits_of(means[a:b].mean(), 2)) @ VALUES) for a, b in ((0, 3), (3, 5), (5, 7))]
    wanted = np.repeat((np.array(native) - 1) * 25, [3, 2, 2])
    assert score.frame_values == pytest.approx(wanted, abs=1e-3)
    assert score.value == pytest.approx(wanted.mean(), abs=1e-3)


def test_splitting_into_clips_keeps_the_order_of_frames() -> None:
    """Every frame is in one clip, and lengths differ by at most one."""
    for count, most in itertools.product(range(1, 40), (1, 2, 3, 31)):
        clips = [
            frame
            for group in split_into_clips(np.arange(count)[:, None], most_frames=most)
            for clip in group
            for frame in clip
        ]
        assert [int(frame[0]) for frame in clips] == list(range(count))


async def test_features_are_computed_once_for_all_tasks_and_scorers(tmp_path: Path) -> None:
    """Three tasks, and another scorer with the same encoder, run it once per different picture."""
    write_levels(tmp_path)
    write_levels(tmp_path, LevelBundle(name="sister", bias=BIAS + np.float32(1)), golden=_golden_of(tmp_path))
    runs: list[float] = []
    names = ["tiny-levels.quality", "tiny-levels.aesthetics", "tiny-levels.video", "sister"]
    pixels = pictures(4, seed=5)
    pixels[3] = pixels[0]
    async with open_scorers(names, [tmp_path], replace(CPU, on_run=runs.append)) as scorers:
        scores = await asyncio.gather(*(scorer.score(decoded(pixels)) for scorer in scorers))
        # 3 different pictures; 4 + 4 + 4 rows of single frames, clips of 2 and 2
        assert len(runs) == 3 + 4 + 4 + 2 + 4
        repeated = await scorers[0].score(decoded(pixels[:2]))
        assert len(runs) == 17 + 2
    assert repeated.frame_values == scores[0].frame_values[:2]
    assert scores[0].frame_values[0] == scores[0].frame_values[3]


def _golden_of(folder: Path) -> object:
    # A bias that is the same for all levels changes no probability, so the answers hold for both.
    return load_level_spec(folder / "tiny-levels@1.json").golden


async def test_other_segments_do_not_change_a_score(tmp_path: Path) -> None:
    """Alone or scored at the same time as others."""
    write_levels(tmp_path)
    segments = [decoded(pictures(1 + seed % 4, seed=seed)) for seed in range(12)]
    async with open_scorers(["tiny-levels.video"], [tmp_path], CPU) as (scorer,):
        alone = [await scorer.score(segment) for segment in segments]
    async with open_scorers(["tiny-levels.video"], [tmp_path], CPU) as (scorer,):
        assert alone == await asyncio.gather(*(scorer.score(segment) for segment in segments))


async def test_comparisons_with_anchors_become_a_score(tmp_path: Path) -> None:
    """As gradient ascent on the log posterior finds it."""
    write_levels(tmp_path, LevelBundle(compares=True, name="c"))
    pixels = pictures(2, seed=6) // 2
    async with open_scorers(["c"], [tmp_path], CPU) as (scorer,):
        score = await scorer.score(decoded(pixels))
        assert scorer.id == "c.anchors@1"
    weights = np.array([1, 0.75, 0.5, 0.25, 0])
    for mean, frame_value in zip(means_of(pixels), score.frame_values, strict=True):
        preferred = [float(reference_softmax(logits_of(mean / 2, question)) @ weights) for question in (0, 1)]
        wins = np.array([[0.5, 0.2, 1 - preferred[0]], [0.8, 0.5, 1 - preferred[1]], [*preferred, 0.5]])
        scores = np.zeros(3)
        for _ in range(20000):
            falling = 1 / (1 + np.exp(scores[:, None] - scores))
            pull = wins * falling
            scores += 0.05 * ((pull - pull.T).sum(axis=1) - scores)
        assert frame_value == pytest.approx(100 * (scores[2] - scores.min()) / np.ptp(scores), abs=1e-3)


async def test_two_arms_are_compared_in_both_orders(tmp_path: Path) -> None:
    """The brighter arm is preferred; swapped arms give the complement, equal arms one half."""
    write_levels(tmp_path, LevelBundle(compares=True, name="c"))
    dark, bright = pictures(3, seed=7) // 2, pictures(3, seed=7) // 2 + 100
    async with open_pair_scorer("c", [tmp_path], CPU) as pair:
        assert pair.views == (VIEW,)
        forward, backward = (
            await pair.preference_probabilities(dark, bright),
            await pair.preference_probabilities(bright, dark),
        )
        same = await pair.preference_probabilities(dark, dark)
        with pytest.raises(ValueError, match="as many frames"):
            await pair.preference_probabilities(dark, bright[:2])
    assert (forward > 0.6).all()
    assert forward == pytest.approx(1 - backward)
    assert same == pytest.approx([0.5, 0.5, 0.5])
    # both orders count: P = (p(second after first) + 1 - p(first after second)) / 2
    means = [means_of(dark)[0], means_of(bright)[0]]
    weights = np.array([1, 0.75, 0.5, 0.25, 0])
    ab, ba = (reference_softmax(logits_of(b - a / 2, 2)) @ weights for a, b in (means, means[::-1]))
    assert forward[0] == pytest.approx((ab + 1 - ba) / 2, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("c.pair", "pair compares pictures; it does not score segments"),
        ("c.beauty", "no task 'beauty'; its tasks: anchors, pair"),
        ("tiny-level", "did you mean 'tiny-levels'"),
    ],
)
async def test_a_task_that_does_not_exist_or_compares_pairs_is_refused(tmp_path: Path, name: str, message: str) -> None:
    """The message lists the tasks."""
    write_levels(tmp_path, LevelBundle(compares=True, name="c"))
    write_levels(tmp_path)
    with pytest.raises(ScorerError, match=message):
        async with open_scorers([name], [tmp_path], CPU):
            pass


async def test_a_scorer_without_a_task_for_pairs_is_refused(tmp_path: Path) -> None:
    """The message lists its tasks."""
    write_levels(tmp_path)
    with pytest.raises(ScorerError, match="no such task for pairs; its tasks: quality, aesthetics, video"):
        async with open_pair_scorer("tiny-levels", [tmp_path], CPU):
            pass


async def test_golden_logits_are_checked_at_load(tmp_path: Path) -> None:
    """The message has the task, the difference and the remedy."""
    write_levels(tmp_path, LevelBundle(bias=BIAS[:, ::-1].copy()))
    message = r"tiny-levels@1: self-test on cpu: aesthetics of 1 golden frames is .* export the bundle again"
    with pytest.raises(ScorerError, match=message):
        async with open_scorers(["tiny-levels"], [tmp_path], CPU):
            pass


async def test_bfloat16_features_are_refused_with_a_remedy(tmp_path: Path) -> None:
    """numpy, which caches them, has no such type."""
    write_levels(tmp_path, feature_dtype="bfloat16")
    with pytest.raises(ScorerError, match="export it as fp16"):
        async with open_scorers(["tiny-levels"], [tmp_path], CPU):
            pass


@dataclass
class DeviceLosingEngine:
    """A real graph behind a device that is lost after a number of runs."""

    engine: GraphEngine
    runs_left: int
    device: str = "cuda"
    fallback: str = ""
    workers: int = 1
    buckets: tuple[int, ...] = (1, 2, 4, 8)

    def run(self, *rows: np.ndarray) -> np.ndarray:
        self.runs_left -= 1
        if self.runs_left < 0:
            raise to_score_error(RuntimeError("CUDA failure 719: unspecified launch failure"), "tiny", "cuda")
        return np.concatenate([self.engine.run(*(each[at : at + 1] for each in rows)) for at in range(len(rows[0]))])

    def fall_back(self, reason: str) -> GraphEngine:
        return self.engine.fall_back(reason)


@pytest.mark.parametrize("encoder_runs", [0, 1, 99])
@pytest.mark.parametrize("language_runs", [0, 1])
async def test_a_device_lost_within_a_segment_does_not_change_the_score(
    tmp_path: Path, encoder_runs: int, language_runs: int
) -> None:
    """Of either graph; the identity says where it ran and why."""
    spec = load_level_spec(write_levels(tmp_path))
    segments = [decoded(pictures(5, seed=seed)) for seed in (1, 2)]
    async with SharedGraphs() as shared_graphs:
        sound = open_level_model(spec, tmp_path, CPU.placement, shared_graphs)
        task = spec.task("video")
        wanted = [await LevelScorer(sound, task, deadline_seconds=60).score(each) for each in segments]
        parts = []
        for host, runs_left in ((sound.encoder, encoder_runs), (sound.language, language_runs)):
            lost = DeviceLosingEngine(engine=host.load_engine, runs_left=runs_left)
            batcher = shared_graphs.add_batcher(lost, CPU.placement)
            parts.append(SharedGraph(host.load_engine, batcher, sha256="b" * 64, cache=OutputCache()))
        scorer = LevelScorer(LevelModel(spec, *parts), task, deadline_seconds=60)
        assert [await scorer.score(each) for each in segments] == wanted
        where = scorer.identity.device
    assert ("cuda + cpu" if encoder_runs == 99 else "cpu") in where
    assert "(fallback: " in where
    assert "CUDA failure 719" in where


ANCHORS = np.array([[0.5, 0.26, 3e-4], [0.74, 0.5, 0.25], [0.9997, 0.75, 0.5]])


def test_the_logarithm_of_the_normal_distribution_is_that_of_scipy() -> None:
    """From -60 to 12, with a relative error below 1e-9."""
    x = np.concatenate([np.linspace(-60, 12, 1500), [-37.0, -36.999, 0.0]])
    assert log_normal(x) == pytest.approx(log_ndtr(x), rel=1e-9, abs=1e-300)


@pytest.mark.parametrize("link", ["logistic", "normal"])
@given(preferred=st.lists(st.floats(0, 1), min_size=3, max_size=3))
def test_the_scores_are_the_optimum_of_the_posterior(link: LinkFunction, preferred: list[float]) -> None:
    """scipy's general optimiser finds none that is better."""
    wins = np.full((4, 4), 0.5)
    wins[:3, :3], wins[3, :3], wins[:3, 3] = ANCHORS, preferred, 1 - np.array(preferred)

    def loss(scores: np.ndarray) -> float:
        apart = scores[:, None] - scores
        log = log_ndtr(apart) if link == "normal" else -np.logaddexp(0, -apart)
        return float((scores**2).sum() / 2 - (wins * log).sum())

    ours = maximum_a_posteriori_scores(wins, link=link)
    theirs = minimize(loss, np.zeros(4), method="BFGS", tol=1e-10).x
    assert loss(ours) <= loss(theirs) + 1e-9
    assert ours == pytest.approx(theirs, abs=1e-4)


@pytest.mark.parametrize("link", ["logistic", "normal"])
def test_higher_preferences_never_give_a_lower_score(link: LinkFunction) -> None:
    """From 0, which loses to all anchors, to 100."""
    scores = [score_against_anchors([p, p, p], ANCHORS, link=link) for p in np.linspace(0, 1, 21)]
    assert scores == sorted(scores)
    assert (scores[0], scores[-1]) == (0, 100)


def test_scores_against_the_published_anchor_matrix() -> None:
    """The exact optima for ties with all anchors, and for one other case."""
    published = np.array([
        [0.5, 0.25912809, 3.3130276e-04, 1.6087297e-06, 1.1803027e-09],
        [0.74087191, 0.5, 0.24985345, 9.9954158e-02, 1.8675303e-08],
        [0.99966872, 0.75014657, 0.5, 0.49968880, 0.24852838],
        [0.99999839, 0.90004587, 0.50031120, 0.5, 0.25400183],
        [1.0, 1.0, 0.75147164, 0.74599814, 0.5],
    ])  # fmt: skip
    assert score_against_anchors([0.5] * 5, published, link="logistic") == pytest.approx(53.93, abs=0.01)
    assert score_against_anchors([0.95, 0.8, 0.6, 0.5, 0.2], published, link="logistic") == pytest.approx(
        68.73, abs=0.01
    )


def test_entropy_is_0_for_one_certain_level_and_1_for_equal_levels() -> None:
    """It is normalized by its maximum."""
    assert normalized_entropy(np.array([[1.0, 0, 0, 0, 0], [0.2] * 5])) == pytest.approx([0, 1])


def test_large_logits_do_not_overflow() -> None:
    """The largest logit is subtracted first."""
    assert softmax(np.array([[1e4, 0.0]]), temperature=1.0).tolist() == [[1.0, 0.0]]
