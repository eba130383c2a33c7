"""Identity and storage of cells: plan, identity, store, provenance, paths."""
