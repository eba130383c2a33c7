"""The fan-out of a sweep's missing cells: jobs, and one module an engine that needs more than its YAML."""
