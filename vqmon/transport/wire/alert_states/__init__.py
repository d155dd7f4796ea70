"""The stored form of what alert rules remember."""
