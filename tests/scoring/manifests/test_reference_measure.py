"""The manifest of a learned reference measure."""

from pathlib import Path
from typing import Any

import pytest

from tests.scoring.tiny_measure import tiny_measure_spec, write_measure_bundle
from vqmon.errors import SettingsError
from vqmon.scoring.manifests.reference_measure import golden_pair, load_reference_spec


def test_a_manifest_is_read_as_it_was_written(tmp_path: Path) -> None:
    """With its id and with how pictures are prepared."""
    path = write_measure_bundle(tmp_path, short_side=256)
    spec = load_reference_spec(path)
    assert spec == tiny_measure_spec(short_side=256)
    assert (spec.id, spec.preprocessing_id) == ("tiny-distance@1", "short-side-256")
    assert tiny_measure_spec().preprocessing_id == "canvas"
    assert golden_pair(spec.golden).shape == (2, spec.golden.height, spec.golden.width, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"short_side": 8}, "short_side must be 0"),
        ({"min_side_px": 64}, "golden pictures no smaller"),
        ({"name": "Bad Name"}, "not the id of a measure"),
    ],
)
def test_facts_that_contradict_each_other_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny_measure_spec(**changes)


def test_a_manifest_with_a_wrong_key_names_file_and_key(tmp_path: Path) -> None:
    path = write_measure_bundle(tmp_path)
    path.write_text(path.read_text().replace('"short_side"', '"long_side"'))
    with pytest.raises(SettingsError, match=r"tiny-distance@1\.json: .*long_side"):
        load_reference_spec(path)
