"""How well scorers agree with human scores: correlations, their uncertainty, comparisons, outliers, calibration."""
