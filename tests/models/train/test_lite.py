"""Lite's training batches: mirrored tiles, the split, the learning rate of the head, the choice of clips."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from models.networks.lite import MEAN, STD  # noqa: E402
from models.train import lite  # noqa: E402
from models.train.lite import LiteTask, predict_pictures, tiles_to_tensor  # noqa: E402
from tests.models.lite_training import CONFIG, tiny_trainer, training_set  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]


@pytest.fixture(scope="module")
def task() -> LiteTask:
    task = tiny_trainer(training_set()).task
    assert isinstance(task, LiteTask)
    return task


def test_tiles_are_normalised_channels_first() -> None:
    """Black and white pixels become (0 - mean) / std and (1 - mean) / std of each channel."""
    tiles = np.zeros((2, 96, 128, 3), np.uint8)
    tiles[1] = 255
    tensor = tiles_to_tensor(tiles)
    assert tensor.shape == (2, 3, 96, 128)
    for channel, (mean, std) in enumerate(zip(MEAN, STD, strict=True)):
        assert tensor[0, channel].unique().tolist() == pytest.approx([-mean / std], rel=1e-5)
        assert tensor[1, channel].unique().tolist() == pytest.approx([(1 - mean) / std], rel=1e-5)


def test_drawn_tiles_come_from_different_cells() -> None:
    """On a canvas whose pixels name their column and row, twelve tiles lie in all twelve parts of the canvas."""
    y, x = np.mgrid[0:540, 0:960]
    canvas = np.stack([x * 255 // 959, y * 255 // 539, np.zeros_like(x)], -1).astype(np.uint8)
    tiles = lite._draw_tiles(canvas, 12, random=np.random.default_rng(0))
    centres = tiles[:, 48, 64, :2].astype(float)
    assert tiles.shape == (12, 96, 128, 3)
    assert len({(round(cx), round(cy)) for cx, cy in centres}) == 12
    is_rising = [tile[48, 127, 0] > tile[48, 0, 0] for tile in tiles]
    assert len(set(is_rising)) == 1


def test_a_batch_depends_on_its_generator_alone(task: LiteTask) -> None:
    """The same generator gives the same tiles, scores and rungs; another one does not."""
    same = [task._photos(np.random.default_rng(3))[0] for _ in range(2)]
    np.testing.assert_array_equal(*same)
    assert (task._photos(np.random.default_rng(4))[0] != same[0]).any()


def test_photos_of_a_batch_are_training_photos(task: LiteTask) -> None:
    """No score of a validation photo is ever trained on."""
    held_out = set(task.training_set.scores[task.validation_rows].tolist())
    for seed in range(20):
        _, scores = task._photos(np.random.default_rng(seed))
        assert not held_out & set(scores.tolist())


def test_rungs_of_a_batch_are_sorted_and_share_their_tiles(task: LiteTask) -> None:
    """Steps rise from best to worst; each rung has `tiles` tiles, and the kind is that of its ladder."""
    tiles, steps, kinds = task._ladders(np.random.default_rng(0))
    ladders = CONFIG.ladders
    assert tiles.shape == (ladders.batch * ladders.rungs * CONFIG.tiles, 96, 128, 3)
    assert (steps.diff(dim=1) > 0).all()
    assert set(kinds.tolist()) <= {0, 1}


def test_the_head_learns_at_a_share_of_the_rate(task: LiteTask) -> None:
    """Weights of `direct` and `hidden` have the head's share, all others the full rate."""
    shares = {id(p): group["share"] for group in task.parameter_groups() for p in group["params"]}
    for name, parameter in task.network.named_parameters():
        assert shares[id(parameter)] == (CONFIG.head_share if name.startswith(("direct", "hidden")) else 1.0)


def test_validation_predicts_the_validation_rows(task: LiteTask) -> None:
    """One prediction and one score per row, as the network gives for whole pictures."""
    result = task.validate()
    expected = predict_pictures(task.network, task.training_set.canvases, task.validation_rows)
    torch.testing.assert_close(result.predicted, expected)
    assert result.target.tolist() == task.training_set.scores[task.validation_rows].tolist()


def test_only_clips_that_exist_are_encoded(tmp_path: Path) -> None:
    """At their own size and at all others; a missing clip is left out."""
    (tmp_path / "fire2.mp4").write_bytes(b"")
    inputs = lite._clip_inputs(tmp_path)
    assert {name for name, _ in inputs} == {"fire2.mp4"}
    assert [" ".join(arguments).rpartition("scale=")[2] for _, arguments in inputs[1:]] == [
        "854:480:flags=bicubic",
        "1920:1080:flags=bicubic",
    ]
