"""Regressions: CUSUM charts against a baseline, groups of series, inhibition."""
