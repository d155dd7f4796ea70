"""Refits a product of matrices to what it gave before its inputs were rounded."""

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float32]


def refit_product(rows: Rows, targets: Rows, before: Rows, *, ridge: float) -> Rows:
    """The weight (width, outputs) that maps rows (n, width) to targets (n, outputs), drawn towards the weight `before`.

    Ridge regression of the change: argmin |rows (before + change) - targets|^2 + ridge * |rows|^2 / width * |change|^2.
    """
    exact = rows.astype(np.float64)
    gram = exact.T @ exact
    gram += ridge * np.trace(gram) / len(gram) * np.eye(len(gram))
    change = np.linalg.solve(gram, exact.T @ (targets - rows @ before).astype(np.float64))
    refitted: Rows = (before + change).astype(np.float32)
    return refitted
