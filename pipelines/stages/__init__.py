"""The DVC stages, one module per stage."""
