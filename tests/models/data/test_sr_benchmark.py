"""The benchmark that makes itself: measures, tiers, small upscaling networks, and a tiny set from end to end."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import skimage.data  # noqa: E402

from models.data import sr_benchmark  # noqa: E402
from models.data.csv_scores import DataError, read_scored_rows  # noqa: E402
from models.data.sr_benchmark import (  # noqa: E402  # noqa: E402
    BenchmarkClip,
    BenchmarkConfig,
    format_accuracy_table,
    gmsd,
    measure_fidelity,
    pairwise_accuracy,
    quality_label,
    read_benchmark,
    read_scores_by_scorer,
    write_benchmark,
)
from models.data.upscalers import downscale  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]


PICTURE = np.asarray(skimage.data.astronaut())[:320, :320]


def entry(score: float, *, group: str = "one", scale: int = 2) -> BenchmarkClip:
    """A clip with this label; nothing else counts."""
    return BenchmarkClip(
        path="a.mp4", score=score, group=group, scale=scale, method="nearest", crf=18, psnr=30, ssim=0.9, gmsd=0.1
    )


def test_measures_of_the_clean_picture_are_perfect() -> None:
    """No error: PSNR at its cap, SSIM 1, GMSD 0, label 1."""
    frames = PICTURE[None]
    fidelity = measure_fidelity(frames, frames)
    assert fidelity == pytest.approx((78.13, 1, 0), abs=0.01)
    assert quality_label(*fidelity) == 1.0


def test_psnr_of_a_known_error_is_as_by_hand() -> None:
    """Every luma value off by 5: 10 log10(255^2 / 25) = 34.15 dB."""
    grey = np.full((1, 64, 64, 3), 100, np.uint8)
    assert measure_fidelity(grey + np.uint8(5), grey)[0] == pytest.approx(34.151, abs=0.001)


def test_gmsd_grows_with_blur_and_ignores_a_shift_of_level() -> None:
    """Gradients alone count, and where they are lost the deviation rises."""
    base = sr_benchmark.luma(PICTURE[None])[0]
    once, twice = (
        sr_benchmark.luma(np.kron(downscale(PICTURE, scale), np.ones((scale, scale, 1))).astype(np.uint8)[None])[0]
        for scale in (4, 8)
    )
    assert gmsd(base + 20, base) == pytest.approx(0, abs=1e-12)
    assert 0.01 < gmsd(once, base) < gmsd(twice, base)


def test_pairs_fall_into_tiers_by_how_far_labels_are_apart() -> None:
    """Labels 0, 0.1, 0.5 and scores 1, 0, 2: the near pair is wrong and hard, the far ones are right."""
    entries = [entry(0.0), entry(0.1), entry(0.5)]
    accuracy = pairwise_accuracy(entries, [1.0, 0.0, 2.0])
    assert accuracy == {"easy": (1.0, 1), "moderate": (1.0, 1), "hard": (0.0, 1), "all": (pytest.approx(2 / 3), 3)}
    assert pairwise_accuracy(entries, [7.0, 7.0, 7.0])["all"] == (0.5, 3)
    with pytest.raises(ValueError, match="too few pairs"):
        pairwise_accuracy([entry(0.0), entry(0.5, group="other"), entry(0.9, scale=4)], [0.0, 1.0, 2.0])


def test_a_tiny_set_is_made_written_and_read_back(tmp_path: Path) -> None:
    """One content, two ways, two rates: a lower rate and a cruder kernel have the lower label."""
    plan = BenchmarkConfig(photos=("coffee",), methods=("nearest", "lanczos"), scales=(4,), rates=(18, 38))
    entries = list(sr_benchmark.make_benchmark(tmp_path, plan))
    assert [(entry.method, entry.crf) for entry in entries] == [
        ("nearest", 18),
        ("nearest", 38),
        ("lanczos", 18),
        ("lanczos", 38),
    ]
    scores = {(entry.method, entry.crf): entry.score for entry in entries}
    assert scores["nearest", 38] < scores["nearest", 18] < scores["lanczos", 18] > scores["lanczos", 38]
    assert read_benchmark(tmp_path / "set.csv") == entries
    assert [row.group for row in read_scored_rows(tmp_path / "set.csv")] == ["coffee"] * 4
    assert sr_benchmark.decode_clip(tmp_path / entries[0].path).shape == (sr_benchmark.FRAMES, 360, 640, 3)
    write_benchmark(tmp_path / "again.csv", entries)
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "set.csv").read_bytes()


def test_scorers_are_compared_from_the_events_of_the_daemon(tmp_path: Path) -> None:
    """A scorer that agrees with the labels, one that opposes them, and the rate alone; a lost clip is named."""
    entries = [replace(entry(score), path=f"clip {n}.mp4", crf=18) for n, score in enumerate((0.0, 0.1, 0.5))]
    lines = [
        json.dumps({"data": {"segment": {"url": f"file:///set/clip%20{n}.mp4"}, "scores": [
            {"scorer": "good@1", "value": 10.0 * n}, {"scorer": "bad@1", "value": -n}]}})
        for n in range(3)
    ]  # fmt: skip
    events = tmp_path / "events.ndjson"
    events.write_text("\n".join(lines))
    rows = format_accuracy_table(entries, read_scores_by_scorer(events)).splitlines()
    assert rows[2:] == [
        "| bitrate alone (CRF) | 50.0% | 50.0% | 50.0% | 50.0% |",
        "| good@1 | 100.0% | 100.0% | 100.0% | 100.0% |",
        "| bad@1 | 0.0% | 0.0% | 0.0% | 0.0% |",
        "| pairs | 1 | 1 | 1 | 3 |",
    ]
    events.write_text("\n".join(lines[:2]))
    with pytest.raises(DataError, match="1 clips have no score, clip 2"):
        format_accuracy_table(entries, read_scores_by_scorer(events))
    events.write_text("no event")
    with pytest.raises(DataError, match="line 1"):
        read_scores_by_scorer(events)
