"""The 4-parameter logistic function that maps predictions to human scores before PLCC and RMSE are computed.

VQEG, "Final report from the Video Quality Experts Group on the validation of objective models of video quality
assessment, Phase II", 2003: y = (b1 - b2) / (1 + exp(-(x - b3) / |b4|)) + b2. Fitted by least squares with the
Levenberg-Marquardt method (Marquardt, J. SIAM 1963).

Where the correlation is low, the squared error has several minima, and the one that is found depends on the starting
values. So the fit starts from several directions, centres and widths, and the smallest squared error counts. A step
between two neighbouring predictions often has the smallest error of a few noisy items; it counts only where the usual
start (highest and lowest score, mean prediction, a quarter of its deviation) ends in a step too.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_MAX_ITERATIONS = 500
_MAX_REFIT_ITERATIONS = 25
_MAX_DAMPING = 1e12
_TOLERANCE = 1e-13
"""Relative decrease of the squared error below which a fit has converged."""
_REFIT_TOLERANCE = 1e-5
"""The same for resamples: changes a correlation by 5e-6 at most, far less than resampling does."""
_START_WIDTHS = (0.25, 1.0, 0.05)
"""Starting values of |b4|, in standard deviations of the predictions."""
_START_QUANTILES = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Starting values of b3, as quantiles of the predictions; the mean is one too."""
_COARSE_ITEMS, _COARSE_ITERATIONS, _COARSE_TOLERANCE = 2000, 60, 1e-7
"""How far each start is followed, and on how many items at most, before the best ones are continued."""
_CONTINUED = 4
_MIN_WIDTH = 0.05
"""Below this |b4|, in standard deviations of the predictions, a fit is a step."""
_MAX_EXPONENT = 500.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Logistic:
    """A fitted logistic function: from `lower` to `upper`, half way at `centre`; it falls when `upper` < `lower`."""

    upper: float
    lower: float
    centre: float
    # above 0; the logistic rises from 27 % to 73 % of its range from centre - width to centre + width
    width: float

    def __call__(self, predictions: Floats) -> Floats:
        """Predictions mapped to the scale of the human scores."""
        parameters = np.array([[self.upper, self.lower, self.centre, self.width]])
        return np.asarray(_evaluate(parameters, np.asarray(predictions, dtype=np.float64)[None])[0][0])


def fit_logistic(predictions: Floats, scores: Floats) -> Logistic:
    """The least-squares fit to items (items,): of several starts, the one with the smallest squared error.

    Without variance in the predictions the function is constant: the mean of the scores.
    """
    centre, scale = float(predictions.mean()), float(predictions.std())
    mean, spread = float(scores.mean()), float(scores.std())
    if scale == 0 or spread == 0 or len(predictions) < 4:
        return Logistic(upper=mean, lower=mean, centre=centre, width=max(scale, 1.0))
    x, y = (predictions - centre)[None] / scale, (scores - mean)[None] / spread
    starts = _continued_starts(x, y)
    parameters, errors = _fit(np.tile(x, (len(starts), 1)), np.tile(y, (len(starts), 1)), starts)
    is_step = np.abs(parameters[:, 3]) < _MIN_WIDTH
    best = int(np.argmin(errors if is_step[0] else np.where(is_step, np.inf, errors)))
    upper, lower, middle, width = parameters[best].tolist()
    return Logistic(
        upper=upper * spread + mean,
        lower=lower * spread + mean,
        centre=middle * scale + centre,
        width=abs(width) * scale,
    )


