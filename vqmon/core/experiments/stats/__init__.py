"""The statistics of experiments: distributions, sequential intervals, power."""
