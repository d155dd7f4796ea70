"""What the single commands run: check, score, replay, tune, bridge, serve-web."""
