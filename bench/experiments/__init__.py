"""Error rates of experiments: textbook noise, and the shapes that real experiments have."""
