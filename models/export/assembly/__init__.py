"""Composite scorers: several networks that share features, exported as one bundle."""
