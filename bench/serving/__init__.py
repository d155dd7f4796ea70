"""Benches of history, pages, notifications and Kafka."""
