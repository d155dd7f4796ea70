"""Scorers that answer in words: right numbers, shared features, golden answers, pairs."""

import asyncio
import itertools
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from tests.scoring.tiny_levels import BIAS, Written, means_of, said, write_levels
from tests.scoring.tiny_onnx import VIEW, decoded, pictures
from vqmon.errors import ScorerError
from vqmon.scoring.manifests.level_scorer import load_level_spec
from vqmon.scoring.runtime.engines import GraphEngine
from vqmon.scoring.runtime.graph import Device, Placement, to_score_error
from vqmon.scoring.runtime.shared_graphs import OutputCache, SharedGraph, SharedGraphs
from vqmon.scoring.scorers.levels import LevelModel, LevelScorer, open_level_model, split_into_clips
from vqmon.scoring.scorers.registry import ScorerOptions, open_pair_scorer, open_scorers

CPU = ScorerOptions(placement=Placement(device="cpu", threads=2))
VALUES = np.array([5.0, 4, 3, 2, 1])


def shares(logits: np.ndarray) -> np.ndarray:
    """Softmax, written out once more."""
    raised = np.exp(logits)
    return np.asarray(raised / raised.sum(axis=-1, keepdims=True))


@pytest.mark.parametrize("device", ["cpu", "openvino"])
@pytest.mark.parametrize("beside", [False, True])
async def test_the_verdict_in_words_and_numbers(tmp_path: Path, device: Device, beside: bool) -> None:
    """Native values, calibrated ones, level probabilities and doubt are those of the formulas."""
    write_levels(tmp_path, Written(beside=beside))
    pixels = pictures(4, seed=3)
    terms = ScorerOptions(placement=Placement(device=device))
    if device == "openvino" and beside:
        with pytest.raises(ScorerError, match="use device cpu"):
            async with open_scorers(["tiny-levels"], [tmp_path], terms):
                pass
        return
    async with open_scorers(["tiny-levels"], [tmp_path], terms) as (scorer,):
        score = await scorer.score(decoded(pixels))
        assert scorer.identity.device == device
    probabilities = shares(said(means_of(pixels), 0))
    native = probabilities @ VALUES
    assert score.scorer == scorer.id == "tiny-levels.quality@1"
    assert score.native_value == pytest.approx(native.mean(), abs=1e-5)
    assert score.frame_values == pytest.approx((native - 1) * 25, abs=1e-3)
    assert score.levels == pytest.approx(dict(zip(score.levels, probabilities.mean(axis=0), strict=True)), abs=1e-5)
    assert list(score.levels) == ["excellent", "good", "fair", "poor", "bad"]
    doubt = -(probabilities * np.log(probabilities)).sum(axis=1) / np.log(5)
    assert score.entropy == pytest.approx(doubt.mean(), abs=1e-5)


async def test_a_clip_is_one_sequence_and_never_padded(tmp_path: Path) -> None:
    """Seven frames of at most three become clips of 3, 2 and 2, each judged as a whole; its frames share its value."""
    write_levels(tmp_path)
    pixels = pictures(7, seed=4)
    async with open_scorers(["tiny-levels.video"], [tmp_path], CPU) as (scorer,):
        score = await scorer.score(decoded(pixels))
    means = means_of(pixels)
    native = [float(shares(said(means[a:b].mean(), 2)) @ VALUES) for a, b in ((0, 3), (3, 5), (5, 7))]
    wanted = np.repeat((np.array(native) - 1) * 25, [3, 2, 2])
    assert score.frame_values == pytest.approx(wanted, abs=1e-3)
    assert score.value == pytest.approx(wanted.mean(), abs=1e-3)


def test_clips_keep_their_order() -> None:
    """Lengths fall, frames stay in order, nothing is lost."""
    for count, most in itertools.product(range(1, 40), (1, 2, 3, 31)):
        clips = [
            frame
            for group in split_into_clips(np.arange(count)[:, None], most_frames=most)
            for clip in group
            for frame in clip
        ]
        assert [int(frame[0]) for frame in clips] == list(range(count))


async def test_features_are_computed_once_for_all_who_ask(tmp_path: Path) -> None:
    """Three tasks of one scorer, and another scorer with the same encoder, run it once per different picture."""
    write_levels(tmp_path)
    write_levels(tmp_path, Written(name="sister", bias=BIAS + np.float32(1)), golden=_golden_of(tmp_path))
    runs: list[float] = []
    names = ["tiny-levels.quality", "tiny-levels.aesthetics", "tiny-levels.video", "sister"]
    pixels = pictures(4, seed=5)
    pixels[3] = pixels[0]
    async with open_scorers(names, [tmp_path], replace(CPU, on_run=runs.append)) as scorers:
        scores = await asyncio.gather(*(scorer.score(decoded(pixels)) for scorer in scorers))
        # 3 different pictures; 4 + 4 + 4 rows of single frames, clips of 2 and 2
        assert len(runs) == 3 + 4 + 4 + 2 + 4
        again = await scorers[0].score(decoded(pixels[:2]))
        assert len(runs) == 17 + 2
    assert again.frame_values == scores[0].frame_values[:2]
    assert scores[0].frame_values[0] == scores[0].frame_values[3]


def _golden_of(folder: Path) -> object:
    # A bias that is the same for all levels changes no probability, so the answers hold for both.
    return load_level_spec(folder / "tiny-levels@1.json").golden


