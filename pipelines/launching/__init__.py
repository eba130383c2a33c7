"""Launching the missing cells of a sweep: jobs, and one module for each launcher that needs more than its YAML."""
