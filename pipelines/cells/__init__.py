"""Cells: their plan, identity, storage and provenance, and the paths of the artefacts."""
