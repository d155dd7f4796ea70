"""Pictures of a training: how it went, and what a network says against what people say."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure
from torch import Tensor

mpl.use("agg")
INK, ACCENT, SECOND = "#1f2933", "#0b7285", "#c2410c"


def curve(rows: Sequence[Mapping[str, float]], file: Path) -> None:
    """Loss and correlations against the step, as a PNG; `rows` hold step, loss, srcc and plcc."""
    steps = [row["step"] for row in rows]
    figure = Figure(figsize=(7, 3), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(steps, [row["loss"] for row in rows], color=INK)
    left.set(title="loss of the last step", xlabel="step")
    for name, colour in (("srcc", ACCENT), ("plcc", SECOND)):
        right.plot(steps, [row[name] for row in rows], color=colour, marker=".", label=name.upper())
    right.set(title="agreement on validation rows", xlabel="step")
    right.legend(frameon=False)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=120)


def scatter(predicted: Tensor, wanted: Tensor, file: Path) -> None:
    """What the network says against what people say, one dot per row, as a PNG."""
    figure = Figure(figsize=(4, 4), layout="constrained")
    axes = figure.subplots()
    axes.scatter(wanted.cpu(), predicted.cpu(), s=8, alpha=0.4, color=ACCENT, linewidths=0)
    axes.set(xlabel="people", ylabel="network", title=f"{len(wanted)} validation rows")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=120)
