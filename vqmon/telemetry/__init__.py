"""The telemetry of the daemon: metrics, logs, health and the watchdog."""
