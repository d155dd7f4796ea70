"""Metrics, logs, health and the watchdog."""
