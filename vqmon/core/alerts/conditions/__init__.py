"""The kinds of alert condition, one class in one module each; `core.alerts.rules.CONDITIONS` lists them."""
