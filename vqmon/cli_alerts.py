"""The commands about alerts: tune, deploy, notify."""
