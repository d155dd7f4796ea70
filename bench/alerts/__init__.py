"""Benches of the alert rules: false alarms and delays."""