async def test_the_same_segment_alone_and_in_company(tmp_path: Path) -> None:
    """The verdict does not depend on what else is being scored."""
    write_levels(tmp_path)
    segments = [decoded(pictures(1 + seed % 4, seed=seed)) for seed in range(12)]
    async with open_scorers(["tiny-levels.video"], [tmp_path], CPU) as (scorer,):
        alone = [await scorer.score(segment) for segment in segments]
    async with open_scorers(["tiny-levels.video"], [tmp_path], CPU) as (scorer,):
        assert alone == await asyncio.gather(*(scorer.score(segment) for segment in segments))


async def test_comparisons_become_a_place_among_anchors(tmp_path: Path) -> None:
    """The native value explains the comparisons best: the gradient of what is maximised is nought."""
    write_levels(tmp_path, Written(compares=True, name="c"))
    pixels = pictures(2, seed=6) // 2
    async with open_scorers(["c"], [tmp_path], CPU) as (scorer,):
        score = await scorer.score(decoded(pixels))
        assert scorer.id == "c.anchors@1"
    weights = np.array([1, 0.75, 0.5, 0.25, 0])
    for mean, found in zip(means_of(pixels), score.frame_values, strict=True):
        preferred = [float(shares(said(mean / 2, question)) @ weights) for question in (0, 1)]
        wins = np.array([[0.5, 0.2, 1 - preferred[0]], [0.8, 0.5, 1 - preferred[1]], [*preferred, 0.5]])
        scores = np.zeros(3)
        for _ in range(20000):
            falling = 1 / (1 + np.exp(scores[:, None] - scores))
            pull = wins * falling
            scores += 0.05 * ((pull - pull.T).sum(axis=1) - scores)
        assert found == pytest.approx(100 * (scores[2] - scores.min()) / np.ptp(scores), abs=1e-3)


async def test_two_arms_are_compared_directly(tmp_path: Path) -> None:
    """The brighter arm is preferred, as much as the other one is not, and an arm against itself is a tie."""
    write_levels(tmp_path, Written(compares=True, name="c"))
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
    ab, ba = (shares(said(b - a / 2, 2)) @ weights for a, b in (means, means[::-1]))
    assert forward[0] == pytest.approx((ab + 1 - ba) / 2, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("c.pair", "pair compares pictures; it does not score segments"),
        ("c.beauty", "no task 'beauty'; its tasks: anchors, pair"),
        ("tiny-level", "did you mean 'tiny-levels'"),
    ],
)
async def test_a_task_that_cannot_be_asked(tmp_path: Path, name: str, says: str) -> None:
    """Wrong names are refused with what there is."""
    write_levels(tmp_path, Written(compares=True, name="c"))
    write_levels(tmp_path)
    with pytest.raises(ScorerError, match=says):
        async with open_scorers([name], [tmp_path], CPU):
            pass


async def test_a_scorer_without_pairs(tmp_path: Path) -> None:
    """A scorer that cannot compare says so."""
    write_levels(tmp_path)
    with pytest.raises(ScorerError, match="no such task for pairs; its tasks: quality, aesthetics, video"):
        async with open_pair_scorer("tiny-levels", [tmp_path], CPU):
            pass


async def test_the_golden_answers_are_asked_at_load(tmp_path: Path) -> None:
    """A head in another order, or another encoder, is refused with task, size of the miss and remedy."""
    write_levels(tmp_path, Written(bias=BIAS[:, ::-1].copy()))
    says = r"tiny-levels@1: self-test on cpu: aesthetics of 1 golden frames is .* export the bundle again"
    with pytest.raises(ScorerError, match=says):
        async with open_scorers(["tiny-levels"], [tmp_path], CPU):
            pass


async def test_bfloat16_is_refused_with_a_remedy(tmp_path: Path) -> None:
    """Features are kept by the host, which has no such numbers."""
    write_levels(tmp_path, feature_dtype="bfloat16")
    with pytest.raises(ScorerError, match="export it as fp16"):
        async with open_scorers(["tiny-levels"], [tmp_path], CPU):
            pass


@dataclass
class Lost:
    """A real graph behind a device that is lost after some runs."""

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

    def fall_back(self, why: str) -> GraphEngine:
        return self.engine.fall_back(why)


@pytest.mark.parametrize("encoder_runs", [0, 1, 99])
@pytest.mark.parametrize("language_runs", [0, 1])
async def test_a_device_lost_within_a_segment(tmp_path: Path, encoder_runs: int, language_runs: int) -> None:
    """Either graph's device may go: the verdict is the same, and the event says where it was made and why."""
    spec = load_level_spec(write_levels(tmp_path))
    segments = [decoded(pictures(5, seed=seed)) for seed in (1, 2)]
    async with SharedGraphs() as hosts:
        sound = open_level_model(spec, tmp_path, CPU.placement, hosts)
        task = spec.task("video")
        wanted = [await LevelScorer(sound, task, deadline_seconds=60).score(each) for each in segments]
        parts = []
        for host, runs_left in ((sound.encoder, encoder_runs), (sound.language, language_runs)):
            lost = Lost(engine=host.load_engine, runs_left=runs_left)
            batcher = hosts.add_batcher(lost, CPU.placement)
            parts.append(SharedGraph(host.load_engine, batcher, sha256="b" * 64, cache=OutputCache()))
        scorer = LevelScorer(LevelModel(spec, *parts), task, deadline_seconds=60)
        assert [await scorer.score(each) for each in segments] == wanted
        where = scorer.identity.device
    assert ("cuda + cpu" if encoder_runs == 99 else "cpu") in where
    assert "(fallback: " in where
    assert "CUDA failure 719" in where
