"""Setting vqmon up: the first settings, the shipped files, and checking both."""
