"""The history of outcomes and alerts in SQLite or PostgreSQL."""
