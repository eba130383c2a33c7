"""MLflow logging, synchronised with the files on disk."""
