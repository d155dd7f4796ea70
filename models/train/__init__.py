"""Training: one loop, its losses and what is trained."""
