"""Reads the sheet of an exported scorer whose graphs compute a feature input of another scorer."""

import json
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter, ValidationError

from models.export.assembly.assembly import FeatureInput, PixelInput
from models.export.assembly.writer import GOLDEN_ROWS, SharedFeatures, read_sheet_inputs
from models.weights import WeightsError
from vqmon.scoring.manifests.composite_scorer import StepSpec

_STEPS = TypeAdapter(tuple[StepSpec, ...])


def read_shared_features(sheet: Path, feature: FeatureInput, *, precision: str, folder: Path) -> SharedFeatures:
    """The graphs that compute `feature`; raises WeightsError when they are in another folder than `folder`, or do not
    fit."""
    if sheet.resolve().parent != folder.resolve():
        raise WeightsError(
            f"{sheet}: its graphs must be in the folder that is written to, {folder}: name that folder by --built"
        )
    try:
        table = json.loads(sheet.read_text())
        inputs, steps = read_sheet_inputs(table, folder), _STEPS.validate_python(table["steps"])
        golden = dict(table["golden"])
        output, sheet_precision = golden[feature.name], table["form"]
        rows = np.array(output["values"], dtype=np.float32).reshape(output["shape"])
    except OSError as error:
        raise WeightsError(f"{sheet}: cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        raise WeightsError(f"{sheet}: not a sheet that makes {feature.name}: export it again ({error!r})") from error
    if sheet_precision != precision:
        raise WeightsError(f"{sheet}: is {sheet_precision}, this export is {precision}: use the same --dtype for both")
    if rows.shape != (GOLDEN_ROWS, *feature.shape):
        raise WeightsError(f"{sheet}: {feature.name} has shape {rows.shape[1:]}, this scorer needs {feature.shape}")
    pixels = tuple(each for each in inputs if isinstance(each, PixelInput))
    if len(pixels) != len(inputs):
        raise WeightsError(f"{sheet}: needs features of another scorer itself: export it again")
    return SharedFeatures(inputs=pixels, steps=steps, golden=golden, rows=rows)
