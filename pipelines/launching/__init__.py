"""Launchers: run the missing cells of a sweep as jobs. See `fan_out`."""
