"""The workflow: what is run, what is already done, and what is shown. The science is in `cfx`."""

import os

# TensorFlow reads it when it is imported: its start-up notes would bury ours. An explicit setting stands.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# A run talks to nobody but the tracking server that it is told of.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
