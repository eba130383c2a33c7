"""What all tests share. TensorFlow reads its log level when it is imported, so it is set before any test is."""

import os

from hypothesis import settings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# the same examples in every run, and no example that fails because the machine is busy
settings.register_profile("project", deadline=None, derandomize=True)
settings.load_profile("project")
