"""What all tests share. TensorFlow reads its settings when it is imported, so they are set before any test is."""

import os

from hypothesis import settings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# pytest-xdist starts a process for each processor, and more threads would only wait for each other
if "PYTEST_XDIST_WORKER" in os.environ:
    for threads in ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(threads, "1")

# the same examples in every run, and no example that fails because the machine is busy
settings.register_profile("project", deadline=None, derandomize=True)
settings.load_profile("project")
