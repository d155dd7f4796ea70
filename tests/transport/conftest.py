"""Property tests are about properties, not about speed: no deadlines."""

from hypothesis import settings

settings.register_profile("vqmon", deadline=None)
settings.load_profile("vqmon")
