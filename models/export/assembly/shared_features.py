"""Another scorer's sheet read again, so that its steps make what a scorer would be given."""

import json
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter, ValidationError

from models.export.assembly.assembly import Given, Source
from models.export.assembly.writer import GOLDEN_ROWS, Joined
from models.verify.assembly import read_sources
from models.weights import WeightsError
from vqmon.scoring.manifests.composite_scorer import StepSpec

_STEPS = TypeAdapter(tuple[StepSpec, ...])


def read_joined(sheet: Path, wanted: Given, *, form: str, folder: Path) -> Joined:
    """What makes `wanted`, by its own name; raises WeightsError: the graphs lie in another folder, or do not fit."""
    if sheet.resolve().parent != folder.resolve():
        raise WeightsError(
            f"{sheet}: its graphs must lie beside those that are written, in {folder}: name it by --built"
        )
    try:
        table = json.loads(sheet.read_text())
        sources, steps = read_sources(table, folder), _STEPS.validate_python(table["steps"])
        golden = dict(table["golden"])
        said, is_form = golden[wanted.name], table["form"]
        rows = np.array(said["values"], dtype=np.float32).reshape(said["shape"])
    except OSError as error:
        raise WeightsError(f"{sheet}: cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        raise WeightsError(f"{sheet}: is no sheet that makes {wanted.name}: export it again ({error!r})") from error
    if is_form != form:
        raise WeightsError(f"{sheet}: is {is_form}, this export is {form}: export both alike (--dtype)")
    if rows.shape != (GOLDEN_ROWS, *wanted.shape):
        raise WeightsError(f"{sheet}: gives {wanted.name} of {rows.shape[1:]}, {wanted.shape} are taken")
    pixels = tuple(each for each in sources if isinstance(each, Source))
    if len(pixels) != len(sources):
        raise WeightsError(f"{sheet}: takes features of another scorer itself: export it again")
    return Joined(sources=pixels, steps=steps, golden=golden, rows=rows)
