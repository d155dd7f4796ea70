"""Heads that are solved in closed form on fixed features."""
