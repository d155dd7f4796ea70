"""From contrasts to an answer: effects, health checks, verdicts."""
