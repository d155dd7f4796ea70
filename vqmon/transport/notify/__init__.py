"""Notifications to Alertmanager and webhooks."""
