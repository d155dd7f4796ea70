"""Formats the manifest of an exported pair for its model card."""

from pathlib import Path

from vqmon.scoring.manifests.frame_scorer import load_frame_spec


def format_model_card(manifest: Path) -> str:
    """A Markdown table of a manifest's facts."""
    spec = load_frame_spec(manifest)
    view = spec.input.view
    rows = {
        "scorer": spec.id,
        "file": f"{spec.size_bytes / 2**20:.1f} MiB, sha256 `{spec.sha256}`",
        "view": f"{view.kind} {view.width} x {view.height}, short side {view.short_side} px",
        "native range": f"{spec.native_range[0]:g} .. {spec.native_range[1]:g}",
        "calibration": ", ".join(f"{native:g} -> {score:g}" for native, score in spec.calibration.points),
        "licence": f"{spec.licence.name}: {spec.licence.note}",
        **spec.provenance,
    }
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])
