"""Counterfactual instances: the nearest input that a classifier puts into another class."""
