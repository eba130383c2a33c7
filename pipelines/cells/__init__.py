"""What a finished cell is and where it lies: plan, identity, store, provenance, paths."""
