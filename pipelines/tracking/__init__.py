"""MLflow, as a projection of what is on disk."""
