"""Headers of containers and coded pictures."""
