"""What DVC runs, one module a stage."""
