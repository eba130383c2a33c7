"""MLflow runs, derived from the files on disk."""
