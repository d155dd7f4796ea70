"""Video scorers that look at fragments of frames at native size: FAST-VQA, and DOVER which builds on it."""