def _continued_starts(x: Floats, y: Floats) -> Floats:
    """Parameters (starts, 4) after a few iterations: the usual start, then those that fit items (1, items) best."""
    ends = (float(y.max()), float(y.min()))
    if float((x * y).sum()) < 0:
        ends = ends[::-1]
    centres = dict.fromkeys([0.0, *np.quantile(x, _START_QUANTILES).tolist()])
    starts = np.array(
        [[*each, centre, width] for each in (ends, ends[::-1]) for centre in centres for width in _START_WIDTHS]
    )
    rows = np.argsort(x[0], kind="stable")[:: -(-x.shape[1] // _COARSE_ITEMS)]
    parameters, errors = _fit(
        np.tile(x[:, rows], (len(starts), 1)),
        np.tile(y[:, rows], (len(starts), 1)),
        starts,
        tolerance=_COARSE_TOLERANCE,
        iterations=_COARSE_ITERATIONS,
    )
    return np.asarray(parameters[[0, *np.argsort(errors, kind="stable")[:_CONTINUED]]])


def refit_mapped(logistic: Logistic, predictions: Floats, scores: Floats) -> Floats:
    """Fit each resample (resamples, items), starting from the fit of the whole sample; the mapped predictions."""
    centre, scale = predictions.mean(), predictions.std()
    mean, spread = scores.mean(), scores.std()
    if scale == 0 or spread == 0:
        return np.broadcast_to(scores.mean(axis=1, keepdims=True), scores.shape)
    x, y = (predictions - centre) / scale, (scores - mean) / spread
    start = [
        (logistic.upper - mean) / spread,
        (logistic.lower - mean) / spread,
        (logistic.centre - centre) / scale,
        logistic.width / scale,
    ]
    parameters, _ = _fit(
        x, y, np.tile(start, (len(x), 1)), tolerance=_REFIT_TOLERANCE, iterations=_MAX_REFIT_ITERATIONS
    )
    return np.asarray(_evaluate(parameters, x)[0] * spread + mean)


def _evaluate(parameters: Floats, x: Floats) -> tuple[Floats, Floats]:
    """The function's values (rows, items) for parameters (rows, 4), and the logistic part, 0..1."""
    upper, lower, centre, width = (parameters[:, index, None] for index in range(4))
    exponent = np.clip(-(x - centre) / np.maximum(np.abs(width), 1e-12), -_MAX_EXPONENT, _MAX_EXPONENT)
    part = 1 / (1 + np.exp(exponent))
    return (upper - lower) * part + lower, part


def _fit(
    x: Floats, y: Floats, start: Floats, *, tolerance: float = _TOLERANCE, iterations: int = _MAX_ITERATIONS
) -> tuple[Floats, Floats]:
    """Parameters (rows, 4) of each row of x and y, and the squared errors (rows,)."""
    parameters = start.copy()
    damping = np.full(len(x), 1e-3)
    errors = ((y - _evaluate(parameters, x)[0]) ** 2).sum(axis=1)
    active = np.arange(len(x))
    for _ in range(iterations):
        steps = _damped_steps(parameters[active], x[active], y[active], damping[active])
        candidates = parameters[active] + steps
        candidate_errors = ((y[active] - _evaluate(candidates, x[active])[0]) ** 2).sum(axis=1)
        is_better = candidate_errors <= errors[active]
        decrease = np.where(is_better, errors[active] - candidate_errors, np.inf)
        accepted = active[is_better]
        parameters[accepted], errors_before = candidates[is_better], errors[active]
        errors[accepted] = candidate_errors[is_better]
        damping[active] *= np.where(is_better, 0.2, 4.0)
        damping = np.maximum(damping, 1e-15)
        is_done = (decrease <= tolerance * errors_before) | (damping[active] > _MAX_DAMPING)
        active = active[~is_done]
        if not len(active):
            break
    return parameters, errors


def _damped_steps(parameters: Floats, x: Floats, y: Floats, damping: Floats) -> Floats:
    """The steps (rows, 4) that solve (J'J + damping * diag(J'J)) step = J'(y - f)."""
    values, part = _evaluate(parameters, x)
    upper, lower, centre, width = (parameters[:, index, None] for index in range(4))
    safe_width = np.maximum(np.abs(width), 1e-12)
    slope = (upper - lower) * part * (1 - part) / safe_width
    columns = (part, 1 - part, -slope, -slope * (x - centre) / safe_width * np.where(width < 0, -1.0, 1.0))
    residuals = y - values
    normal = np.empty((len(x), 4, 4))
    gradient = np.empty((len(x), 4))
    for row, left in enumerate(columns):
        gradient[:, row] = (left * residuals).sum(axis=1)
        for column in range(row, 4):
            normal[:, row, column] = normal[:, column, row] = (left * columns[column]).sum(axis=1)
    diagonal = np.einsum("rii->ri", normal)
    diagonal += damping[:, None] * np.maximum(diagonal, 1e-9)
    steps: Floats = np.linalg.solve(normal, gradient[..., None])[..., 0].astype(np.float64)
    return steps
