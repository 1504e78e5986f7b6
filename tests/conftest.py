"""Settings for all tests."""

from hypothesis import settings

# Examples are timed by the wall clock, which says nothing on a busy machine.
settings.register_profile("project", deadline=None)
settings.load_profile("project")
