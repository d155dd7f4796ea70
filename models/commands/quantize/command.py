"""`python -m models quantize NAME --clips FOLDER`: the 8-bit form of a scorer, for hosts without a GPU."""

import argparse
import zlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm  # type: ignore[import-untyped]

from models.commands import owl
from models.commands.quantize.human_scores import read_rated_files
from models.commands.quantize.level_scorer import quantize_level_scorer
from models.commands.quantize.scorer import FLOAT, Segment, quantize_scorer
from models.data.csv_scores import PICTURE_SUFFIXES, DataError, read_frames
from models.export.assembly import published
from models.export.assembly.assembly import AssemblyInput, PixelInput
from models.export.assembly.writer import read_sheet_inputs
from models.networks.owl import q_align
from models.train.features.decoder_views import make_row
from models.verify.assembly import AssemblyRunner

NAMES = (*published.PUBLISHED_SCORERS, *owl.RECIPES_WITHOUT_ANCHORS)
_CLIP_SUFFIXES = (".mp4", ".mkv", ".webm", ".mov", ".ts", ".m4s", ".avi", ".y4m")
_MAX_FILES = 60
_HELD_OUT_EVERY = 3


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    command.add_argument(
        "--clips",
        type=Path,
        help="folder of your own pictures and clips, with which the 8-bit form is calibrated and compared with float32",
    )
    command.add_argument(
        "--data", type=Path, metavar="CSV",
        help="evaluation set with the columns path and score: what 8 bits lose of the rank correlation with its human "
        "scores is measured, and a form that loses more than --max-loss is refused",
    )  # fmt: skip
    command.add_argument(
        "--max-loss", type=float, default=0.005,
        help="allowed loss of rank correlation: with the scores in float32, on the files of --clips that do not "
        "calibrate (a third of them; all, for scorers that are made of their weights), and with human scores, on those "
        "of --data",
    )  # fmt: skip
    owl.add_weights_arguments(command.add_argument_group(", ".join(owl.RECIPES_WITHOUT_ANCHORS)))


def run(options: argparse.Namespace) -> None:
    """Write NAME-int8@VERSION beside NAME-fp32@VERSION in `--built`; raises DataError.

    At most 60 of the files are used, at equal distances in the order of their names; every third is held out. Q-Align
    and its variants are made of their weights, and held to them on all files.
    """
    if options.name in owl.RECIPES_WITHOUT_ANCHORS:
        _run_level_scorer(options)
        return
    if options.weights:
        raise DataError(f"--weights: {options.name} is made of its {FLOAT} form; leave them out")
    sheet = options.built / f"{options.name.replace('_', '-')}-{FLOAT}@{options.version}.parts.json"
    if not sheet.is_file():
        raise DataError(f"{sheet}: no such sheet; export the scorer with --dtype {FLOAT} first, or name --built FOLDER")
    files, rated = find_files(options.clips), read_rated_files(options.data)
    inputs = read_sheet_inputs(AssemblyRunner(sheet).table, sheet.parent)
    segments = [_make_segment(file, inputs) for file in tqdm(files, unit="file", desc="views")]
    held_out = segments[_HELD_OUT_EVERY - 1 :: _HELD_OUT_EVERY]
    calibration = [each for index, each in enumerate(segments) if index % _HELD_OUT_EVERY != _HELD_OUT_EVERY - 1]
    for line in quantize_scorer(
        sheet, calibration, held_out, max_loss=options.max_loss, threads=options.threads, rated=rated,
        read_segment=partial(_make_segment, inputs=inputs),
    ):  # fmt: skip
        print(line, flush=True)


def _run_level_scorer(options: argparse.Namespace) -> None:
    files, environment = find_files(options.clips), owl.default_environment(options)
    loaded, recipe = owl.load_recipe(options, environment)
    rated = read_rated_files(options.data)
    pictures, rated_pictures = (
        [q_align.pad_to_square(Image.fromarray(read_frames(file, count=1)[0])).copy() for file in each]
        for each in (files, rated.files if rated else ())
    )
    options.built.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(options.threads)
    for line in quantize_level_scorer(
        recipe, loaded.checkpoint, pictures, max_loss=options.max_loss, folder=options.built, threads=options.threads,
        max_embedded_bytes=environment.max_embedded_bytes, rated=rated, rated_pictures=rated_pictures,
    ):  # fmt: skip
        print(line, flush=True)


def find_files(folder: Path | None) -> list[Path]:
    """Pictures and clips of a folder and its sub-folders, at most 60; raises DataError."""
    if folder is None or not folder.is_dir():
        raise DataError("name a folder with some dozens of pictures or clips of your own: --clips FOLDER")
    files = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in (*PICTURE_SUFFIXES, *_CLIP_SUFFIXES)]
    if not files:
        raise DataError(
            f"{folder}: holds no pictures or clips ({', '.join((*sorted(PICTURE_SUFFIXES), *_CLIP_SUFFIXES))})"
        )
    numbers = np.unique(np.linspace(0, len(files) - 1, _MAX_FILES).round().astype(int))
    return [files[number] for number in numbers]


def _make_segment(file: Path, inputs: Sequence[AssemblyInput]) -> Segment:
    """The source arrays of a file, one row each; raises DataError for an input that no file has."""
    pixels = [each for each in inputs if isinstance(each, PixelInput)]
    if len(pixels) < len(inputs):
        other = next(each.name for each in inputs if not isinstance(each, PixelInput))
        raise DataError(f"the scorer takes {other}, which no file of pictures has")
    frames = read_frames(file, count=max(each.frames for each in pixels))
    seed = zlib.crc32(file.read_bytes())
    try:
        return {each.name: make_row(each, frames, seed=seed) for each in pixels}
    except ValueError as error:
        raise DataError(f"{file}: {error}") from error
