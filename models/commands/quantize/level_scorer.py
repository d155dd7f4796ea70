"""Makes the 8-bit form of a level scorer (Q-Align and its variants), and holds it to the weights in float32.

Its activations are rounded to ranges of each run, so nothing is calibrated: all pictures are held out.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray

from models.commands.quantize.human_scores import NOT_MEASURED, RatedFiles, measure_loss
from models.data.csv_scores import DataError
from models.export.graphs import Weights
from models.export.owl import LevelScorerRecipe, encode_pictures, write_level_scorer
from models.verify.owl import reference_task_logits
from models.verify.owl_runner import LevelScorerRunner, expected_levels
from vqmon.core.evaluation.correlations import spearman
from vqmon.core.types import Pixels
from vqmon.scoring.manifests.level_scorer import LevelScorerSpec, TaskSpec, load_level_spec, save_level_spec

_INT8 = "int8"
_MIN_PICTURES = 12


def quantize_level_scorer(
    recipe: LevelScorerRecipe, weights: Weights, pictures: Sequence[Pixels], *, max_loss: float, folder: Path,
    threads: int, max_embedded_bytes: int, rated: RatedFiles | None = None, rated_pictures: Sequence[Pixels] = (),
) -> Iterator[str]:  # fmt: skip
    """Write `NAME-int8@VERSION` into `folder`; what was done, line by line.

    `pictures` are squares (448, 448, 3), each scored by every task that takes one picture. Raises DataError when
    1 - SRCC with the weights in float32 is above `max_loss` for any task, or what is lost of the SRCC with the human
    scores of `rated`, whose pictures are `rated_pictures`, for the first one: an earlier form is kept then.
    """
    if len(pictures) < _MIN_PICTURES:
        raise DataError(f"{len(pictures)} files are too few: {_MIN_PICTURES} are needed, or more")
    with TemporaryDirectory(dir=folder, prefix=".quantize-") as temporary:
        manifest = write_level_scorer(
            recipe, weights, precision=_INT8, folder=Path(temporary), max_embedded_bytes=max_embedded_bytes
        )
        yield f"{manifest.name} is made; {len(pictures)} pictures are scored by it and by the weights in float32"
        follows = {}
        rounded = _scores(manifest, pictures, threads=threads)
        spec = load_level_spec(manifest)
        exact = _reference_scores(recipe, weights, pictures, spec)
        for task, scores in rounded.items():
            follows[task] = float(spearman(scores, exact[task]))
            apart = float(np.abs(scores - exact[task]).max())
            yield f"{task}: SRCC with float32 {follows[task]:.4f}, native values at most {apart:.4f} apart"
        # scores that are all alike have no rank correlation
        worst = min(follows, key=lambda task: np.nan_to_num(follows[task], nan=-1.0))
        if not 1 - follows[worst] <= max_loss:
            raise DataError(
                f"8 bits cost too much: SRCC {follows[worst]:.4f} with float32 for {worst}, {1 - max_loss:g} is asked "
                "for; export it as int8-weights, whose activations stay in float32, or as fp16 for a GPU, or allow "
                "more by --max-loss"
            )
        described = ", ".join(f"{task} {value:.4f}" for task, value in follows.items())
        provenance = {**spec.provenance, "SRCC with float32": f"{described}, of {len(pictures)} pictures"}
        if rated is None:
            yield NOT_MEASURED
        else:
            task = _picture_tasks(spec)[0].name
            rounded = _scores(manifest, rated_pictures, threads=threads)
            exact = _reference_scores(recipe, weights, rated_pictures, spec)
            loss = measure_loss(rated, exact[task], rounded[task], max_loss=max_loss)
            yield f"{task}: {loss.describe()}"
            if not loss.is_allowed:
                raise DataError(f"8 bits cost too much: {loss.describe()}; export it as int8-weights or fp16")
            provenance["human scores"] = f"{task}, {loss.describe()}"
        save_level_spec(replace(spec, provenance=provenance), manifest)
        # the manifest last: a bundle without one is not served
        for file in sorted(manifest.parent.iterdir(), key=lambda path: path == manifest):
            file.replace(folder / file.name)
    yield f"written: {folder / manifest.name}"


def _scores(manifest: Path, pictures: Sequence[Pixels], *, threads: int) -> Mapping[str, NDArray[np.float64]]:
    """Native scores of the exported graphs, by task."""
    runner = LevelScorerRunner(manifest, threads=threads)
    features = [runner.encode(picture[None]) for picture in pictures]
    return {
        task.name: _native(np.concatenate([runner.run_task([each], task) for each in features]), runner.spec)
        for task in _picture_tasks(runner.spec)
    }


def _reference_scores(
    recipe: LevelScorerRecipe, weights: Weights, pictures: Sequence[Pixels], spec: LevelScorerSpec
) -> Mapping[str, NDArray[np.float64]]:
    """The same of the weights in float32, with one layer of them in memory at a time."""
    frames = [torch.from_numpy(picture).permute(2, 0, 1) for picture in pictures]
    features = encode_pictures(recipe, weights, frames).numpy()
    return {
        task.name: _native(reference_task_logits(recipe, weights, [each[None] for each in features], task), spec)
        for task in _picture_tasks(spec)
    }


def _picture_tasks(spec: LevelScorerSpec) -> list[TaskSpec]:
    return [task for task in spec.tasks if task.least_frames == 1]


def _native(logits: NDArray[np.float32], spec: LevelScorerSpec) -> NDArray[np.float64]:
    """Logits (pictures, questions, levels) -> native values (pictures)."""
    return expected_levels(logits, spec).mean(1, dtype=np.float64)
