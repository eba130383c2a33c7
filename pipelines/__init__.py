"""The workflow: Hydra composes the configuration, DVC runs the stages, and MLflow shows the results."""

import os

# Set before TensorFlow and MLflow are imported. The user's own values take precedence.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
